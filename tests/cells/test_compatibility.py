"""Invalid combinations are detected from the configuration alone, and the suggested changes do work."""

from functools import cache

import pytest
from omegaconf import OmegaConf

from bench.cells.cell import Cell
from bench.cells.compatibility import Misfit
from bench.config.compose import cells
from bench.config.schema import Config

# By case: the invalid overrides, words that the message must contain, and the changes that the message suggests. The
# model is a BERT of two layers, width 32 and 64 positions; texts have at most 32 tokens.
MISFITS = {
    "another architecture": (
        ["method.models=[roberta,llama]"],
        ["method 'lora' does not fit", "is a bert", "it fits roberta, llama"],
        [["method.models=[roberta,bert]"], ["method.models=[]"]],
    ),
    "a rank above the width": (
        ["rank=33"],
        ["rank=33", "32 wide", "from 1 to 32"],
        [["rank=32"], ["rank=1"]],
    ),
    "more virtual tokens than positions": (
        ["method.rank_limit=positions", "rank=33"],
        ["rank=33 virtual tokens", "protocol.max_length=32", "64 positions", "at most 32", "smaller max_length"],
        [["rank=32"], ["protocol.max_length=31"]],
    ),
    "a rank between steps": (
        ["method.rank_step=8", "rank=12"],
        ["method 'lora'", "multiple of 8", "rank=12"],
        [["rank=8"], ["rank=16"]],
    ),
    "a rank below the one it is pruned to": (
        ["method.attach.config.target_r=8", "rank=8"],
        ["target_r=8", "rank=8 is too small", "at least rank=9", "lower method.attach.config.target_r"],
        [["rank=9"], ["method.attach.config.target_r=7"]],
    ),
    "a base that the method cannot stand on": (
        ["quant.name=nf4", "method.quant=[int8,fp4]"],
        ["method 'lora'", "quantised to nf4", "quant=none, int8, fp4"],
        [["quant.name=none"], ["quant.name=int8"], ["quant.name=fp4"]],
    ),
    "a base that no quantisation suits": (
        ["quant.name=nf4", "method.quant=[]"],
        ["quantised to nf4", "it works on quant=none"],
        [["quant.name=none"]],
    ),
    "double quantisation of eight bits": (
        ["quant.name=int8", "quant.double=true"],
        ["quant.double=true", "quant=nf4, fp4", "not with quant=int8"],
        [["quant.name=nf4"], ["quant.name=fp4"], ["quant.double=false"]],
    ),
    "double quantisation of nothing": (
        ["quant.double=true"],
        ["quant.double=true", "quant=nf4, fp4", "not with quant=none"],
        [["quant.name=nf4"], ["quant.name=fp4"], ["quant.double=false"]],
    ),
    "flash attention in fp32": (
        ["fast.attention=flash_attention_2"],  # all tests set precision=fp32
        ["fast.attention=flash_attention_2 cannot compute in precision=fp32", "precision=bf16", "fast.attention=sdpa"],
        [["precision=bf16"], ["precision=auto"], ["fast.attention=sdpa"]],
    ),
    "merging what cannot be merged": (
        ["save=merged", "method.merges_into=[]"],
        ["save=merged", "method 'lora' cannot be merged", "save=adapter"],
        [["save=adapter"], ["method.merges_into=[full]"]],
    ),
    "writing a merged quantised base": (
        ["save=merged", "quant.name=nf4"],
        ["save=merged", "quantised to nf4", "save=adapter or quant=none"],
        [["save=adapter"], ["quant.name=none"]],
    ),
}


@cache
def composed(*overrides: str) -> Cell:
    (composed_cell,) = cells(list(overrides), multirun=False)
    return composed_cell


def cell(tiny: list[str], *leaves: str) -> Cell:
    """Return the cell of a LoRA with these values."""
    unchanged = composed(*(override for override in tiny if not override.startswith(("results_dir", "cache_dir"))))
    return Cell.of(OmegaConf.merge(Config, unchanged.config, OmegaConf.from_dotlist(list(leaves))))


@pytest.mark.parametrize("name", MISFITS)
def test_a_misfit_is_a_one_line_message_with_its_remedies(name: str, tiny: list[str]) -> None:
    wrong, words, _ = MISFITS[name]
    with pytest.raises(Misfit) as caught:
        cell(tiny, *wrong)
    assert [word for word in words if word in str(caught.value)] == words
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MISFITS)
def test_the_remedies_of_a_misfit_work(name: str, tiny: list[str]) -> None:
    wrong, _, remedies = MISFITS[name]
    for remedy in remedies:
        assert cell(tiny, *wrong, *remedy).id


def test_bounds_of_the_rank_do_not_apply_to_a_method_without_a_rank(tiny: list[str]) -> None:
    bounds = ["method.rank_step=8", "method.attach.config.target_r=8", "rank=33"]
    assert cell(tiny, *bounds, "method.uses=[target]").rank is None


@pytest.mark.parametrize("limit", ["positions", "layers"])
def test_the_width_limits_only_methods_whose_rank_it_bounds(limit: str, tiny: list[str]) -> None:
    short = ["protocol.max_length=16", "rank=40"]
    assert cell(tiny, *short, f"method.rank_limit={limit}").rank == {"positions": 40, "layers": 2}[limit]
    with pytest.raises(Misfit):
        cell(tiny, *short, "method.rank_limit=width")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("protocol.max_length=65", "protocol.max_length=65 is more than the 64 positions .* choose at most 64$"),
        ("target.parts=[q,z]", "target part 'z' is unknown for bert; choose from q, k, v, o, up, down"),
        ("rank=0", "rank=0 must be at least 1"),
    ],
)
def test_a_value_that_is_always_invalid_is_not_a_misfit(wrong: str, words: str, tiny: list[str]) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        cell(tiny, wrong)
    assert not isinstance(caught.value, Misfit)
