"""Which combinations of method, model, rank and quantised base are valid, decided from the configuration alone."""

from bench.config.enums import Attention, Form, Precision, RankLimit, Save
from bench.config.schema import Config
from bench.models.architectures import ARCHITECTURES
from bench.models.source import Source
from bench.models.targets import resolve

FULL = "full"  # in `method.merges_into`: a base in full precision


class Misfit(ValueError):  # noqa: N818 - not always an error: a grid skips it
    """An invalid combination. It is skipped in a grid, with its message, and rejected when requested alone."""


def check_fit(conf: Config, source: Source, parts: list[str]) -> None:
    """Refuse a configuration that does not fit its model or contradicts itself.

    Args:
        conf: The resolved configuration.
        source: The model.
        parts: The weight types to adapt.

    Raises:
        Misfit: The combination is invalid. The message says what does not fit and what would work.
        ValueError: A value is wrong in itself.
    """
    protocol = conf.protocol
    if protocol.max_length > source.positions:
        raise ValueError(
            f"protocol.max_length={protocol.max_length} is more than the {source.positions} positions of "
            f"{source.label}; choose at most {source.positions}"
        )
    if "target" in conf.method.uses:
        resolve(parts, source.model_type)
    _check_model(conf, source)
    _check_form(conf, source)
    if "rank" in conf.method.uses:
        _check_rank(conf, source)
    _check_base(conf)
    if conf.fast.attention is Attention.flash_attention_2 and conf.precision is Precision.fp32:
        raise Misfit(
            "fast.attention=flash_attention_2 cannot compute in precision=fp32; use precision=bf16, or "
            "fast.attention=sdpa"
        )


def effective_rank(conf: Config, source: Source) -> int | None:
    """Return the rank that takes effect.

    Returns:
        None if the method has no rank. If the rank counts layers, at most the number of layers of the model.
    """
    if "rank" not in conf.method.uses:
        return None
    return min(conf.rank, source.num_layers) if conf.method.rank_limit is RankLimit.layers else conf.rank


def allowed_ranks(conf: Config, source: Source) -> range:
    """Return the ranks that fit the method and the model, in rising order. The range may be empty.

    If nothing else bounds the rank, the range ends at `match_params`, because each further rank trains at least one
    more parameter.
    """
    step = max(1, conf.method.rank_step)
    highest = {
        RankLimit.width: source.hidden_size,
        RankLimit.positions: _positions_left(conf, source),
        RankLimit.layers: source.num_layers,
        RankLimit.none: conf.match_params or 0,
    }[conf.method.rank_limit]
    return range(step * (_pruned_to(conf) // step + 1), highest + 1, step)


def _positions_left(conf: Config, source: Source) -> int:
    """Return how many positions of the model the longest row leaves free."""
    return source.positions - longest(conf.protocol.max_length, conf.task.shots, source)


def _pruned_to(conf: Config) -> int:
    """Return the rank after pruning, which the initial rank must exceed, or 0 if the method does not prune."""
    return int((conf.method.attach.get("config") or {}).get("target_r", 0))


def _check_model(conf: Config, source: Source) -> None:
    supported = conf.method.models or list(ARCHITECTURES)
    if conf.method.needs_biases:
        supported = [name for name in supported if ARCHITECTURES[name].biases]
    if source.model_type not in supported:
        raise Misfit(
            f"method {conf.method.name!r} does not fit {source.label}, which is a {source.model_type}; "
            f"it fits {', '.join(supported)}"
        )


def _check_form(conf: Config, source: Source) -> None:
    form = conf.task.form
    if form.causal and not source.is_decoder:
        raise Misfit(
            f"task.form={form.value} needs a language model, and {source.label} is a {source.model_type}; "
            "use task.form=multiple_choice or classify, or a Llama"
        )
    if form is Form.mask and source.is_decoder:
        raise Misfit(
            f"task.form=mask needs a masked language model, and {source.label} is a {source.model_type}; "
            "use task.form=head, or a BERT"
        )
    if form is Form.mask and source.architecture.masked_head is None:
        raise Misfit(
            f"task.form=mask needs a head over the vocabulary, and the entry {source.model_type!r} of "
            "bench/models/architectures.py has masked_head=None; use task.form=head, or name the head there"
        )
    if conf.retain is not None and not form.causal:
        raise Misfit(
            f"retain={conf.retain}: with task.form={form.value} {source.label} predicts no text; use retain=null, or a "
            "Llama with task.form=letters, options or generate"
        )
    if form.speaks and conf.method.name == "head":
        raise Misfit(f"method 'head' trains the task's head, but task.form={form.value} has none; use another method")
    if form is not Form.head and conf.method.template is not None:
        raise Misfit(
            f"method {conf.method.name!r} has its own template around a text, but task "
            f"{conf.task.name!r} has a prompt; use method.template=null"
        )
    if not conf.method.trains:
        _check_untrained(conf)


def _check_untrained(conf: Config) -> None:
    form, name = conf.task.form, conf.method.name
    if not form.speaks:
        raise Misfit(
            f"method {name!r} trains nothing, but the head of task.form={form.value} is untrained; use "
            "task=sst2_prompt, or multiple-choice questions with a Llama"
        )
    if conf.method.reasons and not form.causal:
        raise Misfit(f"method {name!r} generates its reasoning, but task.form={form.value} cannot; use a Llama")
    if conf.save is not Save.none:
        raise Misfit(f"save={conf.save.value}: method {name!r} trains nothing that could be saved; use save=none")


def _check_rank(conf: Config, source: Source) -> None:
    method, rank, free_positions = conf.method, conf.rank, _positions_left(conf, source)
    if method.rank_limit is RankLimit.width and rank > source.hidden_size:
        raise Misfit(
            f"rank={rank} is larger than the matrices of {source.label}, which are {source.hidden_size} wide; "
            f"choose a rank from 1 to {source.hidden_size}"
        )
    repeated = f" (1 + task.shots={conf.task.shots} times)" if conf.task.shots else ""
    if method.rank_limit is RankLimit.positions and rank > free_positions:
        raise Misfit(
            f"rank={rank} virtual tokens and protocol.max_length={conf.protocol.max_length}{repeated} are more than "
            f"the {source.positions} positions of {source.label}; choose a rank of at most {free_positions}, or a "
            "smaller max_length"
        )
    if rank % method.rank_step:
        raise Misfit(f"method {method.name!r} needs a rank that is a multiple of {method.rank_step}; got rank={rank}")
    pruned = _pruned_to(conf)
    if rank <= pruned:
        raise Misfit(
            f"method {method.name!r} prunes from rank to target_r={pruned}, so rank={rank} is too small; choose at "
            f"least rank={pruned + 1}, or a lower method.attach.config.target_r"
        )


def longest(max_length: int, shots: int, source: Source) -> int:
    """Return the maximum number of tokens in a row.

    Args:
        max_length: Maximum number of tokens of the row itself, and of each solved example.
        shots: Number of solved examples shown with the row.
        source: The model, whose positions bound the result.
    """
    return min(max_length * (1 + shots), source.positions)


def _check_base(conf: Config) -> None:
    method, quant = conf.method, conf.quant.name
    if conf.checkpointing and not method.checkpoints:
        raise Misfit(
            f"method {method.name!r} cannot be checkpointed: its blocks may not be run twice; use checkpointing=false"
        )
    supported = ["none", *method.quant, *(["bf16"] if method.quant else [])]
    if quant not in supported:
        allowed = f"it works on quant={', '.join(supported)}"
        raise Misfit(f"method {method.name!r} does not work on a base quantised to {quant}; {allowed}")
    if quant == "bf16" and conf.precision is Precision.fp32:
        raise Misfit("quant=bf16 stores the base in bf16, but precision=fp32 cannot compute on it; use precision=bf16")
    if conf.quant.double and quant not in {"nf4", "fp4"}:
        raise Misfit(f"quant.double=true needs 4-bit blocks; it works with quant=nf4, fp4, not with quant={quant}")
    if conf.save is Save.merged and FULL not in method.merges_into:
        raise Misfit(f"save=merged: method {method.name!r} cannot be merged into the model; use save=adapter")
    if conf.save is Save.merged and quant != "none":
        raise Misfit(f"save=merged: a base quantised to {quant} cannot be saved merged; use save=adapter or quant=none")
