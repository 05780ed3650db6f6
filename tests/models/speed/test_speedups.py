"""Speedups give the same numbers: each switch alone, forward and backward, with and without vmap over trials."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_trials import DATA, FP32, small, train, training
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from bench.config.enums import Attention, Compile, LastLayer, LinearWay
from bench.config.schema import FastConf
from bench.methods.selective import full, head
from bench.models.speed import speedups as fast_module
from bench.models.speed.last_block import compute_all_tokens, compute_first_token
from bench.models.speed.onednn_linear import FrozenLinear, lay_out
from bench.models.speed.speedups import Fast, cpu_vendor, pick_fast, quicken, undo_speedups
from bench.models.structure import blocks
from bench.train.batches import by_length, collate
from bench.train.evaluate import arguments
from bench.train.memory import room_for
from bench.train.packed.start import rehearse

CPU = torch.device("cpu")
WEIGHTS = 100_000  # numbers in the linear layers of a model


def conf(linear: str = "torch", last_layer: str = "read", compile: str = "none") -> FastConf:  # noqa: A002
    return FastConf(LinearWay(linear), LastLayer(last_layer), Compile(compile), Attention.own)


WAYS = [Fast("onednn", "all"), Fast("torch", "read"), Fast("onednn", "read")]
BATCH = collate(DATA.train, by_length(DATA.train, 8)[-1])  # padded


def adapted() -> nn.Module:
    """Train only the blocks' last layer norms: gradients pass the matrices, which are all frozen."""
    model = full(small()).requires_grad_(requires_grad=False)
    for block in model.bert.encoder.layer:
        block.output.LayerNorm.requires_grad_()
    return model.train()


def run(model: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    logits = model(**arguments(BATCH)).logits
    model.zero_grad()
    nn.functional.cross_entropy(logits, BATCH.labels).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return logits.detach(), gradients


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.linear}-{way.last_layer}")
def test_every_way_gives_the_same_logits_and_gradients(way: Fast) -> None:
    model = adapted()
    logits, gradients = run(copy.deepcopy(model))
    fast_logits, fast_gradients = run(quicken(model, way))
    torch.testing.assert_close(fast_logits, logits, rtol=0, atol=1e-6)
    assert fast_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(fast_gradients[name], gradient, rtol=0, atol=1e-6)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.linear}-{way.last_layer}")
def test_undoing_the_speedups_restores_the_model(way: Fast) -> None:
    model = adapted()
    before = [type(module) for module in model.modules()]
    names = list(model.state_dict())
    assert [type(module) for module in quicken(model, way).modules()] != before
    assert list(model.state_dict()) == names
    run(model)
    assert [type(module) for module in undo_speedups(model).modules()] == before
    assert not any(hasattr(module, "layouts") for module in model.modules())


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "camembert"])
def test_the_last_block_is_computed_at_one_position(kind: str) -> None:
    model, shapes = small(kind), []
    model.base_model.encoder.layer[-1].output.register_forward_hook(lambda _, __, out: shapes.append(out.shape[1]))
    length = BATCH.input_ids.shape[1]
    model.eval()
    before = model(**arguments(BATCH)).logits
    assert compute_first_token(model)
    first = model(**arguments(BATCH)).logits
    compute_all_tokens(model)
    model(**arguments(BATCH))
    assert shapes == [length, 1, length]
    assert torch.allclose(before, first, atol=1e-6)


def test_an_unknown_architecture_is_left_unchanged() -> None:
    model = small("llama")
    before = [type(module) for module in model.modules()]
    assert not compute_first_token(model)
    assert [type(module) for module in model.modules()] == before


def test_only_frozen_layers_are_laid_out() -> None:
    model = lay_out(head(small()))
    kinds = {name: type(module) for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert kinds.pop("classifier") is nn.Linear
    assert set(kinds.values()) == {FrozenLinear}


def test_the_product_of_a_frozen_layer_maps_over_trials() -> None:
    layer, x = nn.Linear(8, 6).requires_grad_(requires_grad=False), torch.randn(3, 2, 5, 8)

    def loss(x: Tensor) -> Tensor:
        return layer(x).sin().sum()

    expected = torch.stack([grad(loss)(example) for example in x.flatten(0, 1)]).view_as(x)
    lay_out(nn.Sequential(layer))
    assert isinstance(layer, FrozenLinear)
    torch.testing.assert_close(vmap(vmap(grad(loss)))(x), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(vmap(grad(loss), in_dims=2)(x.movedim(0, 2)), vmap(grad(loss))(x), rtol=0, atol=1e-6)


def test_the_product_of_a_frozen_layer_can_be_added_to_in_place() -> None:
    layer = nn.Linear(8, 6).requires_grad_(requires_grad=False)
    x, more = torch.randn(2, 5, 8, requires_grad=True), torch.randn(2, 5, 6, requires_grad=True)
    product = lay_out(nn.Sequential(layer))(x)
    product += more
    product.sin().sum().backward()
    torch.testing.assert_close(more.grad, product.cos().detach())


def test_a_frozen_layer_uses_a_substituted_weight() -> None:
    layer = nn.Linear(4, 4).requires_grad_(requires_grad=False)
    holder, x = nn.Sequential(layer), torch.randn(2, 4)
    lay_out(holder)(x)
    other = {"0.weight": torch.eye(4), "0.bias": torch.zeros(4)}
    torch.testing.assert_close(functional_call(holder, other, (x,)), x)


def test_a_frozen_layer_in_bf16_rounds_as_autocast_does() -> None:
    layer, x = nn.Linear(64, 32).requires_grad_(requires_grad=False), torch.randn(7, 64)
    with torch.autocast("cpu", torch.bfloat16):
        expected = layer(x)
        product = lay_out(nn.Sequential(layer))(x)
    assert product.dtype is torch.bfloat16
    torch.testing.assert_close(product, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize(("vendor", "chosen"), [("AuthenticAMD", "onednn"), ("GenuineIntel", "torch"), ("", "torch")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_auto_depends_on_the_cpu_and_an_explicit_choice_is_kept(
    vendor: str, chosen: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_module, "cpu_vendor", lambda: vendor)
    assert pick_fast(conf(linear="auto"), CPU, dtype, WEIGHTS) == Fast(chosen, "read")
    for word in ("torch", "onednn"):
        assert pick_fast(conf(linear=word, last_layer="all"), CPU, dtype, WEIGHTS) == Fast(word, "all")
        assert pick_fast(conf(linear=word), torch.device("cuda"), dtype, WEIGHTS).linear == "torch"


def test_the_vendor_is_read_from_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel: it says\n")
    monkeypatch.setattr(fast_module, "Path", lambda _: file)
    assert cpu_vendor.__wrapped__() == "GenuineIntel"
    file.unlink()
    monkeypatch.setattr(fast_module.platform, "processor", lambda: "AMD64 Family 25 Model 17, AuthenticAMD")
    assert cpu_vendor.__wrapped__() == "AuthenticAMD"


def test_free_memory_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout of weights and the size of packs depend on the machine's total memory, whatever else runs on it."""
    monkeypatch.setattr(fast_module, "cpu_vendor", lambda: "AuthenticAMD")

    def chosen(total: int, available: int) -> tuple[str, int]:
        memory = SimpleNamespace(total=total, available=available)
        monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
        linear = pick_fast(conf(linear="auto"), CPU, torch.float32, WEIGHTS).linear
        return linear, room_for(small(), BATCH, 1000, FP32)

    assert chosen(2**30, 2**30) == chosen(2**30, 0)
    assert chosen(2**30, 2**30)[0] == "onednn"
    assert chosen(2**20, 2**30)[0] == "torch"
    assert chosen(2**20, 2**30)[1] < chosen(2**30, 2**30)[1]


def test_a_model_with_speedups_can_still_be_rehearsed() -> None:
    rehearse(quicken(head(small()), Fast("onednn", "read")), training())


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # read by the tracer
def test_compiled_blocks_give_the_same_losses(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_module, "COMPILER", "aot_eager")  # traces forward and backward, without generating code
    _, uncompiled = train(full(small(kind)))
    way = pick_fast(conf(compile="default"), CPU, torch.float32, WEIGHTS)
    compiled = quicken(full(small(kind)), way)
    called = [block._compiled_call_impl for block in blocks(compiled)]
    assert all(called)
    _, curve = train(compiled, data=DATA.in_multiples(way.multiple))
    assert curve["loss"] == pytest.approx(uncompiled["loss"], abs=1e-6)
    assert all(block._compiled_call_impl is None for block in blocks(undo_speedups(compiled)))
