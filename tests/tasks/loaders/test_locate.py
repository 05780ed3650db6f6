"""A task's files: which are read, how they are identified, and what their tables hold."""

import gzip
from pathlib import Path

import pandas as pd
import pytest

from bench.config.schema import TaskConf
from bench.files.jsonl import read_lines
from bench.tasks.loaders.locate import data_identity, file_notes, locate
from bench.tasks.loaders.tables import NOTE, read_table

WANTED = {"train": ["train.tsv", "train*.parquet"], "report": ["dev.tsv", "dev*.parquet", "validation*.parquet"]}
COMMIT = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
COLUMNS = {"sentence": ["sentence"], "label": ["label"]}


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(f"{name}\n")
    return folder


def one_line(caught: pytest.ExceptionInfo[ValueError]) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def table(tmp_path: Path, content: str | bytes, name: str = "train.tsv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_the_first_pattern_that_matches_wins(tmp_path: Path) -> None:
    folder = fill(tmp_path, "train.tsv", "train-0.parquet", "validation-0.parquet", "test.tsv")
    assert locate(str(folder), WANTED) == {"train": [folder / "train.tsv"], "report": [folder / "validation-0.parquet"]}


def test_the_pieces_of_a_part_are_listed_in_order(tmp_path: Path) -> None:
    folder = fill(tmp_path, "train-1.parquet", "train-0.parquet", "train-2.parquet", "dev.tsv")
    assert [path.name for path in locate(str(folder), WANTED)["train"]] == [f"train-{n}.parquet" for n in range(3)]


@pytest.mark.parametrize("name", ["TRAIN.TSV", "Train.tsv", "train.Tsv"])
def test_file_names_match_in_any_case(name: str, tmp_path: Path) -> None:
    folder = fill(tmp_path, name, "DEV.tsv")
    assert locate(str(folder), WANTED) == {"train": [folder / name], "report": [folder / "DEV.tsv"]}


def test_a_folder_never_matches_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "train-old.parquet").mkdir()
    folder = fill(tmp_path, "train-0.parquet", "dev.tsv")
    assert locate(str(folder), WANTED)["train"] == [folder / "train-0.parquet"]


def test_a_pattern_may_name_a_folder(tmp_path: Path) -> None:
    folder = fill(tmp_path / "data", "train.csv").parent
    for pattern in ("data/train*.csv", "*/train.csv", "**/train.csv"):
        assert locate(str(folder), {"train": [pattern]}) == {"train": [folder / "data" / "train.csv"]}


def test_a_missing_folder_is_refused_with_the_files_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a folder; .* holds train\.tsv and dev\.tsv$") as caught:
        locate(str(tmp_path / "elsewhere"), WANTED)
    assert str(tmp_path / "elsewhere") in one_line(caught)


def test_a_part_without_a_file_is_refused_with_the_files_of_the_folder(tmp_path: Path) -> None:
    folder = fill(tmp_path, "train.tsv", "notes.txt")
    with pytest.raises(ValueError, match=r"'report' \(dev\.tsv or .*\); it holds notes\.txt, train\.tsv$") as caught:
        locate(str(folder), WANTED)
    assert str(folder) in one_line(caught)


def test_an_empty_folder_is_refused_as_empty(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it holds nothing$"):
        locate(str(tmp_path), WANTED)


def test_a_tilde_stands_for_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "data", "train.tsv", "dev.tsv")
    assert locate("~/data", WANTED)["train"] == [tmp_path / "data" / "train.tsv"]


def test_a_packages_folder_is_located_and_a_missing_package_is_named() -> None:
    (path,) = locate("package:bench/tasks/data", {"all": ["reviews.tsv"]})["all"]
    assert path.is_file()
    with pytest.raises(ValueError, match="'no_such_package_at_all' is not installed") as caught:
        locate("package:no_such_package_at_all/data", {"all": ["reviews.tsv"]})
    one_line(caught)


def test_the_identity_of_local_data_depends_on_bytes_and_not_on_the_folder(tmp_path: Path) -> None:
    base, copy = (fill(tmp_path / name, "train.tsv", "dev.tsv", "notes.txt") for name in ("one", "two"))
    first, second = (data_identity(TaskConf(name="sst2", path=str(folder), files=WANTED)) for folder in (base, copy))
    assert first == second
    assert first.startswith("sha256:")
    (copy / "notes.txt").write_text("not read\n")
    assert data_identity(TaskConf(name="sst2", path=str(copy), files=WANTED)) == first
    (copy / "dev.tsv").write_text("other\n")
    assert data_identity(TaskConf(name="sst2", path=str(copy), files=WANTED)) != first


def test_swapped_files_change_the_identity(tmp_path: Path) -> None:
    folder = fill(tmp_path, "train.tsv", "dev.tsv")
    task = TaskConf(name="sst2", path=str(folder), files=WANTED)
    before = data_identity(task)
    (folder / "train.tsv").rename(folder / "x")
    (folder / "dev.tsv").rename(folder / "train.tsv")
    (folder / "x").rename(folder / "dev.tsv")
    assert data_identity(task) != before


def identity(folder: Path, **files: list[str]) -> str:
    return data_identity(TaskConf(name="mine", path=str(folder), files=files))


def test_the_identity_depends_on_the_files_and_not_on_the_patterns(tmp_path: Path) -> None:
    folder = fill(tmp_path, "train.tsv", "dev.tsv")
    before = identity(folder, train=["train.tsv"], report=["dev.tsv"])
    assert identity(folder, train=["*.csv", "train.tsv"], report=["d*.tsv"]) == before
    (folder / "dev.tsv").rename(folder / "test.tsv")
    assert identity(folder, report=["test.tsv"], train=["train.tsv"]) == before


def test_the_same_files_in_other_parts_change_the_identity(tmp_path: Path) -> None:
    folder = fill(tmp_path, "a.tsv", "b.tsv", "c.tsv")
    layouts = [
        {"train": ["[ab].tsv"], "report": ["c.tsv"]}, {"train": ["a.tsv"], "report": ["[bc].tsv"]},
        {"train": ["c.tsv"], "report": ["[ab].tsv"]}, {"train": ["[abc].tsv"]}, {"all": ["[abc].tsv"]},
    ]  # fmt: skip
    assert len({identity(folder, **layout) for layout in layouts}) == len(layouts)


def test_another_file_ending_changes_the_identity(tmp_path: Path) -> None:
    """A comma separates the columns of a CSV file and not of a TSV file."""
    fill(tmp_path, "train.tsv")
    before = identity(tmp_path, train=["train.*"])
    (tmp_path / "train.tsv").rename(tmp_path / "train.csv")
    assert identity(tmp_path, train=["train.*"]) != before
    (tmp_path / "train.csv").rename(tmp_path / "TRAIN.TSV")
    assert identity(tmp_path, train=["train.*"]) == before


@pytest.mark.parametrize("place", ["a folder", "the hub"])
def test_an_unused_candidate_file_of_a_part_is_noted(place: str, tmp_path: Path) -> None:
    fill(tmp_path, "train.tsv", "dev.tsv", "validation-0.parquet")
    source: dict[str, str] = (
        {"repo": "someone/data", "revision": "0123"} if place == "the hub" else {"path": str(tmp_path)}
    )
    task = TaskConf(name="mine", files=WANTED, **source)
    (note,) = file_notes(task, locate(str(tmp_path), WANTED))
    assert note == "report was read from dev.tsv, not from validation-0.parquet"


def test_the_identity_of_hub_data_is_its_revision() -> None:
    task = TaskConf(name="sst2", repo="nyu-mll/glue", config="sst2", revision=COMMIT)
    assert data_identity(task) == f"nyu-mll/glue/sst2@{COMMIT}"


@pytest.mark.parametrize("task", [TaskConf(name="mine"), TaskConf(name="mine", repo="someone/data")])
def test_a_task_that_names_no_data_is_refused(task: TaskConf) -> None:
    with pytest.raises(ValueError, match=r"task 'mine' names no data: set task\.path=") as caught:
        data_identity(task)
    one_line(caught)


def test_tsv_and_parquet_hold_the_same_table(tmp_path: Path) -> None:
    tsv = read_table(table(tmp_path, "sentence\tlabel\na film\t1\ndull\t0\n"), COLUMNS)
    pd.DataFrame({"sentence": ["a film", "dull"], "label": ["1", "0"]}).to_parquet(tmp_path / "train.parquet")
    assert tsv.to_dict("list") == read_table(tmp_path / "train.parquet", COLUMNS).to_dict("list")


@pytest.mark.parametrize("text", ['"quoted" and "', "null", "NA", "", "007", "1e3", "True", "it's # 5", "caf\u00e9"])
def test_a_text_is_kept_verbatim(text: str, tmp_path: Path) -> None:
    assert read_table(table(tmp_path, f"sentence\tlabel\n{text}\t1\n"), COLUMNS)["sentence"].tolist() == [text]


def test_an_open_quote_does_not_swallow_the_next_row(tmp_path: Path) -> None:
    rows = read_table(table(tmp_path, 'sentence\tlabel\n"open\t1\nnext"\t0\n'), COLUMNS)
    assert rows["sentence"].tolist() == ['"open', 'next"']


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfsentence\tlabel\na\t1\n",
        b"sentence\tlabel\r\na\t1\r\n",
        b"sentence\tlabel\na\t1",
    ],
)
def test_byte_order_marks_and_line_endings_are_stripped(content: bytes, tmp_path: Path) -> None:
    assert read_table(table(tmp_path, content), COLUMNS).to_dict("list") == {"sentence": ["a"], "label": ["1"]}


def complaint(path: Path, columns: dict[str, list[str]] = COLUMNS) -> str:
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        read_table(path, columns)
    assert str(caught.value).startswith(f"{path}: ")
    return one_line(caught)


def test_a_missing_column_is_named_with_the_existing_columns(tmp_path: Path) -> None:
    message = complaint(table(tmp_path, "text\tlabel\na\t1\n"))
    assert "no column 'sentence'; it has text, label" in message


def test_a_column_may_have_alternative_names(tmp_path: Path) -> None:
    names = {"text": ["sentence", "review"], "label": ["label"]}
    for name in ("sentence", "review"):
        path = table(tmp_path, f"{name}\tlabel\tmore\na\t1\tb\n", f"{name}.tsv")
        assert read_table(path, names).to_dict("list") == {"text": ["a"], "label": ["1"]}
    assert "no column 'sentence' or 'review'" in complaint(table(tmp_path, "story\tlabel\na\t1\n"), names)


def test_a_file_without_a_header_gets_the_known_column_names(tmp_path: Path) -> None:
    path = table(tmp_path, "x\t1\t\ta film\ny\t0\t*\tdull\n")
    rows = read_table(path, COLUMNS, ["source", "label", "star", "sentence"])
    assert rows.to_dict("list") == {"sentence": ["a film", "dull"], "label": ["1", "0"]}


def test_quoted_csv_texts_may_hold_commas(tmp_path: Path) -> None:
    path = table(tmp_path, 'label,sentence\n1,"a film, so ""good"""\n', "mine.csv")
    assert read_table(path, COLUMNS).to_dict("list") == {"sentence": ['a film, so "good"'], "label": ["1"]}


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_refused(content: str, tmp_path: Path) -> None:
    assert "cannot be read" in complaint(table(tmp_path, content))


def test_a_header_alone_is_refused(tmp_path: Path) -> None:
    assert "no rows below the header" in complaint(table(tmp_path, "sentence\tlabel\n"))


@pytest.mark.parametrize("before", [0, 1, 50_000])
def test_the_line_that_is_not_utf8_is_named(before: int, tmp_path: Path) -> None:
    content = b"sentence\tlabel\n" + b"some text\t1\n" * before + b"caf\xe9\t1\n" + b"text\t1\n"
    assert f"line {before + 2} is not UTF-8" in complaint(table(tmp_path, content))


ENCODED = {
    "utf-16": "utf-16",  # with a byte order mark
    "utf-16-le": "utf-16le",
    "utf-16-be": "utf-16be",
    "utf-32": "utf-32",
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_utf16_is_refused_with_the_command_that_converts_it(encoding: str, tmp_path: Path) -> None:
    expected = f"not UTF-8; convert it: iconv -f {ENCODED[encoding]} -t utf-8"
    for name in ("train.tsv", "train.csv"):
        assert expected in complaint(table(tmp_path, "sentence,label\na caf\u00e9,1\n".encode(encoding), name))
    path = table(tmp_path, '{"text": "a caf\u00e9"}\n'.encode(encoding), "train.jsonl")
    with pytest.raises(ValueError, match=expected):
        read_lines(path)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    content = b"sentence\tlabel\na\t1\na \x00 film\t1\n"
    assert "line 3 holds a NUL byte, so this is not a text file" in complaint(table(tmp_path, content))


@pytest.mark.parametrize("name", ["mine.csv.gz", "MINE.CSV.GZ", "mine.Csv", "MINE.CSV"])
def test_a_csv_file_may_be_gzipped_and_named_in_any_case(name: str, tmp_path: Path) -> None:
    content = b'label,sentence\n1,"a film, good"\n'
    path = table(tmp_path, gzip.compress(content) if name.lower().endswith("gz") else content, name)
    assert read_table(path, COLUMNS).to_dict("list") == {"sentence": ["a film, good"], "label": ["1"]}


def test_json_lines_may_be_gzipped_and_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    content = '\ufeff{"text": "a film"}\n{"text": "dull"}\n'.encode()
    for name, written in (("mine.jsonl", content), ("mine.jsonl.gz", gzip.compress(content))):
        assert read_lines(table(tmp_path, written, name)) == [{"text": "a film"}, {"text": "dull"}]


@pytest.mark.parametrize(
    "content", [b"no gzip at all", gzip.compress(b"sentence,label\na,1\n", mtime=0)[:-9]], ids=["no gzip", "torn"]
)
def test_a_torn_gzip_file_is_refused(content: bytes, tmp_path: Path) -> None:
    assert "cannot be read" in complaint(table(tmp_path, content, "mine.csv.gz"))


SWALLOWED = {
    "closed by a quote within a text": '"open text,1\na b,0\nc d,0\nhe said "yes",1\nlast,0\n',
    "closed by the next quoted text": '"open text,1\na b,0\nc d,0\n"one, two",1\nlast,0\n',
    "closed by a quote at the end": '"open text,1\na b,0\nc d,0\nof 10"",1\nlast,0\n'.replace('""', '"'),
    "never closed": 'first,1\na b,0\nc d,0\ne f,0\nlast "one",1\n"open text,1\na b,0\nc d,0\n',
}


@pytest.mark.parametrize("name", SWALLOWED)
def test_a_quote_that_swallows_rows_is_refused_with_lines_and_rows(name: str, tmp_path: Path) -> None:
    content = "sentence,label\n" + SWALLOWED[name]
    message = complaint(table(tmp_path, content, "mine.csv"))
    opened = 1 + next(line for line, text in enumerate(content.splitlines()) if text.startswith('"open'))
    assert (
        f"the quote that opens in line {opened} is not closed before line {opened + 3 - (name == 'never closed')}"
        in message
    )
    assert f"the file has {len(content.splitlines())} lines, and " in message


def test_texts_that_span_lines_are_read_and_noted(tmp_path: Path) -> None:
    content = 'sentence,label\n"one, 1\ntwo\n\nthree",1\n"a ""b"" c",0\n\nd,1\n'
    rows = read_table(table(tmp_path, content, "mine.csv"), COLUMNS)
    assert rows["sentence"].tolist() == ["one, 1\ntwo\n\nthree", 'a "b" c', "d"]
    assert rows.attrs[NOTE] == "mine.csv: 8 lines hold 3 rows, because some texts span lines"
    long = "word, " * 40_000 + "\n" + "word" * 10
    rows = read_table(table(tmp_path, f'sentence,label\n"{long}",1\n', "mine.csv"), COLUMNS)
    assert rows["sentence"].tolist() == [long]


@pytest.mark.parametrize("content", ['"a" b,1\nc,0\n', '"a ""b"" c",1\nd,0\n', "a\r\n", '5" a,1\n5" b,0\n'])
def test_quotes_within_a_line_are_accepted(content: str, tmp_path: Path) -> None:
    rows = read_table(table(tmp_path, "sentence,label\n" + content, "mine.csv"), COLUMNS)
    assert len(rows) == len(content.splitlines())
    assert NOTE not in rows.attrs


def test_a_row_with_a_field_too_many_is_named(tmp_path: Path) -> None:
    assert "line 3" in complaint(table(tmp_path, "sentence\tlabel\na\t1\nb\tc\t1\n"))


def test_rows_that_are_all_longer_than_the_header_are_refused(tmp_path: Path) -> None:
    assert "more fields than the header" in complaint(table(tmp_path, "sentence\tlabel\na\tb\t1\nc\td\t0\n"))


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing else", b"sentence\tlabel\na\t1\n"])
def test_a_file_that_is_not_parquet_is_refused(content: bytes, tmp_path: Path) -> None:
    assert "cannot be read" in complaint(table(tmp_path, content, "train.parquet"))
