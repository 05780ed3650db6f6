"""Methods that train nothing, and tasks for a masked language model, from the command line to the table."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trials import FP32
from test_every_method import WARNINGS
from test_mcq_run import SMALL

from bench.config.compose import cells
from bench.records import record as records
from bench.records.record import Record
from bench.report.__main__ import cli
from bench.runner.build import build, load_data
from bench.tasks.outputs import Reasoned
from bench.train.batches import collate
from bench.train.evaluate import forward
from bench.train.generate import concluded

Run = Callable[..., subprocess.CompletedProcess[str]]
CPU = torch.device("cpu")
CLOZE = ("task=sst2_prompt", "task.cloze='{text} it was {mask}'", "task.words=[bad,great]")


@pytest.fixture
def overrides(questions: Path, tmp_path: Path) -> list[str]:
    """Return overrides for questions to the small random model."""
    folders = [f"results_dir={tmp_path / 'results'}", f"cache_dir={tmp_path / 'cache'}"]
    return ["task=medmcqa", f"task.path={questions}", "task.select_rows=12", *SMALL, "seeds=[0,1]", *folders]


def trials(folder: Path) -> dict[str, list[Record]]:
    by_method: dict[str, list[Record]] = {}
    for record in records.read_all(folder, pytest.fail):
        by_method.setdefault(record.cell["method"], []).append(record)
    return by_method


def test_baselines_share_a_table_with_the_methods_that_train(
    inline: Run, overrides: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    methods = "method=zero_shot,few_shot,chain_of_thought,ia3"
    done = inline("-m", methods, "rank=3", "prompt.reason_tokens=6", "protocol=smoke", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    by_method = trials(tmp_path / "results")
    assert {name: len(rows) - 1 for name, rows in by_method.items()} == {
        "zero_shot": 1,  # no seed changes anything
        "few_shot": 2,
        "chain_of_thought": 1,
        "ia3": 2,
    }
    for name in ("zero_shot", "few_shot", "chain_of_thought"):
        (probe,) = (record for record in by_method[name] if record.kind == "probe")
        assert probe.cost is not None
        assert (probe.cost["trainable_params"], probe.cost["adapter_bytes"], probe.cost["step_seconds_median"]) == (
            0,
            0,
            None,
        )
        assert probe.cost["eval_seconds"] > 0
        for record in by_method[name]:
            if record.kind == "trial":
                assert record.trial is not None
                assert record.trial["lr"] is None
                assert record.scores is not None
                assert set(record.scores["by"]) == {"subject_name", "choice_type"}
                assert record.predictions is not None
                assert {part: len(rows) for part, rows in record.predictions.items()} == {"select": 12, "report": 24}
    first, second = (record.predictions for record in by_method["few_shot"] if record.kind == "trial")
    assert first != second  # each seed draws its own examples
    capfd.readouterr()
    assert cli([f"results_dir={tmp_path / 'results'}"]) == 0
    shown = capfd.readouterr().out
    assert "Table 1 of" not in shown  # all four are comparable
    again = inline("-m", methods, "rank=3", "prompt.reason_tokens=6", "protocol=smoke", *overrides)
    assert "6 recorded, 0 to train" in again.stdout


@pytest.mark.parametrize("form", ["options", "generate"])
def test_untrained_methods_answer_the_other_forms_too(
    form: str, inline: Run, overrides: list[str], tmp_path: Path
) -> None:
    done = inline("-m", "method=zero_shot,few_shot", "rank=2", f"task.form={form}", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(trials(tmp_path / "results")) == {"zero_shot", "few_shot"}


def test_examples_precede_the_question_with_their_answers(overrides: list[str]) -> None:
    (cell,) = cells(["method=few_shot", "rank=4", *overrides], multirun=False)
    from bench.models.load import load_tokenizer

    data, tokenizer = load_data(cell, 1), load_tokenizer(cell.source)
    assert len(data.train) == 0
    start, length = int(data.report.starts[0]), int(data.report.lengths[0])
    text = tokenizer.decode(data.report.ids[start : start + length])
    assert text.count("question :") == 5
    _, *solved, last = text.split("answer :")
    assert last == ""
    answers = [piece.split()[0] for piece in solved]
    assert sorted(answers) == ["a", "b", "c", "d"]
    assert "of dev" in text.rpartition("question :")[2]
    assert "of dev" not in text.rpartition("question :")[0]


def test_reasoning_is_generated_and_concluded_before_the_letters_are_compared(overrides: list[str]) -> None:
    (cell,) = cells(["method=chain_of_thought", "prompt.reason_tokens=5", *overrides], multirun=False)
    data, model = load_data(cell), build(cell, seed=0, compute=FP32).eval()
    read = data.report.read
    assert isinstance(read, Reasoned)
    both = collate(data.report, torch.arange(6))
    with torch.no_grad():
        together = concluded(model, both, read)
        for row in range(6):
            single = collate(data.report, torch.tensor([row]))
            ids = single.input_ids
            for _ in range(5):
                word = model(input_ids=ids).logits[0, -1].argmax()
                if int(word) == read.tokenizer.eos_token_id:
                    break
                ids = torch.cat([ids, word[None, None]], 1)
            ids = torch.cat([ids, torch.tensor([read.conclusion])], 1)
            torch.testing.assert_close(together[row, 0], model(input_ids=ids).logits[0, -1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=zero_shot"], "trains nothing, but the head of task.form=head is untrained"),
        (["method=zero_shot", *CLOZE, "save=adapter"], "trains nothing that could be saved"),
        (["method=chain_of_thought", *CLOZE], "generates its reasoning, but task.form=mask cannot"),
        (["method=head", *CLOZE], "method 'head' trains the task's head, but task.form=mask has none"),
        (["method=p_tuning", *CLOZE], "has its own template around a text"),
        (
            [*CLOZE, "model=tiny-llama", "model.name=tiny-llama"],
            "task.form=mask needs a masked language model, and tiny-llama-random is a llama",
        ),
        ([*CLOZE, "task.words=[bad]"], "needs one word per label, all different"),
        ([*CLOZE, "task.cloze='it was {mask}'"], "task.cloze='it was {mask}' lacks the placeholder {text}"),
        ([*CLOZE, "task.shots=-1"], "task.shots=-1 must be at least 0"),
        (["task.shots=2"], "task.shots: a head takes no solved examples"),
        (["task.form=classify"], "task 'sst2' has no options to choose from; use task.form=head or mask"),
        (["method=prompt", "rank=20", *CLOZE, "task.shots=2"], "choose a rank of at most 0"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(
    words: list[str], message: str, inline: Run, tiny: list[str], tmp_path: Path
) -> None:
    done = inline(*tiny, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


METHODS = "lora,dora,ia3,adapter,bitfit,full,prompt,prefix"


@pytest.mark.filterwarnings(*[f"ignore:{warning}" for name in METHODS.split(",") for warning in WARNINGS.get(name, [])])
def test_every_kind_of_method_trains_a_masked_language_model(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    done = inline(
        "-m", *tiny, *CLOZE, f"method={METHODS},zero_shot,few_shot", "rank=2", "seeds=[0]", "protocol.max_length=24"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    by_method = trials(tmp_path / "results")
    assert set(by_method) == {*METHODS.split(","), "zero_shot", "few_shot"}
    for rows in by_method.values():
        assert all(record.outcome == "ok" for record in rows)


def test_a_masked_language_model_learns_its_words(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    words = ["lrs=[1e-3]", "seeds=[0,1]", "method=full", "protocol.epochs=20", "protocol.train_rows=null"]
    done = inline(*tiny, *CLOZE, *words, "task.batch=8")
    assert done.returncode == 0, done.stdout + done.stderr
    for record in trials(tmp_path / "results")["full"]:
        if record.kind == "trial":
            assert record.scores is not None
            assert record.scores["report"] > 0.75  # 40 rows: three deviations above guessing
            assert record.cost is not None
            assert record.cost["pack"] == 2  # words at a mask are trained together too


def test_a_model_that_is_partly_new_is_not_scored_untrained(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    folder, whole = tmp_path / "headless", tiny[0].removeprefix("model.name=")
    AutoModelForMaskedLM.from_pretrained(whole).bert.save_pretrained(folder)
    AutoTokenizer.from_pretrained(whole).save_pretrained(folder)
    done = inline(*tiny, *CLOZE, "method=zero_shot", f"model.name={folder}")
    assert done.returncode == 1
    assert "the checkpoint lacks the model's transform, which is randomly initialised" in done.stdout


def test_packed_and_single_trials_agree_at_the_mask(tiny: list[str]) -> None:
    (cell,) = cells([*tiny, *CLOZE, "method=lora", "protocol.train_rows=null"], multirun=False)
    data = load_data(cell)
    model = build(cell, seed=0, compute=FP32).eval()
    batch = collate(data.train, torch.arange(4))
    stacked: Any = torch.func.functional_call
    named = {name: torch.stack([tensor, tensor]) for name, tensor in model.named_parameters() if tensor.requires_grad}
    with torch.no_grad():
        alone = forward(model, batch)
        arguments = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "from_end": batch.from_end}
        both = torch.func.vmap(lambda part: stacked(model, part, (), arguments).logits)(named)
    torch.testing.assert_close(both[1], alone, rtol=1e-4, atol=1e-5)
