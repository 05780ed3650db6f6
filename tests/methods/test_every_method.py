"""Every method on every kind of model: its size, its training, its saved adapter and its merged model.

To add a method, add its yaml and the formula for its size, without the head, in SIZES.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import UNTRAINED, WORDS
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from peft import PeftModel
from small_trials import FP32
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    BertTokenizerFast,
    LlamaConfig,
    LlamaModel,
    RobertaConfig,
    RobertaModel,
)

from bench.cells.cell import Cell
from bench.cells.compatibility import Misfit
from bench.config.compose import CONF, cells
from bench.config.register import register
from bench.measure.memory import memory_split
from bench.measure.parameters import count
from bench.methods.checkpoints import _is_peft_format, load_adapter, merge_adapter, save_adapter, save_merged
from bench.models.speed.speedups import Fast, quicken
from bench.models.structure import is_head
from bench.models.targets import resolve
from bench.runner.build import build, load_backbone, method_of, recipe_of
from bench.runner.worker import try_out
from bench.train.batches import Batch
from bench.train.evaluate import arguments
from bench.train.guard import Guard
from bench.train.memory import room_for
from bench.train.optim import make_optimizer
from bench.train.step import Stepper

METHODS = sorted({path.stem for path in (CONF / "method").glob("*.yaml")} - UNTRAINED)
KINDS = ("bert", "llama")
REFUSED = {("bitfit", "llama"), ("llama_adapter", "bert"), ("loftq", "bert"), ("loftq", "llama")}
LABELS, STEPS = 2, 3
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
CPU = torch.device("cpu")

# What the small matrices of a tiny model need besides a rank of 4.
SETTINGS = {
    "adalora": ["rank=8"],  # above target_r
    "c3a": ["method.attach.config.block_size=32"],  # must divide 32, the width of the Llama's keys and values
    "diff_pruning": ["method.attach.budget=0.1", "method.lr_ratio.alpha=100"],  # 0.005 and 2000 suit many steps
    "lokr": ["rank=2"],  # so that the second factor is a product of two; another test takes a large rank
    "top_k": ["rank=1"],
}
# A rate of 1e-2 shows an effect within three steps. It is too high where whole matrices or large scales move.
RATES = {"diff_pruning": 1e-3, "full": 1e-3, "waveft": 1e-3}
FROM_WEIGHTS = ("olora", "pissa", "qlora", "shira")  # they read the base's weights, and the meta device has none
PRUNING = ("adalora", "diff_pruning")  # may return a tensor to zero, where it started
# Known warnings of PEFT; every other warning is an error.
WARNINGS = {
    "adalora": ["The following rank_pattern keys did not match", ".*have invalid shape"],
    "boft": ["Failed to load the CUDA extension", "Setting boft_n_butterfly_factor to 1"],
    "eva": ["lora with eva initialization used with low_cpu_mem_usage=False"],
    "layernorm": ["Unsupported layer type"],
    "qlora": ["Paged optimizers are not supported on CPU"],
    "olora": ["OLoRA changes the base weights"],
    "shira": ["Sparse invariant checks are implicitly disabled"],
}


@dataclass(frozen=True)
class Sizes:
    """Sizes that a formula may use. r: the rank. kv: the width of keys and values. norm: weights of one layer norm."""

    kind: str
    r: int
    width: int = 64
    inner: int = 128
    kv: int = 64
    layers: int = 3
    vocab: int = len(TOKENS)
    positions: int = 64
    norm: int = 128

    def sides(self, *roles: str) -> list[tuple[int, int]]:
        """Return (in, out) of the matrices of these weight types, over all layers."""
        w, inner, kv = self.width, self.inner, self.kv
        known = {"q": (w, w), "k": (w, kv), "v": (w, kv), "o": (w, w), "up": (w, inner), "down": (inner, w)}
        return [known[role] for role in roles for _ in range(self.layers)]

    @property
    def gate(self) -> list[str]:
        """The gate in a Llama's feed-forward layer, as large as its up projection."""
        return ["up"] if self.kind == "llama" else []

    def each(self, size: Callable[[int, int], int]) -> int:
        """Sum over the query and value matrices: size(in, out)."""
        return sum(size(i, o) for i, o in self.sides("q", "v"))

    @property
    def matrices(self) -> int:
        """Weights of one block's matrices."""
        return 2 * self.width * (self.width + self.kv) + (2 + len(self.gate)) * self.width * self.inner

    @property
    def biases(self) -> int:
        """Biases of one block's matrices."""
        return 0 if self.kind == "llama" else 5 * self.width + self.inner

    @property
    def block(self) -> int:
        return self.matrices + self.biases + 2 * self.norm

    @property
    def rest(self) -> int:
        """Everything but blocks and head: embeddings, their norm or the last one, and BERT's pooler."""
        if self.kind == "llama":
            return self.vocab * self.width + self.norm
        return (self.vocab + self.positions + 2) * self.width + self.norm + self.width * self.width + self.width

    @property
    def tensors(self) -> int:
        """The number of tensors in the backbone."""
        return 2 + 9 * self.layers if self.kind == "llama" else 7 + 16 * self.layers

    @property
    def backbone(self) -> int:
        return self.rest + self.layers * self.block

    @property
    def head(self) -> int:
        return LABELS * (self.width + (self.kind == "bert"))

    @property
    def bottleneck(self) -> int:
        return 2 * self.width * self.r + self.width + self.r


def sizes(kind: str, rank: int) -> Sizes:
    return Sizes(kind, rank) if kind == "bert" else Sizes(kind, rank, kv=32, norm=64)


def lokr_size(i: int, o: int, r: int) -> int:
    """The size of a Kronecker product of two near-square factors. The larger factor has rank r if that is smaller."""

    def halves(side: int) -> tuple[int, int]:
        small = max(part for part in range(1, math.isqrt(side) + 1) if side % part == 0)
        return small, side // small

    (small_in, large_in), (small_out, large_out) = halves(i), halves(o)
    low_rank = r < max(large_in, large_out) / 2
    return small_in * small_out + (r * (large_in + large_out) if low_rank else large_in * large_out)


def lstm_size(w: int) -> int:
    """The size of a bidirectional LSTM of two layers, four gates each with two biases, and two linear layers."""
    first, second = (2 * 4 * (w * inputs + w * w + 2 * w) for inputs in (w, 2 * w))
    return first + second + (2 * w * 2 * w + 2 * w) + (2 * w * w + w)


def lora_size(s: Sizes) -> int:
    return s.each(lambda i, o: s.r * (i + o))


def prefix_size(s: Sizes) -> int:
    return s.layers * 2 * s.kv * s.r


def prompt_size(s: Sizes) -> int:
    return s.r * s.width


# Trained parameters besides the head.
SIZES: dict[str, Callable[[Sizes], int]] = {
    "adalora": lambda s: s.each(lambda i, o: s.r * (i + o + 1)),
    "adapter": lambda s: s.layers * (2 * s.bottleneck + 2 * s.norm),
    "adapter_drop": lambda s: (s.layers - int(0.42 * s.layers)) * s.bottleneck,
    "adapter_parallel": lambda s: s.layers * s.bottleneck,
    "adapter_pfeiffer": lambda s: s.layers * s.bottleneck,
    "bitfit": lambda s: s.layers * (s.biases + 2 * s.width) + s.width + s.width,
    "boft": lambda s: s.each(lambda i, o: i * s.r + o),  # one butterfly factor: two need PEFT's CUDA kernel
    "c3a": lambda s: s.each(lambda i, o: i * o // 32),
    "delora": lambda s: s.each(lambda i, o: s.r * (i + o) + 1),
    "diff_pruning": lambda s: 2 * s.backbone + s.tensors,
    "dora": lambda s: s.each(lambda i, o: s.r * (i + o) + o),
    "eva": lora_size,
    "fourierft": lambda s: s.each(lambda i, o: 1000),
    "full": lambda s: s.backbone,
    "gralora": lora_size,
    "head": lambda s: 0,
    "hira": lora_size,
    "hra": lambda s: s.each(lambda i, o: s.r * i),
    "hybrid": lambda s: s.layers * s.bottleneck + s.block,
    "ia3": lambda s: s.layers * (2 * s.kv + s.inner),
    "layernorm": lambda s: (2 * s.layers + 1) * s.norm,
    "llama_adapter": lambda s: s.layers * (s.r * s.width + 1),
    "loha": lambda s: 2 * lora_size(s),
    "lokr": lambda s: s.each(lambda i, o: lokr_size(i, o, s.r)),
    "lora": lora_size,
    "lora_fa": lambda s: s.each(lambda i, o: s.r * o),
    "lora_plus": lora_size,
    "miss": lambda s: s.each(lambda i, o: s.r * o),
    "oft": lambda s: s.each(lambda i, o: i // s.r * (s.r * (s.r - 1) // 2)),
    "olora": lora_size,
    "p_tuning": lambda s: prompt_size(s) + lstm_size(s.width),
    "p_tuning_mlp": lambda s: prompt_size(s) + 3 * (s.width * s.width + s.width),
    "pissa": lora_size,
    "prefix": prefix_size,
    "prefix_projection": lambda s: s.r * s.kv + (s.kv + 1) * (s.kv + s.layers * 2 * s.kv),
    "prefix_text": prefix_size,
    "prompt": prompt_size,
    "prompt_labels": prompt_size,
    "prompt_random": prompt_size,
    "prompt_text": prompt_size,
    "qlora": lambda s: s.r * sum(i + o for i, o in s.sides("q", "k", "v", "o", "up", "down", *s.gate)),
    "randlora": lambda s: s.each(lambda i, o: -(-min(i, o) // s.r) * (s.r + min(i, o))),
    "road": lambda s: s.each(lambda i, o: o),
    "rslora": lora_size,
    "shira": lora_size,
    "top_k": lambda s: s.r * s.block,
    "vblora": lambda s: 90 * 32 + s.each(lambda i, o: s.r * (i // 32 + o // 32) * 90),
    "vera": lambda s: s.each(lambda i, o: s.r + o),
    "waveft": lambda s: s.each(lambda i, o: 1000),
}


def fitting() -> list[Any]:
    """Return all valid pairs of a method and a model."""
    return [
        pytest.param(
            name, kind, marks=[pytest.mark.filterwarnings(f"ignore:{warning}") for warning in WARNINGS.get(name, [])]
        )
        for name in METHODS
        for kind in KINDS
        if (name, kind) not in REFUSED
    ]


@cache
def composed(name: str, *overrides: str) -> DictConfig:
    """Return the configuration that the command line composes, on the default model."""
    register()
    small = ["rank=4", "protocol=smoke", "protocol.max_length=32", "precision=fp32", "device=cpu", "track=off"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [f"method={name}", *small, *SETTINGS.get(name, []), *overrides])


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Save random backbones without a head, each with a tokenizer; return their folders by kind."""
    size = Sizes("bert", 1)
    shared = {
        "vocab_size": size.vocab,
        "hidden_size": size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": 4,
        "intermediate_size": size.inner,
        "max_position_embeddings": size.positions,
        "pad_token_id": 0,
        "initializer_range": 0.1,
    }
    torch.manual_seed(0)
    models = {
        "bert": BertModel(BertConfig(**shared)),
        "llama": LlamaModel(LlamaConfig(**shared, num_key_value_heads=2, bos_token_id=2, eos_token_id=3)),
        "roberta": RobertaModel(RobertaConfig(**shared), add_pooling_layer=False),
        "bert without a pooler": BertModel(BertConfig(**shared), add_pooling_layer=False),
    }
    paths = {}
    for kind, model in models.items():
        paths[kind] = tmp_path_factory.mktemp(f"tiny-{kind.replace(' ', '-')}")
        model.save_pretrained(paths[kind])
        BertTokenizerFast(vocab={word: number for number, word in enumerate(TOKENS)}).save_pretrained(paths[kind])
    return paths


def cell_of(name: str, folder: Path, *overrides: str) -> Cell:
    return Cell.of(OmegaConf.merge(composed(name, *overrides), {"model": {"name": str(folder)}}))


def fresh(cell: Cell) -> nn.Module:
    """Load the model as published, with a new head."""
    return load_backbone(cell, seed=1, compute=FP32)


def batch_for(kind: str) -> Batch:
    """Make eight rows of five to twelve tokens, padded as this kind of model expects."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.arange(8) + 5
    columns = torch.arange(12).expand(8, 12)
    real = columns < lengths[:, None] if kind == "bert" else columns >= 12 - lengths[:, None]
    ids = torch.randint(5, len(TOKENS), (8, 12), generator=generator) * real
    return Batch(ids, real.long(), torch.arange(8) % 2, int(lengths.sum()))


@torch.no_grad()
def logits(model: nn.Module, batch: Batch) -> Tensor:
    return model.eval()(**arguments(batch)).logits


def train(model: nn.Module, cell: Cell, batch: Batch) -> list[float]:
    """Return the losses of some steps of the loop and after the last. If a body is trained, it learns alone."""
    recipe, conf = recipe_of(cell), cell.config["method"]
    model.eval()
    recipe.hooks.prepare(model, [arguments(batch)])
    rates = {
        "lr": RATES.get(conf["name"], 1e-2),
        "lr_ratio": conf["lr_ratio"],
        "head_lr": 0.0 if body_of(model) else None,
    }
    optimizer = make_optimizer(model, recipe.build, weight_decay=0.0, **rates)
    step = Stepper(model, optimizer, recipe.hooks, clip=1.0, compute=FP32)
    torch.manual_seed(0)
    recipe.hooks.begin(model, STEPS)
    model.train()
    losses = [step(batch).loss.item() for _ in range(STEPS)]
    return [*losses, nn.functional.cross_entropy(logits(model, batch), batch.labels).item()]


def body_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of what is trained besides the head."""
    named = model.named_parameters()
    return {name: part.detach().clone() for name, part in named if part.requires_grad and not is_head(name, model)}


def save_and_reload(model: nn.Module, cell: Cell, folder: Path) -> nn.Module:
    """Save an adapter; return a fresh model with the adapter loaded from disk."""
    save_adapter(model, folder, cell.config["method"]["attach"])
    if _is_peft_format(model):
        return PeftModel.from_pretrained(fresh(cell), folder)
    return load_adapter(fresh(cell), folder)


@pytest.mark.parametrize(("name", "kind"), fitting())
def test_a_method_has_its_size_learns_reloads_and_merges(
    name: str, kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    cell, batch = cell_of(name, folders[kind]), batch_for(kind)
    model = build(cell, seed=0, compute=FP32)
    expected = sizes(kind, cell.rank or 0)
    assert count(model).head == expected.head
    assert count(model).trainable == SIZES[name](expected) + expected.head

    guard, before = Guard(model), body_of(model)
    losses = train(model, cell, batch)
    guard.check(model)
    unmoved = {part: tensor for part, tensor in body_of(model).items() if torch.equal(tensor, before[part])}
    assert not [part for part, tensor in unmoved.items() if name not in PRUNING or tensor.any()]
    assert losses[-1] < losses[0], losses

    trained = logits(model, batch)
    assert not torch.allclose(logits(fresh(cell), batch), trained, atol=1e-2)
    loaded = save_and_reload(model, cell, tmp_path)
    doubled = name in ("pissa", "olora")
    torch.testing.assert_close(logits(loaded, batch), trained, rtol=0, atol=1e-5 if doubled else 1e-6)
    if doubled:
        assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 2 * cell.rank

    if cell.merges and not cell.base:
        unwrapped = merge_adapter(model, cell.config["method"]["attach"])
        assert not isinstance(unwrapped, PeftModel)
        assert unwrapped.state_dict().keys() == fresh(cell).state_dict().keys()
        torch.testing.assert_close(logits(unwrapped, batch), trained, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:OLoRA changes the base weights")
@pytest.mark.parametrize("scale", ["fixed", "sqrt"])
@pytest.mark.parametrize("name", ["pissa", "olora"])
def test_a_start_subtracted_from_the_base_reloads_at_every_scale(
    name: str, scale: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    cell, batch = cell_of(name, folders["bert"], f"scale={scale}"), batch_for("bert")
    model = build(cell, seed=0, compute=FP32)
    train(model, cell, batch)
    torch.testing.assert_close(
        logits(save_and_reload(model, cell, tmp_path), batch), logits(model, batch), rtol=0, atol=1e-4
    )


@pytest.mark.filterwarnings("ignore")  # of PEFT
@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "roberta") for name in METHODS if (name, "bert") not in REFUSED]
    + [(name, "bert without a pooler") for name in ("full", "ia3", "layernorm", "lora", "oft")],
)
def test_a_head_of_several_layers_is_merged_completely(
    name: str, kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    cell, batch = cell_of(name, folders[kind]), batch_for("bert")
    if not cell.merges or cell.base:
        pytest.skip("it cannot be merged")
    model = build(cell, seed=0, compute=FP32)
    recipe_of(cell).hooks.prepare(model, [arguments(batch)])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) / 20)
    expected = logits(model, batch)
    save_merged(model, tmp_path, cell.config["method"]["attach"], ["no", "yes"])
    loaded, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert not any(info.values())
    torch.testing.assert_close(logits(loaded, batch), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "kind"), sorted(REFUSED - {("loftq", kind) for kind in KINDS}))
def test_a_method_is_refused_where_it_does_not_fit(name: str, kind: str, folders: dict[str, Path]) -> None:
    command = [f"method={name}", f"model.name={folders[kind]}", "protocol.max_length=32", "rank=4", "track=off"]
    with pytest.raises(Misfit, match=rf"^method '{name}' does not fit tiny-{kind}\d+, which is a {kind}; it fits "):
        cells(command, multirun=False)


@pytest.mark.parametrize("kind", KINDS)
def test_loftq_is_refused_without_cuda(kind: str, folders: dict[str, Path]) -> None:
    with pytest.raises(Misfit, match=r"^method 'loftq' needs a CUDA device, and this one is a cpu"):
        try_out(cell_of("loftq", folders[kind]))


def test_a_large_rank_leaves_lokrs_second_factor_unfactored(folders: dict[str, Path]) -> None:
    cell = cell_of("lokr", folders["bert"], "rank=32")
    counts = count(build(cell, seed=0, compute=FP32))
    assert counts.trainable - counts.head == 6 * (8 * 8 + 8 * 8)


def test_every_method_has_a_formula_for_its_size() -> None:
    assert set(METHODS) == set(SIZES) | {"loftq"}, "add the formula of its size to SIZES"


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_yaml_is_complete(name: str) -> None:
    conf = OmegaConf.to_object(composed(name).method)
    assert conf.name == ("lora" if name == "rslora" else name)  # a preset: lora scale=sqrt
    assert conf.family.strip()
    assert conf.paper.strip()
    assert conf.lr_source.strip()
    assert conf.lr > 0
    assert all(ratio > 0 for ratio in conf.lr_ratio.values())


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_yaml_names_the_axes_that_change_it(name: str) -> None:
    conf, other = (OmegaConf.merge(composed(name), {"rank": rank}).method for rank in (8, 16))
    assert ("rank" in conf.uses) == (conf.attach != other.attach) == bool(conf.rank_is)
    assert ("target" in conf.uses) == bool(conf.target)
    fixed, root = (composed(name, f"scale={scale}").method for scale in ("fixed", "sqrt"))
    assert ("scale" in conf.uses) == (fixed.attach != root.attach)
    for kind in set(conf.models or KINDS) & set(KINDS):
        if conf.target:
            resolve(list(conf.target), kind)


@pytest.mark.parametrize(("name", "kind"), [pair for pair in fitting() if pair.values[0] not in FROM_WEIGHTS])
def test_a_base_on_another_device_trains_the_same_tensors(name: str, kind: str, folders: dict[str, Path]) -> None:
    """PEFT moves added parameters to the base's device, and a frozen parameter becomes trainable when it is moved."""
    cell = cell_of(name, folders[kind])
    real, without_data = (load_backbone(cell, seed=0, compute=FP32).to(device) for device in (CPU, "meta"))
    expected, trained = (
        {part for part, parameter in method_of(cell)(base).named_parameters() if parameter.requires_grad}
        for base in (real, without_data)
    )
    assert expected == trained


@pytest.mark.parametrize(("name", "kind"), fitting())
def test_the_memory_of_a_step_can_be_measured(name: str, kind: str, folders: dict[str, Path]) -> None:
    """This includes methods that compute with tensors without storage of their own."""
    cell, batch = cell_of(name, folders[kind]), batch_for(kind)
    model = build(cell, seed=0, compute=FP32)
    optimizer = make_optimizer(model, recipe_of(cell).build, lr=1e-3, weight_decay=0.0, lr_ratio={})
    split = memory_split(model, optimizer, batch, FP32)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert split["gradients"] == 4 * trained
    assert split["weights"] >= 4 * trained
    assert split["activations"] > 0
    assert room_for(model, batch, trained, FP32) >= 1


@pytest.mark.parametrize(("name", "kind"), fitting())
def test_speedups_do_not_change_the_losses(name: str, kind: str, folders: dict[str, Path]) -> None:
    cell, batch = cell_of(name, folders[kind]), batch_for(kind)
    losses = []
    last = "all" if name == "eva" else "read"  # in a run, EVA reads all positions before the speedups
    for way in (Fast("torch", "all"), Fast("onednn", last)):
        model = quicken(build(cell, seed=0, compute=FP32), way)
        losses.append(train(model, cell, batch))
    assert losses[0] == pytest.approx(losses[1], abs=1e-4 if name in PRUNING else 2e-5)
