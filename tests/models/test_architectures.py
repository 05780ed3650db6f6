"""Each architecture's entry is complete, and what an entry lacks is named before anything is trained."""

from dataclasses import replace
from typing import Any

import pytest
from omegaconf import OmegaConf
from small_trials import source

from bench.cells.compatibility import Misfit, check_fit
from bench.config.compose import cells
from bench.config.schema import Config
from bench.models import architectures
from bench.models.architectures import ARCHITECTURES, LLAMA, Architecture
from bench.models.description import check_described, described_wrongly

DISTILBERT = Architecture(
    blocks="transformer.layer",
    weights={
        "q": "attention.q_lin",
        "k": "attention.k_lin",
        "v": "attention.v_lin",
        "o": "attention.out_lin",
        "up": "ffn.lin1",
        "down": "ffn.lin2",
    },
    norms=("sa_layer_norm", "output_layer_norm"),
    adapters={"attention": "attention.out_lin", "feed_forward": "ffn.dropout"},
    feed_forward="ffn",
    head=("pre_classifier", "classifier"),
    masked_head=None,
    decoder=False,
    dropout=("dropout", "attention_dropout", "qa_dropout", "seq_classif_dropout"),
    width="dim",
    inner="hidden_dim",
    layers="n_layers",
    biases=True,
)
QWEN2 = replace(LLAMA, biases=True)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_entry_is_complete(kind: str) -> None:
    assert described_wrongly(source(kind)) == []


def test_another_architecture_takes_a_single_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(architectures.ARCHITECTURES, "qwen2", QWEN2)
    monkeypatch.setitem(architectures.ARCHITECTURES, "distilbert", DISTILBERT)
    assert described_wrongly(source("qwen2")) == []
    distilbert = source("distilbert")
    assert described_wrongly(distilbert) == []
    assert (distilbert.hidden_size, distilbert.num_layers) == (32, 2)


def test_a_method_that_trains_biases_fits_every_architecture_with_biases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(architectures.ARCHITECTURES, "qwen2", QWEN2)
    monkeypatch.setitem(architectures.ARCHITECTURES, "distilbert", DISTILBERT)
    (config,) = (cell.config for cell in cells(["method=bitfit", "protocol.max_length=32"], multirun=False))
    conf = OmegaConf.to_object(OmegaConf.merge(Config, config))
    for kind in ("qwen2", "distilbert"):
        check_fit(conf, source(kind), [])
    with pytest.raises(Misfit, match=r"it fits bert, .*qwen2"):
        check_fit(conf, source("llama"), [])


def test_a_mask_is_refused_without_a_head_over_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(architectures.ARCHITECTURES, "distilbert", DISTILBERT)
    words = ["method=lora", "task.form=mask", "task.words=[bad,good]", "task.cloze='{text} {mask}'"]
    words.append("protocol.max_length=32")
    (config,) = (cell.config for cell in cells(words, multirun=False))
    conf = OmegaConf.to_object(OmegaConf.merge(Config, config))
    with pytest.raises(Misfit, match=r"task\.form=mask needs a head.*'distilbert'.*masked_head=None"):
        check_fit(conf, source("distilbert"), ["q"])


@pytest.mark.parametrize(
    ("kind", "wrong", "named"),
    [
        ("qwen2", {"decoder": False}, "decoder=False, but a token attends to earlier tokens only"),
        ("distilbert", {"decoder": True}, "decoder=True, but a token attends to all tokens"),
        ("qwen2", {"weights": {**LLAMA.weights, "gate": "mlp.gate"}}, r"weights\['gate'\] is 'mlp.gate', which is not"),
        ("qwen2", {"weights": {"q": "self_attn.q_proj"}}, "weights lacks mlp.down_proj, mlp.gate_proj, .*self_attn.v"),
        ("qwen2", {"weights": {**LLAMA.weights, "x": "mlp.up_proj"}}, r"weights\['x'\] is not a weight type"),
        (
            "qwen2",
            {"blocks": "encoder.layer"},
            r"blocks='encoder.layer' is not a list of blocks \(lists in the model: layers\)",
        ),
        ("distilbert", {"norms": ("sa_layer_norm",)}, "norms lacks output_layer_norm"),
        ("distilbert", {"norms": (*DISTILBERT.norms, "norm")}, "norms has norm, which is not a norm of a block"),
        ("distilbert", {"head": ("classifier",)}, "head is classifier, but above .* are classifier, pre_classifier"),
        ("distilbert", {"width": "hidden_dim"}, "width='hidden_dim' is not the configuration's hidden_size"),
        ("distilbert", {"dropout": ("dropout",)}, "dropout lacks attention_dropout, qa_dropout, seq_classif_dropout"),
        (
            "distilbert",
            {"adapters": {"attention": "ffn"}},
            r"adapters\['feed_forward'\] is None, which is not a module",
        ),
        ("llama", {"biases": True}, "biases=True, but no linear layer of a block has one"),
        ("distilbert", {"biases": False}, "biases=False, but attention.q_lin, .*ffn.lin2 have one"),
        ("qwen2", {"biases": False}, "biases=False, but self_attn.q_proj, self_attn.k_proj, self_attn.v_proj have one"),
        ("distilbert", {"inner": "dim"}, r"weights\['up'\] is 'ffn.lin1' with out_features=\d+, but inner is dim=32"),
        (
            "distilbert",
            {"weights": {**DISTILBERT.weights, "q": "ffn.lin2", "down": "attention.q_lin"}},
            r"weights\['q'\] is 'ffn.lin2' with in_features=\d+, but width is dim=32",
        ),
        (
            "qwen2",
            {"weights": {**LLAMA.weights, "q": "self_attn.k_proj", "k": "self_attn.q_proj"}},
            r"weights\['q'\] is 'self_attn.k_proj', which looks like 'k'",
        ),
        (
            "qwen2",
            {"weights": {**LLAMA.weights, "q": "self_attn.o_proj", "o": "self_attn.q_proj"}},
            r"weights\['q'\] is 'self_attn.o_proj', which looks like 'o'",
        ),
        (
            "distilbert",
            {"weights": {**DISTILBERT.weights, "v": "attention.out_lin", "o": "attention.v_lin"}},
            r"weights\['v'\] is 'attention.out_lin', which looks like 'o'",
        ),
        (
            "bert",
            {"weights": {**ARCHITECTURES["bert"].weights, "q": "attention.self.key", "k": "attention.self.query"}},
            r"weights\['q'\] is 'attention.self.key', which looks like 'k'",
        ),
        (
            "qwen2",
            {"weights": {**LLAMA.weights, "gate": "mlp.up_proj", "up": "mlp.gate_proj"}},
            r"weights\['gate'\] is 'mlp.up_proj', which looks like 'up'",
        ),
        ("qwen2", {"masked_head": "lm_head"}, "masked_head='lm_head', but a decoder has none"),
        (
            "qwen2",
            {"adapters": {"attention": "mlp.down_proj", "feed_forward": "self_attn.o_proj"}},
            "adapters has the places of attention and feed_forward the wrong way round",
        ),
        ("qwen2", {"feed_forward": "self_attn"}, r"feed_forward='self_attn' does not contain weights\['down'\]"),
        ("bert", {"masked_head": "lm_head"}, "masked_head='lm_head' is not a module of its masked language model"),
        ("distilbert", {"reads_first": True}, "reads_first=True, but the blocks have no attention.self of BERT's kind"),
        ("distilbert", {"feed_forward": "mlp"}, "feed_forward='mlp' is not a module of a block"),
    ],
)
def test_an_entry_that_is_wrong_or_incomplete_is_refused_with_the_reason(
    kind: str, wrong: dict[str, Any], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {**ARCHITECTURES, "qwen2": QWEN2, "distilbert": DISTILBERT}[kind]
    monkeypatch.setitem(architectures.ARCHITECTURES, kind, replace(entry, **wrong))
    with pytest.raises(ValueError, match=f"the entry '{kind}' of bench/models/architectures.py .*: .*{named}"):
        check_described(source(kind))


def test_a_decoder_without_a_padding_and_an_end_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(architectures.ARCHITECTURES, "qwen2", QWEN2)
    qwen2 = source("qwen2")
    endless = replace(qwen2, config={**qwen2.config, "eos_token_id": None, "pad_token_id": None})
    with pytest.raises(ValueError, match=r"neither pad_token_id nor eos_token_id.*set pad_token_id"):
        check_described(endless)


def test_a_configuration_without_a_size_is_refused_with_the_missing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(architectures.ARCHITECTURES, "distilbert", replace(DISTILBERT, width="d_model"))
    with pytest.raises(ValueError, match=r"has no 'd_model'.* type 'distilbert'"):
        assert source("distilbert").hidden_size
