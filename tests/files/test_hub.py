"""Models and data from a local hub: what is trained, what is recorded, and the messages if the hub refuses."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from conftest import OFFLINE
from hub_server import Hub, Repository

from bench.records.record import files_below

Bench = Callable[..., subprocess.CompletedProcess[str]]
Ask = Callable[..., tuple[int, list[str]]]
DATA_COMMIT = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"  # pinned in conf/task/sst2.yaml
MODEL_COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "f" * 40
PATIENCE = 15  # seconds, on a busy machine; the hub client's own retries take 23
LOG_IN, LOCAL_MODEL, LOCAL_DATA = "'hf auth login'", "set model.name= to a local folder", "set task.path= to a folder"


@pytest.fixture(scope="module")
def repositories(tiny_bert: Path, tiny_sst2: Path) -> dict[str, Repository]:
    """A model, a gated one, one with pickled weights, GLUE with the rows of the local folder, and gated data."""
    model = {path.name: path.read_bytes() for path in tiny_bert.iterdir()}
    pickled = {**model, "pytorch_model.bin": b"unread"}
    del pickled["model.safetensors"]
    data = {
        "README.md": b"SST-2",
        "sst2/train-00000-of-00001.parquet": parquet(tiny_sst2 / "train.tsv"),
        "sst2/validation-00000-of-00001.parquet": parquet(tiny_sst2 / "dev.tsv"),
        "sst2/test-00000-of-00001.parquet": b"unread",
    }
    return {
        "models/acme/tiny-bert": Repository(model, MODEL_COMMIT),
        "models/acme/gated": Repository(model, MODEL_COMMIT, gated=True),
        "models/acme/pickled": Repository(pickled, MODEL_COMMIT),
        "datasets/nyu-mll/glue": Repository(data, DATA_COMMIT, branch="not-main"),  # only the pinned commit is right
        "datasets/acme/gated": Repository(data, DATA_COMMIT, gated=True),
    }


def parquet(tsv: Path) -> bytes:
    import pandas as pd

    target = BytesIO()
    pd.read_csv(tsv, sep="\t", quoting=3).to_parquet(target)
    return target.getvalue()


def online(endpoint: str, home: Path) -> dict[str, str]:
    """Return the environment of a machine with its own cache, whose network is our hub alone."""
    hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return {**OFFLINE, **hub, "OMP_NUM_THREADS": "1"}


@contextmanager
def session(folder: Path, env: dict[str, str]) -> Iterator[Ask]:
    """Run the command line repeatedly in one process, which pays for the worker's imports once.

    ask("model=minilm", ...) returns the exit code and the lines on stderr.
    """
    again = (
        "import json, sys, bench.run\n"
        "for line in sys.stdin:\n"
        "    sys.argv[1:] = json.loads(line)\n"
        "    print('exit', bench.run.cli(), file=sys.stderr, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", again], cwd=folder, env={**os.environ, **env}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip

        def ask(*arguments: str) -> tuple[int, list[str]]:
            process.stdin.write(json.dumps(arguments) + "\n")
            process.stdin.flush()
            lines = []
            while not (line := process.stderr.readline()).startswith("exit "):
                assert line, lines
                lines.append(line.rstrip("\n"))
            return int(line.split()[1]), lines

        try:
            yield ask
        finally:
            process.stdin.close()


def assert_refused(code: int, stderr: list[str], *expected: str) -> None:
    """Assert that the error is one line with the request, the problem and the remedy."""
    assert code == 2, stderr
    assert len(stderr) == 1, stderr
    assert stderr[0].startswith("error: ")
    assert [part for part in expected if part not in stderr[0]] == [], stderr[0]


def trials(results: Path) -> dict[tuple[str, str], dict]:
    """Return the trials' records by the identities of their model and data."""
    records = [json.loads(path.read_text()) for path in files_below(results, "*.json")]
    trial_records = [record for record in records if record["kind"] == "trial"]
    return {(record["identity"]["model"], record["identity"]["task"]["data"]): record for record in trial_records}


def test_hub_files_train_as_local_files_do_and_are_downloaded_once(
    repositories: dict[str, Repository], bench: Bench, tiny: list[str], tmp_path: Path
) -> None:
    local = dict(text.split("=", 1) for text in tiny)
    hub_model, hub_data = f"acme/tiny-bert@{MODEL_COMMIT}", f"nyu-mll/glue/sst2@{DATA_COMMIT}"
    home, tiny = tmp_path / "home", [*tiny, "model=bert-base", "seeds=[0]"]
    with Hub(repositories) as hub:
        models, data = f"model.name=acme/tiny-bert,{local['model.name']}", f"task.path=null,{local['task.path']}"
        done = bench("run", "-m", *tiny, models, data, env=online(hub.endpoint, home))
    assert (done.returncode, done.stderr) == (0, "")
    assert not [request for request in hub.asked if re.search(r"\.(bin|py)$|/test-", request)], hub.asked
    first = trials(tmp_path / "results")
    assert len(first) == 4
    assert sum(model == hub_model for model, _ in first) == sum(data == hub_data for _, data in first) == 2
    assert {record["outcome"] for record in first.values()} == {"ok"}
    assert len({str(record["predictions"]) for record in first.values()}) == 1
    assert len({str(record["curve"]["loss"]) for record in first.values()}) == 1

    tiny += ["model.name=acme/tiny-bert", "task.path=null"]
    with session(tmp_path, online(hub.endpoint, home)) as ask:
        # A revision that is not in the cache is refused, not replaced by the cached one.
        code, stderr = ask(*tiny, f"task.revision={OTHER_COMMIT}")
        assert_refused(code, stderr, "'nyu-mll/glue'", "no network", LOCAL_DATA)
        assert trials(tmp_path / "results") == first
        start = time.monotonic()
        assert ask(*tiny, "force=true") == (0, [])
        assert time.monotonic() - start < PATIENCE
    again = trials(tmp_path / "results")[hub_model, hub_data]
    assert again != first[hub_model, hub_data]
    assert again["predictions"] == first[hub_model, hub_data]["predictions"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model.name=acme/gated"], ["'acme/gated'", "is gated", LOG_IN, "settings/tokens", LOCAL_MODEL]),
        (
            ["model.name=acme/gated", "model.open_copy=acme/open"],
            ["is gated", "the open copy model.name=acme/open, or"],
        ),
        (["model.name=acme/absent"], ["'acme/absent'", "does not exist", LOG_IN, LOCAL_MODEL]),
        (["model.name=acme/tiny-bert", "model.revision=v9"], ["'acme/tiny-bert'", "no revision 'v9'", LOCAL_MODEL]),
        (["model.name=acme/pickled"], ["'acme/pickled'", "no model.safetensors", LOCAL_MODEL]),
    ],
    ids=["gated", "copied", "absent", "revision", "pickled"],
)
def test_an_unavailable_model_is_refused_in_one_line(
    overrides: list[str], expected: list[str], repositories: dict[str, Repository], bench: Bench, tmp_path: Path
) -> None:
    with Hub(repositories) as hub:
        env = online(hub.endpoint, tmp_path / "home")
        done = bench("run", "model=bert-base", *overrides, env=env, timeout=PATIENCE)
    assert_refused(done.returncode, done.stderr.splitlines(), *expected)
    assert not (tmp_path / "results").exists()


def test_a_model_without_a_network_is_refused_in_one_line(bench: Bench, tmp_path: Path) -> None:
    with Hub({}) as hub:
        pass
    done = bench("run", "model=roberta-base", env=online(hub.endpoint, tmp_path / "home"), timeout=PATIENCE)
    assert_refused(done.returncode, done.stderr.splitlines(), "'FacebookAI/roberta-base'", "no network", LOCAL_MODEL)
    assert not (tmp_path / "results").exists()


def test_unavailable_data_is_refused_in_one_line(
    repositories: dict[str, Repository], tiny: list[str], tmp_path: Path
) -> None:
    tiny = [*tiny, "task.path=null"]
    with Hub(repositories) as hub, session(tmp_path, online(hub.endpoint, tmp_path / "home")) as ask:
        assert_refused(*ask(*tiny, "task.repo=acme/gated"), "'acme/gated'", "is gated", LOG_IN, LOCAL_DATA)
        assert_refused(*ask(*tiny, "task.repo=acme/absent"), "'acme/absent'", "does not exist", LOG_IN, LOCAL_DATA)
        refused = ask(*tiny, f"task.revision={OTHER_COMMIT}")
        assert_refused(*refused, "'nyu-mll/glue'", f"no revision '{OTHER_COMMIT}'", LOCAL_DATA)
        assert_refused(*ask(*tiny, "task.config=cola"), "'nyu-mll/glue'", "in 'cola'", "task.config=", LOCAL_DATA)
        hub.close()
        start = time.monotonic()
        assert_refused(*ask(*tiny), "'nyu-mll/glue'", "no network", LOCAL_DATA)
        assert time.monotonic() - start < PATIENCE
    assert not (tmp_path / "results").exists()


def named(overrides: list[str], env: dict[str, str]) -> tuple[str, str, str]:
    """Return the identity of a cell's data, the revision that is fetched, and the cell's id."""
    child = (
        "import sys\n"
        "from bench.config.compose import cells\n"
        "(cell,) = cells(sys.argv[1:], multirun=False)\n"
        "print(cell.data, cell.config['task']['revision'], cell.id)"
    )
    command = [sys.executable, "-c", child, *overrides]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=True, timeout=60)
    data, revision, cell = done.stdout.split()
    return data, revision, cell


def test_a_branch_is_resolved_to_its_current_commit(
    repositories: dict[str, Repository], tiny: list[str], tmp_path: Path
) -> None:
    files, words = repositories["datasets/nyu-mll/glue"].files, [*tiny, "task.path=null", "task.revision=main"]
    resolved = []
    for commit in (DATA_COMMIT, OTHER_COMMIT):  # the branch moves
        with Hub({"datasets/nyu-mll/glue": Repository(files, commit)}) as hub:
            env = online(hub.endpoint, tmp_path / "home")
            resolved.append(named(words, env))
        assert resolved[-1][:2] == (f"nyu-mll/glue/sst2@{commit}", commit)
        assert named(words, env) == resolved[-1]  # without a network, the cache answers
    assert resolved[0][2] != resolved[1][2]
    pinned = named([*words, f"task.revision={DATA_COMMIT}"], env)
    assert pinned == resolved[0]


def test_a_commit_is_resolved_without_a_network(tiny: list[str], tmp_path: Path) -> None:
    with Hub({}) as hub:
        words = [*tiny, "task.path=null", f"task.revision={OTHER_COMMIT}"]
        data, revision, _ = named(words, online(hub.endpoint, tmp_path / "home"))
    assert (data, revision, hub.asked) == (f"nyu-mll/glue/sst2@{OTHER_COMMIT}", OTHER_COMMIT, [])


def test_an_unknown_branch_is_refused_in_one_line(
    repositories: dict[str, Repository], bench: Bench, tiny: list[str], tmp_path: Path
) -> None:
    with Hub(repositories) as hub:  # its branch has another name
        env = online(hub.endpoint, tmp_path / "home")
        done = bench("run", *tiny, "task.path=null", "task.revision=main", env=env, timeout=PATIENCE)
    assert_refused(done.returncode, done.stderr.splitlines(), "'nyu-mll/glue'", "no revision 'main'", LOCAL_DATA)
