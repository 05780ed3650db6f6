"""The methods against their papers' equations in plain torch, and the loop against transformers' Trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY, axes
from hydra.utils import instantiate
from omegaconf import OmegaConf
from small_trials import FP32
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, gelu, linear
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    LlamaConfig,
    Trainer,
    TrainingArguments,
)
from transformers.models.bert import modeling_bert
from transformers.models.llama import modeling_llama

from bench.hooks import Hooks
from bench.methods.adalora import RankSchedule
from bench.models.targets import resolve
from bench.train.batches import Batch
from bench.train.evaluate import arguments
from bench.train.optim import make_optimizer, make_schedule
from bench.train.step import Stepper

CONF = REPOSITORY / "conf" / "method"
RANK, LAYERS, WIDTH, HEADS, VOCAB = 4, 2, 32, 4, 40
WITHIN = {"rtol": 0, "atol": 1e-5}
Tensors = dict[str, Tensor]
Reference = Callable[[nn.Module, Tensors, dict[str, Tensor]], Tensor]


def base_model(kind: str) -> nn.Module:
    """Return a random model without dropout. The Llama's four heads share two heads of keys and values."""
    shared = {
        "vocab_size": VOCAB,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 64,
        "max_position_embeddings": 40,
        "pad_token_id": 0,
        "initializer_range": 0.1,
    }
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(**shared, **no_dropout) if kind == "bert" else LlamaConfig(**shared, num_key_value_heads=2)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # transformers starts them at zero
                parameter.normal_(std=0.1)
    return model


def attached(name: str, kind: str, *, moved: float = 0.1, rank: int = RANK, scale: str = "rank") -> nn.Module:
    """Attach the method as its yaml says; move everything that it trains away from its start."""
    conf = OmegaConf.to_container(
        OmegaConf.merge(axes(rank, scale), OmegaConf.load(CONF / f"{name}.yaml")), resolve=True
    )
    placed = {"target": resolve(conf["target"], kind)} if "target" in conf["uses"] else {}
    model = instantiate(conf["attach"])(base_model(kind), **placed)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=moved)
    return model


def batch_for(kind: str, number: int = 0) -> Batch:
    """Make four rows of six to nine tokens, padded as this kind of model expects."""
    generator = torch.Generator().manual_seed(number)
    lengths, columns = torch.arange(4)[:, None] + 6, torch.arange(9)
    real = columns < lengths if kind == "bert" else columns >= 9 - lengths
    ids = torch.randint(1, VOCAB, (4, 9), generator=generator) * real
    return Batch(ids, real.long(), torch.randint(2, (4,), generator=generator), int(lengths.sum()))


def short(name: str) -> str:
    """Return a parameter's name without the parts that PEFT adds to it."""
    for part in ("base_model.model.", "base_model.", ".modules_to_save", ".default"):
        name = name.replace(part, "")
    return name


def check_agreement(model: nn.Module, kind: str, reference: Reference) -> None:
    """Check the logits, and the gradients of everything trained, against the reference on the base model."""
    batch = batch_for(kind)
    trained = {short(name): parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    leaves = {name: parameter.detach().clone().requires_grad_() for name, parameter in trained.items()}
    logits = model(**arguments(batch)).logits
    gradients = torch.autograd.grad(cross_entropy(logits, batch.labels), list(trained.values()))
    expected = reference(base_model(kind), leaves, arguments(batch))
    expected_gradients = torch.autograd.grad(cross_entropy(expected, batch.labels), list(leaves.values()))
    torch.testing.assert_close(logits, expected, **WITHIN)
    head = {name: leaf for name, leaf in leaves.items() if name.split(".")[0] in ("classifier", "score")}
    assert not torch.allclose(
        logits, functional_call(base_model(kind), head, kwargs=arguments(batch)).logits, atol=1e-3
    )
    for name, gradient, expected_gradient in zip(trained, gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, **WITHIN, msg=lambda text, name=name: f"{name}: {text}")
        assert gradient.abs().max() > 1e-4 or name.endswith("key.bias"), name


def replaced(changed: Callable[[nn.Module, Tensors], Tensors]) -> Reference:
    """Return a reference: the base model with its own weights among the leaves, and with the weights of `changed`."""

    def logits(model: nn.Module, leaves: Tensors, inputs: Tensors) -> Tensor:
        own = {name for name, _ in model.named_parameters()}
        weights = {name: leaf for name, leaf in leaves.items() if name in own} | changed(model, leaves)
        return functional_call(model, weights, kwargs=inputs).logits

    return logits


def adapted(kind: str, *roles: str) -> list[str]:
    """Return the full names of matrices in every layer."""
    where = "bert.encoder.layer.{}.attention.self.{}" if kind == "bert" else "model.layers.{}.self_attn.{}_proj"
    return [where.format(layer, role) for layer in range(LAYERS) for role in roles]


@pytest.mark.parametrize(("policy", "scale"), [("rank", 1.0), ("fixed", 32 / RANK), ("sqrt", 32 / RANK**0.5)])
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_lora_adds_the_scaled_product_of_two_matrices(policy: str, scale: float, kind: str) -> None:
    def changed(model: nn.Module, leaves: Tensors) -> Tensors:
        return {
            f"{at}.weight": model.get_parameter(f"{at}.weight")
            + scale * leaves[f"{at}.lora_B.weight"] @ leaves[f"{at}.lora_A.weight"]
            for at in adapted(kind, *(("query", "value") if kind == "bert" else ("q", "v")))
        }

    check_agreement(attached("lora", kind, scale=policy), kind, replaced(changed))


def test_dora_learns_magnitudes_and_a_direction() -> None:
    def changed(model: nn.Module, leaves: Tensors) -> Tensors:
        weights = {}
        for at in adapted("bert", "query", "value"):
            moved = model.get_parameter(f"{at}.weight") + leaves[f"{at}.lora_B.weight"] @ leaves[f"{at}.lora_A.weight"]
            norm = moved.norm(dim=1).detach()  # section 4.3: a constant to the gradient
            weights[f"{at}.weight"] = (leaves[f"{at}.lora_magnitude_vector.weight"] / norm)[:, None] * moved
        return weights

    check_agreement(attached("dora", "bert"), "bert", replaced(changed))


def test_ia3_rescales_keys_values_and_the_inner_activation() -> None:
    def changed(model: nn.Module, leaves: Tensors) -> Tensors:
        weights = {}
        for at in adapted("bert", "key", "value"):
            scale = leaves[f"{at}.ia3_l"]
            weights[f"{at}.weight"] = scale.view(-1, 1) * model.get_parameter(f"{at}.weight")
            weights[f"{at}.bias"] = scale.view(-1) * model.get_parameter(f"{at}.bias")
        for at in [f"bert.encoder.layer.{layer}.output.dense" for layer in range(LAYERS)]:
            weights[f"{at}.weight"] = model.get_parameter(f"{at}.weight") * leaves[f"{at}.ia3_l"].view(1, -1)
        return weights

    check_agreement(attached("ia3", "bert"), "bert", replaced(changed))


def squeezed(x: Tensor, leaves: Tensors, at: str, activation: Callable[[Tensor], Tensor]) -> Tensor:
    inner = activation(linear(x, leaves[f"{at}.down.weight"], leaves[f"{at}.down.bias"]))
    return linear(inner, leaves[f"{at}.up.weight"], leaves[f"{at}.up.bias"])


def test_a_houlsby_adapter_follows_both_sublayers_before_the_residual_sum() -> None:
    def logits(model: nn.Module, leaves: Tensors, inputs: Tensors) -> Tensor:
        for layer in range(LAYERS):
            for place in (f"bert.encoder.layer.{layer}.attention.output", f"bert.encoder.layer.{layer}.output"):
                at = f"{place}.dropout.adapter"
                model.get_submodule(f"{place}.dense").register_forward_hook(
                    lambda module, given, x, at=at: x + squeezed(x, leaves, at, gelu)
                )
        return replaced(lambda model, leaves: {})(model, leaves, inputs)

    check_agreement(attached("adapter", "bert"), "bert", logits)


def test_a_parallel_adapter_reads_what_the_feed_forward_reads() -> None:
    def logits(model: nn.Module, leaves: Tensors, inputs: Tensors) -> Tensor:
        read: dict[int, Tensor] = {}
        for layer in range(LAYERS):
            block, at = model.bert.encoder.layer[layer], f"bert.encoder.layer.{layer}.output.adapter"
            block.intermediate.register_forward_pre_hook(
                lambda module, given, layer=layer: read.update({layer: given[0]})
            )
            block.output.dense.register_forward_hook(
                lambda module, given, x, layer=layer, at=at: x + 2.0 * squeezed(read[layer], leaves, at, torch.relu)
            )
        return replaced(lambda model, leaves: {})(model, leaves, inputs)

    check_agreement(attached("adapter_parallel", "bert"), "bert", logits)


def test_a_prompt_is_embeddings_before_the_text() -> None:
    def logits(model: nn.Module, leaves: Tensors, inputs: Tensors) -> Tensor:
        text = model.bert.embeddings.word_embeddings(inputs["input_ids"])
        prompt = leaves["prompt_encoder.embedding.weight"].expand(len(text), -1, -1)
        mask = torch.cat([torch.ones(len(text), RANK, dtype=torch.long), inputs["attention_mask"]], dim=1)
        longer = {"inputs_embeds": torch.cat([prompt, text], dim=1), "attention_mask": mask}
        return replaced(lambda model, leaves: {})(model, leaves, longer)

    check_agreement(attached("prompt", "bert"), "bert", logits)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_prefix_is_keys_and_values_before_those_of_the_text(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def logits(model: nn.Module, leaves: Tensors, inputs: Tensors) -> Tensor:
        shared = HEADS if kind == "bert" else 2
        prefix = leaves["prompt_encoder.embedding.weight"].view(RANK, LAYERS, 2, shared, WIDTH // HEADS)

        def attend(
            module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, *_: Any, **__: Any
        ) -> tuple[Tensor, None]:
            """query: [rows, heads, length, size]; key and value have fewer heads; the mask is added to the scores."""
            given = prefix[:, module.layer_idx].permute(1, 2, 0, 3)[:, None].expand(-1, len(query), -1, -1, -1)
            key, value = (torch.cat(pair, dim=2) for pair in zip(given, (key, value), strict=True))
            key, value = (part.repeat_interleave(HEADS // shared, dim=1) for part in (key, value))
            mask = nn.functional.pad(attention_mask, (RANK, 0))  # every token sees the prefix
            scores = query @ key.transpose(2, 3) / (WIDTH // HEADS) ** 0.5 + mask
            return (scores.softmax(-1) @ value).transpose(1, 2), None

        for module in (modeling_bert, modeling_llama):
            monkeypatch.setattr(module, "eager_attention_forward", attend)
        positions = torch.arange(inputs["input_ids"].shape[1])[None] + RANK  # the prefix takes the first positions
        return replaced(lambda model, leaves: {})(model, leaves, inputs | {"position_ids": positions})

    check_agreement(attached("prefix", kind, moved=0.5), kind, logits)


def test_bitfit_has_the_gradients_that_full_fine_tuning_has_on_biases() -> None:
    model, batch = attached("bitfit", "bert"), batch_for("bert")
    whole = base_model("bert")
    whole.load_state_dict(model.state_dict())
    for network in (model, whole):
        cross_entropy(network(**arguments(batch)).logits, batch.labels).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    expected = {name: parameter.grad for name, parameter in whole.named_parameters()}
    assert gradients.keys() == {name for name in expected if name.endswith(".bias")} | {"classifier.weight"}
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], **WITHIN)


def test_adaloras_penalty_is_what_peft_adds_to_the_loss() -> None:
    model, batch = attached("adalora", "bert", rank=8), batch_for("bert")
    matrices = [parameter for name, parameter in model.named_parameters() if "lora_A" in name or "lora_B" in name]
    outputs = model(**arguments(batch), labels=batch.labels)
    added = outputs.loss - cross_entropy(outputs.logits, batch.labels)
    penalty = RankSchedule(warmup=0.1, final=0.3, every=5).penalty(model)
    assert penalty > 0.1
    torch.testing.assert_close(penalty, added, **WITHIN)
    for gradient, expected in zip(
        torch.autograd.grad(penalty, matrices), torch.autograd.grad(added, matrices), strict=True
    ):
        torch.testing.assert_close(gradient, expected, **WITHIN)
        assert gradient.any()


STEPS, WARMUP, CLIP, DECAY = 50, 0.1, 1.0, 0.01
RATES = {"full": 1e-3, "lora": 1e-2, "adapter": 1e-2}


class Recorded(Trainer):
    """A Trainer that runs over given batches in their order and keeps every loss."""

    def __init__(self, batches: list[Batch], **settings: Any) -> None:
        super().__init__(**settings)
        self.batches, self.losses = batches, []

    def get_train_dataloader(self) -> DataLoader:
        return DataLoader([arguments(batch) | {"labels": batch.labels} for batch in self.batches], batch_size=None)

    def compute_loss(self, *given: Any, **settings: Any) -> Any:
        loss = super().compute_loss(*given, **settings)
        self.losses.append(loss.detach().item())
        return loss


@pytest.mark.parametrize("name", RATES)
def test_our_losses_equal_the_trainers_at_every_step(name: str, tmp_path: Path) -> None:
    batches = [batch_for("bert", number) for number in range(STEPS)]
    settings = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=STEPS,
        learning_rate=RATES[name],
        warmup_steps=round(WARMUP * STEPS),
        lr_scheduler_type="linear",
        weight_decay=DECAY,
        max_grad_norm=CLIP,
        optim="adamw_torch",
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = Recorded(batches, model=attached(name, "bert", moved=0.01), args=settings)
    trainer.train()

    model = attached(name, "bert", moved=0.01).train()
    optimizer = make_optimizer(model, torch.optim.AdamW, lr=RATES[name], weight_decay=DECAY, lr_ratio={})
    schedule = make_schedule(optimizer, STEPS, WARMUP)
    step = Stepper(model, optimizer, Hooks(), clip=CLIP, compute=FP32)
    losses, norms = [], []
    for batch in batches:
        measured = step(batch)
        schedule.step()
        losses.append(measured.loss.item())
        norms.append(measured.norm.item())
    assert min(norms) < CLIP < max(norms)  # clipped in some steps, and not in others
    assert losses == pytest.approx(trainer.losses, rel=0, abs=1e-5)
    for (part, weight), expected in zip(model.named_parameters(), trainer.model.parameters(), strict=True):
        if part.endswith("key.bias"):
            continue  # softmax cancels it: its gradient is rounding noise, which Adam scales up
        torch.testing.assert_close(weight, expected, **WITHIN, msg=lambda text, part=part: f"{part}: {text}")
