"""README's table of methods says what the yaml files say: no second home for a fact."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bench.config.register import register
from bench.models.targets import name_of, spelled_out

REPOSITORY = Path(__file__).resolve().parent.parent
METHODS = sorted(path.stem for path in (REPOSITORY / "conf" / "method").glob("*.yaml"))


def composed(name: str) -> dict[str, Any]:
    register()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        conf = OmegaConf.to_container(compose("config", [f"method={name}"]).method, resolve=False)
    assert isinstance(conf, dict)
    return conf


def rate(value: float) -> str:
    return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-").replace("e+0", "e")


def row(name: str) -> str:
    """A method's line of the table."""
    conf = composed(name)
    target = name_of(spelled_out(conf["target"], "bert"), "bert") if "target" in conf["uses"] else "-"
    published = rate(conf["lr"]) if conf["lr"] else "-"
    base = "4, 8 bit" if "int8" in conf["quant"] else "4 bit" if conf["quant"] else "-"
    merges = "yes" if "full" in conf["merges_into"] else "no"
    cells = [f"`{name}`", conf["rank_is"] or "-", target, base, merges, published, conf["lr_source"], conf["paper"]]
    return f"| {' | '.join(cells)} |"


def section(family: str) -> str:
    """The part of README's methods that is headed by a family."""
    return (
        (REPOSITORY / "README.md")
        .read_text(encoding="utf-8")
        .partition(f"### {family.capitalize()}\n")[2]
        .partition("\n#")[0]
    )


@pytest.mark.parametrize("name", METHODS)
def test_the_table_of_methods_is_what_the_yaml_says(name: str) -> None:
    assert row(name) in section(composed(name)["family"]).splitlines()


def test_the_table_names_no_method_that_is_gone() -> None:
    methods = (REPOSITORY / "README.md").read_text().partition("\n## Methods\n")[2].partition("\n## ")[0]
    listed = {line.split("`")[1] for line in methods.splitlines() if line.startswith("| `")}
    assert listed == set(METHODS)
