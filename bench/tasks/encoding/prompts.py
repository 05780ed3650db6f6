"""Write multiple-choice questions as prompts, optionally preceded by solved examples."""

from collections.abc import Sequence
from string import ascii_uppercase

from bench.config.enums import Form
from bench.config.schema import PromptConf
from bench.tasks.base import Split
from bench.tasks.encoding.few_shot import Demonstrations

UNSEEN = (Form.options, Form.multiple_choice)  # forms in which the prompt does not list the options


class Prompts:
    """Writes the prompts and answers of one form.

    Attributes:
        conf: the templates.
        form: how questions are put to the model.
        demonstrations: draws the solved examples; None for no examples.
        reasons: whether the model reasons before it names a letter.
        solved: training rows already written as solved examples, by row.
    """

    def __init__(self, conf: PromptConf, form: Form, demonstrations: Demonstrations | None, *, reasons: bool) -> None:
        self.conf, self.form, self.demonstrations, self.reasons = conf, form, demonstrations, reasons
        self.solved: dict[int, str] = {}

    def of(self, split: Split, *, own: bool) -> list[str]:
        """Return the prompt of each row, including its solved examples.

        Args:
            split: the questions.
            own: whether they are the training part, from which examples are drawn.
        """
        end = self.conf.reason if self.reasons else ""
        return [self._examples(row, own=own) + self.prompt(split, row) + end for row in range(len(split))]

    def prompt(self, split: Split, row: int) -> str:
        """Return the prompt of one row, without solved examples."""
        template = self.conf.unseen if self.form in UNSEEN else self.conf.text
        return template.format(question=split.texts[row], options=self._options((split.options or [])[row]))

    def answer(self, options: Sequence[str], number: int) -> str:
        """Return the text that answers a question with the option of this number, counted from 0."""
        templates = {Form.letters: self.conf.letters, Form.generate: self.conf.written}
        template = templates.get(self.form, self.conf.unseen_answer)
        return template.format(letter=ascii_uppercase[number], option=options[number])

    def letters(self, count: int) -> list[str]:
        """Return the text of each of the first `count` letters, as it follows the prompt or the reasoning."""
        template = " {letter}" if self.reasons else self.conf.letters
        return [template.format(letter=letter) for letter in ascii_uppercase[:count]]

    def _options(self, options: Sequence[str]) -> str:
        lines = (
            self.conf.option.format(letter=letter, option=option)
            for letter, option in zip(ascii_uppercase, options, strict=False)
        )
        return self.conf.between.join(lines)

    def _examples(self, row: int, *, own: bool) -> str:
        """Return the solved examples that precede a row."""
        if self.demonstrations is None:
            return ""
        return "".join(
            self._solved(self.demonstrations.train, example) for example in self.demonstrations.draw(row, own=own)
        )

    def _solved(self, train: Split, row: int) -> str:
        if row not in self.solved:
            options, label = (train.options or [])[row], int(train.labels[row])
            self.solved[row] = self.prompt(train, row) + self.answer(options, label) + self.conf.apart
        return self.solved[row]
