"""Runs one part of check_gpu.py in its own process."""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import agreement
import bits
import commands
import memory
import speeds
from asked import Asked
from page import Page

from bench.train.device import exact_products

PARTS: dict[str, Callable[[Asked, Page], None]] = {
    "product": speeds.product,
    "commands": commands.commands,
    "race": commands.race,
    "golden": agreement.golden,
    "packed": agreement.packed,
    "out_of_memory": memory.out_of_memory,
    "speed": speeds.speed,
    "ways": agreement.ways,
    "quantised": bits.quantised,
    "optimizers": bits.optimizers,
    "quantised_commands": commands.quantised_commands,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--model", default="")
    parser.add_argument("--short", action="store_true")
    args = parser.parse_args()
    tokenizer = args.tokenizer if ":" in args.tokenizer else str(Path(args.tokenizer).resolve())
    warnings.simplefilter("ignore")
    exact_products()
    PARTS[args.part](Asked(args.device, args.short, tokenizer, args.model), Page(args.folder))


if __name__ == "__main__":
    main()
