"""The embedded reviews: fixed, balanced, free of duplicates, and not solvable by counting words."""

import hashlib
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from hydra.utils import instantiate
from omegaconf import OmegaConf

from bench.config.schema import TaskConf
from bench.tasks.base import Task
from bench.tasks.loaders.locate import data_identity
from bench.tasks.loaders.reviews import load

FILE = REPOSITORY / "bench" / "tasks" / "data" / "reviews.tsv"
GOLDEN = "a714e28d3bbc5cd9055bde8c59919babdb13217c95f8bddfe6038bc3ad96e1b8"
PARTS = ("train", "select", "report")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    lines = [line.split("\t") for line in FILE.read_text(encoding="ascii").splitlines()]
    return pd.DataFrame(lines[1:], columns=lines[0])


@pytest.fixture(scope="module")
def task() -> Task:
    return load(conf(), data_seed=0)


def conf() -> TaskConf:
    loaded = OmegaConf.to_object(
        OmegaConf.merge(TaskConf, OmegaConf.load(REPOSITORY / "conf" / "task" / "reviews.yaml"))
    )
    assert isinstance(loaded, TaskConf)
    return loaded


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def similarity(texts: list[str]) -> np.ndarray:
    """Jaccard similarity of the word sets of all pairs: [texts, texts], zero on the diagonal."""
    sets = [set(words(text)) for text in texts]
    number = {word: n for n, word in enumerate(sorted(set().union(*sets)))}
    present = np.zeros((len(sets), len(number)), dtype=np.float32)
    for row, word_set in enumerate(sets):
        present[row, [number[word] for word in word_set]] = 1
    sizes, common = present.sum(1), present @ present.T
    np.fill_diagonal(common, 0)
    return common / (sizes[:, None] + sizes - common)


def test_the_file_has_the_hash_of_recorded_results() -> None:
    # Results identify the data by this hash. A change gives every recorded cell on reviews a new identity.
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == GOLDEN
    listed = hashlib.sha256(f"all .tsv {GOLDEN}\n".encode()).hexdigest()
    assert data_identity(conf()) == f"sha256:{listed}"


def test_the_parts_have_the_sizes_that_the_documents_name(table: pd.DataFrame) -> None:
    assert len(table) >= 1500
    assert Counter(table["part"]) == {"train": 1200, "select": 240, "report": 480}
    assert len(table[table["part"] == "select"]) == conf().select_rows


@pytest.mark.parametrize("part", PARTS)
def test_labels_are_balanced_and_traits_keep_their_share_in_every_part(part: str, table: pd.DataFrame) -> None:
    rows = table[table["part"] == part]
    assert Counter(rows["label"]) == dict.fromkeys("01", len(rows) // 2)
    for trait, group in rows.groupby("trait"):
        share = (table["trait"] == trait).mean()
        assert len(group) == pytest.approx(share * len(rows), abs=0.02 * len(rows))


def test_the_loader_returns_the_file_row_by_row(task: Task, table: pd.DataFrame) -> None:
    for part in PARTS:
        rows, split = table[table["part"] == part], getattr(task, part)
        assert split.texts == rows["text"].tolist()
        assert split.labels == [int(label) for label in rows["label"]]


def test_the_parts_are_the_same_for_every_data_seed(task: Task) -> None:
    assert load(conf(), data_seed=1) == task
    assert instantiate(conf().load, _partial_=True)(conf(), 2) == task


def test_texts_are_plain_ascii_of_four_to_forty_words(table: pd.DataFrame) -> None:
    for text in table["text"]:
        assert text.isascii()
        assert text.isprintable()
        assert text == " ".join(text.split())
        assert 4 <= len(text.split()) <= 40, text


def test_no_text_is_a_near_duplicate_of_another(table: pd.DataFrame) -> None:
    similarities = similarity(table["text"].tolist())
    first, second = np.unravel_index(similarities.argmax(), similarities.shape)
    assert similarities.max() <= 0.6, f"{table['text'][first]}\n{table['text'][second]}"


def test_the_similarity_detects_a_duplicate() -> None:
    similarities = similarity(["A dull, dull film.", "a DULL film", "a dull play", "nothing in common"])
    assert similarities[0, 1] == 1
    assert similarities[0, 2] == 0.5
    assert not similarities[3].any()


def test_no_opening_of_five_words_is_a_template(table: pd.DataFrame) -> None:
    openings = Counter(" ".join(words(text)[:5]) for text in table["text"])
    assert max(openings.values()) <= 5, openings.most_common(1)


def test_counting_words_does_not_solve_the_task(task: Task) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    counts = CountVectorizer()
    model = LogisticRegression(max_iter=1000).fit(counts.fit_transform(task.train.texts), task.train.labels)
    score = model.score(counts.transform(task.report.texts), task.report.labels)
    assert 0.5 < score < 0.72
