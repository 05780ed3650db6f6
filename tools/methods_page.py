"""Writes docs/methods.md: the tables of methods from conf/method/*.yaml, the words around them from methods_page.md.

python tools/methods_page.py            writes the page
python tools/methods_page.py --check    exit code 1 where the page is not what it would write
"""

import re
import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.config.register import register
from bench.models.targets import name_of, spelled_out

REPOSITORY = Path(__file__).resolve().parents[1]
METHODS = REPOSITORY / "conf" / "method"
TEMPLATE = Path(__file__).with_suffix(".md")
PAGE = REPOSITORY / "docs" / "methods.md"
HEADER = "<!-- Written by tools/methods_page.py from conf/method/*.yaml and tools/methods_page.md: edit those. -->\n\n"
COLUMNS = "method | `rank` is | target | quantised base | merges | published rate | where it comes from | paper"
LEADERS = ("zero_shot", "full", "lora", "oft", "adapter", "prompt")  # listed first in their families
PLACE = re.compile(r"^\{\{ (.+) \}\}$", re.MULTILINE)


def methods() -> dict[str, dict[str, Any]]:
    """Return the `method` node of every yaml by its name."""
    register()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        names = sorted(path.stem for path in METHODS.glob("*.yaml"))
        return {name: _as_dict(compose("config", [f"method={name}"]).method) for name in names}


def _as_dict(node: Any) -> dict[str, Any]:
    container: Any = OmegaConf.to_container(node, resolve=False)
    return dict(container)


def row(name: str, method: dict[str, Any]) -> str:
    """Return a method's line of its table."""
    target = name_of(spelled_out(method["target"], "bert"), "bert") if "target" in method["uses"] else "-"
    base = "4, 8 bit" if "int8" in method["quant"] else "4 bit" if method["quant"] else "-"
    merges = "yes" if "full" in method["merges_into"] else "no"
    rate = rate_text(method["lr"]) if method["lr"] else "-"
    cells = (f"`{name}`", method["rank_is"] or "-", target, base, merges, rate, method["lr_source"], method["paper"])
    return f"| {' | '.join(cells)} |"


def rate_text(value: float) -> str:
    """Return a learning rate as papers print it: 5e-4, 4.5e-3."""
    return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-").replace("e+0", "e")


def table(family: str, known: dict[str, dict[str, Any]]) -> str:
    """Return the table of a family: its best-known method first, the others by name. ValueError if there are none."""
    names = sorted(
        (name for name, method in known.items() if method["family"] == family),
        key=lambda name: (name not in LEADERS, name),
    )
    if not names:
        raise ValueError(f"{TEMPLATE.name} has a place for the family {family!r}, and no method is of it")
    head = [f"| {COLUMNS} |", f"|{'---|' * len(COLUMNS.split(' | '))}"]
    return "\n".join([*head, *(row(name, known[name]) for name in names)])


def page() -> str:
    """Return the whole page. ValueError if a family of a yaml has no place in the template, or the reverse."""
    known, template = methods(), TEMPLATE.read_text(encoding="utf-8")
    homeless = {method["family"] for method in known.values()} - set(PLACE.findall(template))
    if homeless:
        raise ValueError(f"{TEMPLATE.name} has no place for the family {', '.join(sorted(homeless))}")
    return HEADER + PLACE.sub(lambda place: table(place[1], known), template)


def main() -> int:
    """Write the page, or check whether it is current."""
    made = page()
    if "--check" in sys.argv[1:]:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == made
        print(f"{PAGE.relative_to(REPOSITORY)} is {'current' if current else 'old: run make docs'}")
        return 0 if current else 1
    PAGE.write_text(made, encoding="utf-8")
    print(f"written: {PAGE.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
