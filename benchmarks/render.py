"""The measurements as a table: medians, the spread over rounds, and each ratio next to its aim."""

from statistics import median
from textwrap import fill
from typing import Any

MIB = 2**20
# Least ratio of our speed to the other contestant's, by contest, contestant and precision.
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
    """Return the whole table with its caption."""
    device = result["device"]
    lines = [row for contest in result["contests"] if "to start" not in contest["contest"] for row in _rows(contest)]
    text = [
        f"Measured on {device['device_name']} ({device['device']}, {device['threads']} threads), LoRA r=8 on q, v.",
        "Samples per second, or seconds if marked s. Each measurement has its own process. Contestants alternate.",
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
        pairs = [(own, peer) for own, peer in zip(ours, theirs, strict=True) if _measured(own) and _measured(peer)]
        start = [contest["contest"], precision, name]
        if not pairs:
            failed = next(
                (result["error"] for result in [*ours, *theirs] if result and "error" in result), "not installed"
            )
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
    """Return the model FLOPs of our trial as a share of the best product of the same round."""
    products, lines = contest["rounds"].get("best matrix product"), []
    for name, runs in contest["rounds"].items():
        if not (products and name.startswith("ours") and all(map(_measured, [*runs, *products]))):
            continue
        shares = [run["flops"] / best["flops"] for run, best in zip(runs, products, strict=True)]
        best = median(run["flops"] for run in products) / 1e9
        share = (
            f"{contest['contest']}, {contest['setting']['precision']}, {name}: "
            f"{median(run['tokens_per_second'] for run in runs):,.0f} tokens/s, {100 * median(shares):.0f}% model-FLOPs"
            f" utilisation (aim {100 * MFU_AIM:.0f}% in fp32). A token costs 4 N FLOPs, with N parameters without "
            f"embeddings; padding does not count. The best matrix product ran at {best:,.0f} GFLOP/s."
        )
        lines += [fill(share, 120, break_on_hyphens=False), ""]
    return lines


def _starts(contest: dict[str, Any]) -> list[str]:
    seconds = {name: median(result["seconds"] for result in results) for name, results in contest["rounds"].items()}
    each = (seconds["12 recorded cells"] - seconds["1 recorded cell"]) / 11
    rows = [[name, f"{value:.2f} s"] for name, value in seconds.items()]
    return [*_markdown(["what", "median"], [*rows, ["each additional recorded cell", f"{1000 * each:.0f} ms"]]), ""]


def _measured(result: dict[str, Any] | None) -> bool:
    return result is not None and "error" not in result


def _ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    if "seconds" in ours:
        return float(theirs["seconds"] / ours["seconds"])
    return float(ours["samples_per_second"] / theirs["samples_per_second"])


def _speed(results: tuple[dict[str, Any], ...]) -> str:
    if "seconds" in results[0]:
        return f"{median(result['seconds'] for result in results):,.1f} s"
    return f"{median(result['samples_per_second'] for result in results):,.0f}"


def _peak(results: tuple[dict[str, Any], ...]) -> str:
    """Return the allocated and reserved peak on an accelerator, else the resident peak."""
    if results[0].get("peak_allocated_bytes"):
        kinds = ("peak_allocated_bytes", "peak_reserved_bytes")
        return " / ".join(f"{max(result[kind] for result in results) / MIB:,.0f}" for kind in kinds)
    return f"{max(result['peak_resident_bytes'] for result in results) / MIB:,.0f}"


def _markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    return [_line(head), _line(["---"] * len(head)), *map(_line, rows)]


def _line(words: list[str]) -> str:
    return f"| {' | '.join(words)} |"
