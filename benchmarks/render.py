"""What was measured, as a table: medians, the spread over rounds, and how each ratio stands to its aim."""

from statistics import median
from typing import Any

MIB = 2**20
# At least so many times as fast as these: by contest, other contestant and arithmetic.
AIMS = {
    ("one trial", "Trainer, default collator"): {"fp32": 4.0, "bf16": 5.5},
    ("one trial", "Trainer, grouped by length"): {"fp32": 1.5, "bf16": 2.0},
    ("one trial", "method_comparison-like loop"): {"fp32": 2.0, "bf16": 2.5},
    ("one trial", "Trainer, padded to 128"): {"fp32": 12.0, "bf16": 16.0},
    ("9 trials, batch 4", "ours, one by one"): {"fp32": 1.4, "bf16": 1.4},
    ("9 trials, batch 32", "ours, one by one"): {"fp32": 0.95, "bf16": 0.95},
    ("9 trials, whole", "9 Trainer processes"): {"fp32": 5.0, "bf16": 7.0},
    ("12 cells, whole", "12 Trainer scripts"): {"fp32": 6.0, "bf16": 8.0},
}
MFU_AIM = 0.35
HEAD = ["contest", "arithmetic", "against", "ours", "theirs", "ratio (spread)", "aim", "peak MiB, ours", "theirs"]


def table(result: dict[str, Any]) -> str:
    """The whole table, with its caption."""
    device = result["device"]
    lines = [row for contest in result["contests"] if "to start" not in contest["contest"] for row in _rows(contest)]
    text = [
        f"Measured on {device['device_name']} ({device['device']}, {device['threads']} threads), LoRA r=8 on q, v.",
        "Samples per second, or seconds where it says s. Each measurement is a process of its own; they run in turns.",
        "",
        *_markdown(HEAD, lines),
        "",
        *[line for contest in result["contests"] for line in _share(contest)],
        *[line for contest in result["contests"] if "to start" in contest["contest"] for line in _starts(contest)],
    ]
    return "\n".join(text).rstrip() + "\n"


def _rows(contest: dict[str, Any]) -> list[list[str]]:
    (_, ours), *others = contest["rounds"].items()
    precision = contest["setting"]["precision"]
    rows = []
    for name, theirs in others:
        if name == "best matrix product":
            continue
        pairs = [(one, other) for one, other in zip(ours, theirs, strict=True) if _there(one) and _there(other)]
        start = [contest["contest"], precision, name]
        if not pairs:
            failed = next((found["error"] for found in [*ours, *theirs] if found and "error" in found), "not installed")
            rows.append([*start, "-", "-", failed.split("\n")[0][:80], "-", "-", "-"])
            continue
        ratios = [_ratio(*pair) for pair in pairs]
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
        aim = AIMS.get((contest["contest"], name), {}).get(precision)
        mark = "-" if aim is None else f"{aim:g}{'' if median(ratios) >= aim else ' (missed)'}"
        shown = [_speed(column) for column in zip(*pairs, strict=True)]
        peaks = [_peak(column) for column in zip(*pairs, strict=True)]
        rows.append([*start, *shown, f"{median(ratios):.2f}{spread}", mark, *peaks])
    return rows


def _share(contest: dict[str, Any]) -> list[str]:
    """Model FLOPs of our trial against the best product of the same round."""
    products, lines = contest["rounds"].get("best matrix product"), []
    for name, found in contest["rounds"].items():
        if not (products and name.startswith("ours") and all(map(_there, [*found, *products]))):
            continue
        shares = [one["flops"] / best["flops"] for one, best in zip(found, products, strict=True)]
        best = median(one["flops"] for one in products) / 1e9
        share = (
            f"{contest['contest']}, {contest['setting']['precision']}, {name}: {100 * median(shares):.0f}% model-FLOPs "
            f"utilisation (4 N per real token, N without embeddings; best matrix product {best:,.0f} GFLOP/s; "
            f"aim {100 * MFU_AIM:.0f}% in fp32), {median(one['tokens_per_second'] for one in found):,.0f} tokens/s."
        )
        lines += [share, ""]
    return lines


def _starts(contest: dict[str, Any]) -> list[str]:
    seconds = {name: median(one["seconds"] for one in found) for name, found in contest["rounds"].items()}
    each = (seconds["12 recorded cells"] - seconds["1 recorded cell"]) / 11
    rows = [[name, f"{value:.2f} s"] for name, value in seconds.items()]
    return [*_markdown(["what", "median"], [*rows, ["each recorded cell more", f"{1000 * each:.0f} ms"]]), ""]


def _there(found: dict[str, Any] | None) -> bool:
    return found is not None and "error" not in found


def _ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    if "seconds" in ours:
        return float(theirs["seconds"] / ours["seconds"])
    return float(ours["samples_per_second"] / theirs["samples_per_second"])


def _speed(found: tuple[dict[str, Any], ...]) -> str:
    if "seconds" in found[0]:
        return f"{median(one['seconds'] for one in found):,.1f} s"
    return f"{median(one['samples_per_second'] for one in found):,.0f}"


def _peak(found: tuple[dict[str, Any], ...]) -> str:
    """Allocated and reserved on an accelerator, else resident."""
    if found[0].get("peak_allocated_bytes"):
        kinds = ("peak_allocated_bytes", "peak_reserved_bytes")
        return " / ".join(f"{max(one[kind] for one in found) / MIB:,.0f}" for kind in kinds)
    return f"{max(one['peak_resident_bytes'] for one in found) / MIB:,.0f}"


def _markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    return [_line(head), _line(["---"] * len(head)), *map(_line, rows)]


def _line(words: list[str]) -> str:
    return f"| {' | '.join(words)} |"
