"""A saved trial answers as it did when it was scored: on the command line, from files, and on a web page."""

import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import OFFLINE, REPOSITORY
from sample_records import race_record, record_of
from test_mcq_run import SMALL

from bench import predict
from bench.inference.requests import Wants
from bench.records import record as records
from bench.records.record import Record

Run = Callable[..., subprocess.CompletedProcess[str]]
Ask = Callable[..., tuple[int, str, str]]
CLOZE = ("task=sst2_prompt", "task.cloze='{text} it was {mask}'", "task.words=[bad,great]")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def ask(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Ask:
    """Run bench.predict's command line in this process."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = predict.cli([f"results_dir={tmp_path / 'results'}", *arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def only(folder: Path) -> Record:
    (record,) = (entry for entry in records.read_all(folder / "results", pytest.fail) if entry.kind == "trial")
    return record


def trained(inline: Run, folder: Path, *words: str) -> Record:
    done = inline(*words, f"save_dir={folder / 'saved'}", "seeds=[0]", "precision=fp32")
    assert done.returncode == 0, done.stdout + done.stderr
    return only(folder)


def texts(folder: Path, tiny: list[str]) -> list[str]:
    path = Path(next(word for word in tiny if word.startswith("task.path=")).partition("=")[2])
    return [line.split("\t")[0] for line in (path / "dev.tsv").read_text().splitlines()[1:]]


@pytest.mark.parametrize(
    "words",
    [
        ["method=lora", "save=adapter"],
        ["method=adapter", "save=adapter"],
        ["method=prompt", "save=adapter"],
        ["method=full", "save=merged"],
        ["method=ia3", "save=merged", *CLOZE],
        ["method=zero_shot", *CLOZE],
        ["method=few_shot", "rank=2", "protocol.max_length=16", *CLOZE],
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_texts_are_answered_as_they_were_scored(
    words: list[str], inline: Run, ask: Ask, tiny: list[str], tmp_path: Path
) -> None:
    record = trained(inline, tmp_path, *tiny, "lrs=[1e-2]", *words)
    given, out = tmp_path / "texts.jsonl", tmp_path / "answers.jsonl"
    given.write_text("".join(json.dumps({"text": text, "row": 7}) + "\n" for text in texts(tmp_path, tiny)))
    assert record.trial is not None
    code, summary, err = ask(f"record={record.trial['id']}", "--input", str(given), "--output", str(out))
    assert (code, err) == (0, "")
    assert "answered: 40 rows" in summary
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    labels = ["negative", "positive"]
    assert record.predictions is not None
    if words[0] != "method=few_shot":  # its examples depend on a row's number within its part
        assert [labels.index(row["answer"]) for row in answers] == record.predictions["report"]
    for row in answers:
        assert row["row"] == 7
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert max(row["probabilities"], key=row["probabilities"].get) == row["answer"]


@pytest.fixture
def mcq(inline: Run, questions: Path, tmp_path: Path) -> Callable[..., Record]:
    def call(*words: str) -> Record:
        folders = [f"results_dir={tmp_path / 'results'}", f"cache_dir={tmp_path / 'cache'}"]
        small = ["task=medmcqa", f"task.path={questions}", "task.select_rows=12", "rank=4", *SMALL, *folders]
        return trained(inline, tmp_path, *small, "protocol=smoke", "lrs=[1e-2]", *words)

    return call


@pytest.mark.parametrize("form", ["letters", "options", "generate", "classify", "multiple_choice"])
def test_questions_are_answered_as_they_were_scored(
    form: str, mcq: Callable[..., Record], ask: Ask, questions: Path, tmp_path: Path
) -> None:
    record = mcq("method=lora", "save=adapter", f"task.form={form}")
    given = tmp_path / "questions.jsonl"
    dev = [json.loads(line) for line in (questions / "dev.json").read_text().splitlines()]
    rows = [
        {"question": row["question"], "options": [row[name] for name in ("opa", "opb", "opc", "opd")]} for row in dev
    ]
    given.write_text("\n".join(map(json.dumps, rows)))
    code, out, err = ask(f"record={record.cell['id']}", "--input", str(given))
    assert (code, err) == (0, "note: The base has random weights, so its answers mean nothing.\n")
    answers = [json.loads(line) for line in out.splitlines()]
    assert record.predictions is not None
    predicted = [-1 if row["answer"] is None else "ABCD".index(row["answer"]) for row in answers]
    assert predicted == record.predictions["report"]
    for row, question in zip(answers, rows, strict=True):
        assert ("probabilities" in row) is (form != "generate")
        if row["answer"] is not None:
            assert row["option"] == question["options"]["ABCD".index(row["answer"])]


def test_one_question_is_answered_on_the_terminal(mcq: Callable[..., Record], ask: Ask) -> None:
    record = mcq("method=lora", "save=adapter")
    code, out, _ = ask(
        f"record={record.cell['id']}", "--question", "Which organ pumps blood?", "--options", "liver", "heart"
    )
    assert code == 0
    first, *shares = out.splitlines()
    assert first in {"A. liver", "B. heart"}
    assert [line.split(maxsplit=1)[1] for line in shares] == ["A. liver", "B. heart"]
    assert sum(float(line.split()[0]) for line in shares) == pytest.approx(1, abs=2e-3)
    for options, count in (("one", 1), ("a b c d e f g", 7)):
        code, _, err = ask(f"record={record.cell['id']}", "--question", "q", "--options", *options.split())
        assert code == 2
        assert f"the command line needs 2 to 6 options for this model, and has {count}" in err


def test_an_option_that_is_not_text_is_refused() -> None:
    wants = Wants(options=(2, 6))
    for option, shown in ((None, "null"), ("", "empty"), (["a"], r'\["a"\]')):
        with pytest.raises(
            ValueError, match=rf"^x: row 1: option 2 is {shown}; every option must be a text or a number$"
        ):
            wants.read({"question": "q", "options": ["a", option]}, "x: row 1")
    assert wants.read({"question": "q", "options": ["a", 2]}, "x").options == ("a", "2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--text", "x"], "record= is missing"),
        (["record=nothing", "--text", "x"], "record=nothing is not among the 2 records; no trial was saved"),
        (["record={trial}", "--text", "x"], "its model was not saved; run it again with save=adapter"),
        (["record={trial}"], "got nothing; choose one of --text"),
        (["record={trial}", "--text", "x", "--serve"], "got --text and --serve; choose one"),
        (
            ["record={trial}", "colour=red", "--text", "x"],
            "unknown setting 'colour=red'; choose from record=, results_dir=",
        ),
        (["record={trial}", "--txt"], "unrecognized arguments"),
        (["record={trial}", "results_dir=nowhere", "--text", "x"], "results_dir=nowhere is not a folder"),
    ],
)
def test_a_wrong_command_line_is_one_line(
    words: list[str], message: str, inline: Run, ask: Ask, tiny: list[str], tmp_path: Path
) -> None:
    record = trained(inline, tmp_path, *tiny, "method=lora")
    assert record.trial is not None
    code, out, err = ask(*(word.replace("{trial}", record.trial["id"]) for word in words))
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_wrong_line_of_a_file_writes_nothing(inline: Run, ask: Ask, tiny: list[str], tmp_path: Path) -> None:
    record = trained(inline, tmp_path, *tiny, "method=lora", "save=adapter")
    given, out = tmp_path / "given.jsonl", tmp_path / "out.jsonl"
    wrong = {
        b'{"text": "a film"}\n{"txt": "b"}': "given.jsonl: row 2 has no text; this model answers texts",
        b'{"text": "a film"}\n{"text": ': "line 2 is not JSON",
        b'{"text": "a film"}\n\xff': "line 2 is not UTF-8",
        b"\n": "no questions; write one JSON object per line",
        b"[1]": "line 1 is not a JSON object",
        b'{"text": "a film"}\n{"text": "a \\ud83d film"}': "line 2 holds \\ud83d, half of a surrogate pair",
        b'{"text": "a film", "note": "\\udc00"}': "line 1 holds \\udc00, half of a surrogate pair",
    }
    for content, message in wrong.items():
        given.write_bytes(content)
        code, _, err = ask(f"record={record.cell['id']}", "--input", str(given), "--output", str(out))
        assert code == 2
        assert message in err
        assert not out.exists()
    code, _, err = ask(f"record={record.cell['id']}", "--input", str(tmp_path / "none.jsonl"))
    assert "is not a file" in err
    given.write_text('{"text": "a film"}')
    code, _, err = ask(
        f"record={record.cell['id']}", "--input", str(given), "--output", str(tmp_path / "no" / "out.jsonl")
    )
    assert code == 2
    assert "cannot be written" in err
    code, _, err = ask(f"record={record.cell['id']}", "--text", "caf\udce9")  # Python's form of bytes beyond UTF-8
    assert (code, len(err.splitlines())) == (2, 1)
    assert "the command line holds \\udce9, half of a surrogate pair" in err
    code, _, err = ask(f"record={record.cell['id']}", "--question", "q", "--options", "a", "b")
    assert "the command line has no text; this model answers texts" in err
    assert record.saved is not None
    shutil.rmtree(record.saved)
    code, _, err = ask(f"record={record.cell['id']}", "--text", "a film")
    assert code == 2
    assert ", where the trial was saved, is gone; run it again with save=adapter" in err


def test_a_label_of_the_data_is_answered_verbatim(inline: Run, ask: Ask, tiny: list[str], tmp_path: Path) -> None:
    labels = ("${rank}", "???", "a\\${b}")
    rows = [f"a film {'was not ' * row},{labels[row % 3]}" for row in range(60)]
    (tmp_path / "mine.csv").write_text("\n".join(["text,label", *rows, ""]))
    own = ["task=text_csv", f"task.path={tmp_path / 'mine.csv'}", "task.select_rows=10"]
    given = [word for word in tiny if not word.startswith("task")]
    record = trained(inline, tmp_path, *given, *own, "method=lora", "save=adapter")
    assert record.config["task"]["labels"] == sorted(labels)
    code, out, err = ask(f"record={record.cell['id']}", "--text", "a film")
    assert (code, err) == (0, "")
    assert {line.split()[-1] for line in out.splitlines()} == set(labels)


def test_a_regression_answers_with_a_number(inline: Run, ask: Ask, tiny: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name, count in (("train.tsv", 60), ("dev.tsv", 20)):
        rows = [f"a good film {number}\tthe film was bad\t{number % 6}" for number in range(count)]
        (folder / name).write_text("\n".join(["sentence1\tsentence2\tscore", *rows]))
    words = [word for word in tiny if not word.startswith("task")]
    record = trained(
        inline, tmp_path, *words, "task=stsb", f"task.path={folder}", "task.select_rows=20", "save=adapter"
    )
    code, out, err = ask(f"record={record.cell['id']}", "--text", "a good film 1", "--second", "the film was bad")
    assert (code, err) == (0, "")
    assert float(out) == pytest.approx(record.predictions["report"][1], abs=2e-3)  # type: ignore[index]
    code, _, err = ask(f"record={record.cell['id']}", "--text", "a good film 1")
    assert "has no second" in err


@pytest.fixture
def page(mcq: Callable[..., Record], tmp_path: Path) -> Iterator[tuple[str, Record]]:
    """Start a page; yield its address and the record that it answers from."""
    record = mcq("method=lora", "save=adapter")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "bench.predict",
        f"record={record.cell['id']}",
        f"results_dir={tmp_path / 'results'}",
    ]
    environment = {**os.environ, **OFFLINE, "PYTHONPATH": str(REPOSITORY)}
    server = subprocess.Popen([*command, "--serve", "--port", str(port)], cwd=tmp_path, env=environment)
    try:
        for _ in range(300):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", record
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_page_answers_in_a_browser(page: tuple[str, Record], tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    address, _ = page
    requested: list[str] = []
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        tab: Any = browser.new_page()
        tab.on("request", lambda request: requested.append(request.url))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(address)
        tab.get_by_label("Question").fill("Which organ pumps blood?")
        tab.get_by_label("Options, one per line").fill("liver\nheart\nskin")
        tab.get_by_role("button", name="Answer").click()
        expect(tab.get_by_label("Answer", exact=True)).to_have_value(
            re.compile(r"^[ABC]\. (liver|heart|skin)$"), timeout=20000
        )
        assert tab.get_by_text("B. heart").count() > 0
        tab.get_by_label("Options, one per line").fill("liver")
        tab.get_by_role("button", name="Answer").click()
        expect(tab.get_by_text("the form needs 2 to 6 options for this model, and has 1").first).to_be_visible(
            timeout=20000
        )
        tab.screenshot(path=tmp_path / "page.png")
        browser.close()
    assert errors == []
    away = [url for url in requested if not url.startswith((address, "data:", "blob:"))]
    assert away == []


def reconfigured(record: Record, folder: Path, **nodes: Any) -> None:
    """Rewrite the record with other nodes of its configuration."""
    (path,) = (candidate for candidate in (folder / "results").rglob("lr*.json"))
    records.write(path, replace(record, config={**record.config, **nodes}))


@pytest.mark.parametrize("place", ["attach", "inside", "hooks", "load"])
def test_a_record_calls_only_what_a_configuration_names(
    place: str, tiny: list[str], inline: Run, ask: Ask, tmp_path: Path
) -> None:
    """Unpickling the file that the record names would create the file `proof`."""
    record = trained(inline, tmp_path, *tiny, "method=bitfit", "save=adapter", "lrs=[1e-2]")
    proof, pickled = tmp_path / "proof", tmp_path / "evil.pkl"
    pickled.write_bytes(pickle.dumps(Evil(proof)))
    evil = {"_target_": "pandas.read_pickle", "filepath_or_buffer": str(pickled)}
    method, task = record.config["method"], record.config["task"]
    nodes = {
        "attach": {"method": {**method, "attach": evil}},
        "inside": {"method": {**method, "attach": {**method["attach"], "part": [{"deep": evil}]}}},
        "hooks": {"method": {**method, "hooks": evil}},
        "load": {"task": {**task, "load": evil}},
    }
    reconfigured(record, tmp_path, **nodes[place])
    code, out, err = ask(f"record={record.cell['id']}", "--text", "a good film")
    assert (code, out) == (2, "")
    assert "wants to call pandas.read_pickle, which no yaml file here names" in err
    assert len(err.splitlines()) == 1
    assert not proof.exists()


class Evil:
    """An object that creates the file `proof` when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


def test_a_users_method_answers_where_its_folder_is_named(
    tiny: list[str], inline: Run, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = trained(inline, tmp_path, *tiny, "method=bitfit", "save=adapter", "lrs=[1e-2]")
    (tmp_path / "own" / "method").mkdir(parents=True)
    leaf = "from bench.methods.selective import bitfit\n\n\ndef attach(model):\n    return bitfit(model)\n"
    (tmp_path / "own_bias.py").write_text(leaf)
    monkeypatch.syspath_prepend(str(tmp_path))
    method = {**record.config["method"], "attach": {"_target_": "own_bias.attach", "_partial_": True}}
    reconfigured(record, tmp_path, method=method)
    kept = Path(str(record.saved)) / "adapter_config.json"
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "attach": method["attach"]}))
    arguments = (f"record={record.cell['id']}", "--text", "a good film")
    assert "wants to call own_bias.attach" in ask(*arguments)[2]
    (tmp_path / "own" / "method" / "bias.yaml").write_text("attach:\n  _target_: own_bias.attach\n  _partial_: true\n")
    code, out, err = ask(*arguments, "--config-dir", str(tmp_path / "own"))
    assert (code, err) == (0, "")
    assert out.splitlines()[0] in {"negative", "positive"}
    assert "is not a folder" in ask(*arguments, "--config-dir", str(tmp_path / "none"))[2]


def test_a_tuned_cell_answers_with_a_trial_at_the_rate_of_its_race() -> None:
    from bench.inference.answerer import select_trial

    kept = [
        replace(record_of(lr=lr), saved="somewhere", scores={"metric": "accuracy", "select": select, "report": 0.5})
        for lr, select in ((1e-3, 0.9), (3e-3, 0.8))
    ]
    cell = kept[0].cell["id"]
    assert (select_trial(kept, cell).trial or {})["lr"] == 1e-3
    raced = [*kept, race_record(3e-3, published=1e-3)]
    assert raced[-1].cell["id"] == cell
    assert (select_trial(raced, cell).trial or {})["lr"] == 3e-3
    assert select_trial(raced, kept[0].trial["id"]) is kept[0], "a trial goes by its own name, too"
