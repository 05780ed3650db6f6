"""Classify texts by the word that a model predicts for a mask (Gao et al. 2021, arXiv:2012.15723)."""

from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from bench.config.schema import TaskConf
from bench.tasks.base import Split, Task
from bench.tasks.encoding.characters import check_characters
from bench.tasks.encoding.few_shot import Demonstrations
from bench.tasks.encoding.rows import Encoded, Rows, end_to_end, rows_of
from bench.tasks.encoding.template import shortened
from bench.tasks.encoding.token_cache import cached, tokenizer_hash
from bench.tasks.outputs import Masked


def encode_cloze(
    task: Task,
    conf: TaskConf,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    cache: Path,
    demonstrations: Demonstrations,
) -> Encoded:
    """Tokenise all parts of a task, or read them from the cache.

    Args:
        task: the texts and labels.
        conf: the cloze, the word of each label and the metrics.
        tokenizer: the model's tokenizer.
        max_length: maximum number of tokens of a row and its examples, which all have an equal share.
        cache: folder of the token cache.
        demonstrations: draws the solved examples.

    Raises:
        ValueError: a word is not a single token, the tokenizer has no mask (or no separator between examples), the
            cloze leaves no room for a text, or a text has a lone surrogate.
    """
    check_characters(task)
    writer = ClozeEncoder(conf, tokenizer, max_length, cache, demonstrations)
    parts = {name: writer.rows(split, own=name == "train") for name, split in task.parts.items() if len(split)}
    metrics = tuple(metric.value for metric in conf.metrics)
    return Encoded.of(parts, metrics=metrics, notes=(task.note,) if task.note else ())


class ClozeEncoder:
    """Puts texts into the cloze, each followed by its solved examples."""

    def __init__(
        self,
        conf: TaskConf,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        cache: Path,
        demonstrations: Demonstrations,
    ) -> None:
        if tokenizer.mask_token is None or (demonstrations.shots and tokenizer.sep_token is None):
            missing = "mask token" if tokenizer.mask_token is None else "separator to put between solved examples"
            raise ValueError(f"task.form=mask: this model's tokenizer has no {missing}; use task.form=head")
        self.cloze, self.words = str(conf.cloze), conf.words
        self.tokenizer, self.mask, self.cache = tokenizer, str(tokenizer.mask_token), cache
        self.salt = [tokenizer_hash(tokenizer), max_length]
        self.read = Masked(tuple(self._token(word) for word in conf.words))
        share = max_length // (1 + demonstrations.shots)
        self.room = share - len(self._ids(self._put(("", ""), self.mask)))
        if self.room < 1:
            raise ValueError(
                f"task.cloze={self.cloze!r} leaves no room for a text in {share} of the {max_length} tokens; choose a "
                "larger protocol.max_length, or fewer examples"
            )
        self.demonstrations = demonstrations
        self.examples = self._cut(demonstrations.train) if demonstrations.shots else []

    def rows(self, split: Split, *, own: bool) -> Rows:
        """Return the encoded rows of one part.

        Args:
            split: the texts and labels.
            own: whether this is the training part, from which examples are drawn.
        """
        texts = [
            f" {self.tokenizer.sep_token} ".join(
                [
                    self._put(text, self.mask),
                    *(self._solved(example) for example in self.demonstrations.draw(row, own=own)),
                ]
            )
            for row, text in enumerate(self._cut(split))
        ]

        def make() -> dict[str, np.ndarray]:
            ids = [self._ids(text) for text in texts]
            positions = [len(row) - row.index(self.tokenizer.mask_token_id) for row in ids]
            return end_to_end(ids) | {"mask": np.array(positions)}

        arrays = cached("cloze", [*self.salt, texts], self.cache, make)
        return rows_of(arrays, split.labels, self.tokenizer, read=self.read)

    def _solved(self, row: int) -> str:
        return self._put(self.examples[row], self.words[int(self.demonstrations.train.labels[row])])

    def _put(self, texts: tuple[str, str], word: str) -> str:
        return self.cloze.format(text=texts[0], second=texts[1], mask=word)

    def _cut(self, split: Split) -> list[tuple[str, str]]:
        """Return the one or two texts of each row, cut to the available room.

        Masks are removed from the texts, because a row must have exactly one.
        """
        columns = [split.texts] if split.second is None else [split.texts, split.second]
        room = self.room // len(columns)
        cut = [shortened([text.replace(self.mask, "") for text in column], self.tokenizer, room) for column in columns]
        return list(zip(cut[0], cut[-1], strict=True))

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text)["input_ids"]
        return ids

    def _token(self, word: str) -> int:
        """Return the single token that stands for a word in place of the mask."""
        masked, filled = (self._ids(self._put(("", ""), filler)) for filler in (self.mask, word))
        position = masked.index(self.tokenizer.mask_token_id)
        if len(filled) != len(masked) or filled[position] == self.tokenizer.unk_token_id:
            raise ValueError(
                f"task.words: {word!r} is not a single token of this model's tokenizer; choose a more frequent word"
            )
        return filled[position]
