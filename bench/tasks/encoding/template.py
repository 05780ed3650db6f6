"""Put words around each text: the anchor tokens of a method's template."""

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from bench.tasks.base import Split, Task
from bench.tasks.encoding.characters import check_characters


def worded(task: Task, template: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Task:
    """Put every text of a task into a template.

    Texts that are too long are cut first, so that the words of the template are always complete.

    Args:
        task: the texts.
        template: the words, with {text} where the text goes.
        tokenizer: the model's tokenizer.
        max_length: maximum number of tokens of a row.

    Raises:
        ValueError: the template leaves no room for a text, or a text has a lone surrogate.
    """
    check_characters(task)
    room = max_length - len(tokenizer(template.format(text=""), add_special_tokens=False)["input_ids"])
    if room <= tokenizer.num_special_tokens_to_add():
        raise ValueError(
            f"method.template={template!r} leaves no room for a text in protocol.max_length={max_length} tokens; "
            "choose a longer max_length or fewer words"
        )
    return task.map(lambda split: _worded(split, template, tokenizer, room))


def _worded(split: Split, template: str, tokenizer: PreTrainedTokenizerBase, room: int) -> Split:
    """Put the texts of one part into the template. room: tokens left for a text, including special tokens."""
    texts = shortened(split.texts, tokenizer, room - tokenizer.num_special_tokens_to_add())
    return replace(split, texts=[template.format(text=text) for text in texts])


def shortened(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, room: int) -> list[str]:
    """Return the beginning of each text, at most `room` tokens long, without special tokens."""
    settings = {"truncation": True, "add_special_tokens": False, "return_offsets_mapping": True}
    cut = tokenizer(list(texts), max_length=room, **settings)["offset_mapping"]
    return [text[: max((end for _, end in offsets), default=0)] for text, offsets in zip(texts, cut, strict=True)]
