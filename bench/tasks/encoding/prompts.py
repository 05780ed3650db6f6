"""Multiple-choice questions put into words, with solved examples before them where there are such."""

from collections.abc import Sequence
from string import ascii_uppercase

from bench.config.enums import Form
from bench.config.schema import PromptConf
from bench.tasks.base import Split
from bench.tasks.encoding.few_shot import Demonstrations

UNSEEN = (Form.options, Form.multiple_choice)  # the model does not see the options together


class Prompts:
    """The words of one form. reasons: the model thinks before it names a letter."""

    def __init__(self, conf: PromptConf, form: Form, beside: Demonstrations | None, *, reasons: bool) -> None:
        self.conf, self.form, self.beside, self.reasons = conf, form, beside, reasons
        self.solved: dict[int, str] = {}

    def of(self, split: Split, *, own: bool) -> list[str]:
        """The prompt of each row. own: they are the training part's, from which examples are drawn."""
        end = self.conf.reason if self.reasons else ""
        return [self._examples(row, own=own) + self.one(split, row) + end for row in range(len(split))]

    def one(self, split: Split, row: int) -> str:
        """The prompt of a row alone."""
        form = self.conf.unseen if self.form in UNSEEN else self.conf.text
        return form.format(question=split.texts[row], options=self._options((split.options or [])[row]))

    def answer(self, options: Sequence[str], number: int) -> str:
        """What says that an option is right."""
        ways = {Form.letters: self.conf.letters, Form.generate: self.conf.written}
        form = ways.get(self.form, self.conf.unseen_answer)
        return form.format(letter=ascii_uppercase[number], option=options[number])

    def letters(self, count: int) -> list[str]:
        """What says each letter, behind a prompt or behind a thought."""
        form = " {letter}" if self.reasons else self.conf.letters
        return [form.format(letter=letter) for letter in ascii_uppercase[:count]]

    def _options(self, options: Sequence[str]) -> str:
        lines = (
            self.conf.option.format(letter=letter, option=option)
            for letter, option in zip(ascii_uppercase, options, strict=False)
        )
        return self.conf.between.join(lines)

    def _examples(self, row: int, *, own: bool) -> str:
        """Solved ones, before a row."""
        if self.beside is None:
            return ""
        return "".join(self._solved(self.beside.train, one) for one in self.beside.beside(row, own=own))

    def _solved(self, train: Split, row: int) -> str:
        if row not in self.solved:
            options, label = (train.options or [])[row], int(train.labels[row])
            self.solved[row] = self.one(train, row) + self.answer(options, label) + self.conf.apart
        return self.solved[row]
