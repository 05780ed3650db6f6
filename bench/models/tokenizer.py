"""Whether a tokenizer is the one that a model was trained with, as far as that can be told without its weights."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from bench.models.source import Source

# Any of these sets is a whole tokenizer.
FILES = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("tokenizer.model",),
    ("sentencepiece.bpe.model",),
    ("spiece.model",),
)
FEWEST = 0.1  # entries for each row of a trained embedding; rows that pad it to a round number are far fewer


def check_files(source: Source) -> None:
    """Refuse a local folder without a tokenizer: transformers would make one up, of special tokens alone.

    Raises:
        ValueError: The folder holds none of the sets of files.
    """
    folder = Path(source.location)
    if folder.is_dir() and not any(all((folder / name).is_file() for name in names) for names in FILES):
        raise ValueError(
            f"no tokenizer files in {folder}: copy the model's own there (tokenizer.json and tokenizer_config.json), "
            "or save both together with save_pretrained"
        )


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, source: Source) -> None:
    """Refuse a tokenizer whose numbers mean nothing to the model, or that cannot be used here.

    Raises:
        ValueError: It is not a fast one, cannot pad, knows next to no words, or has more entries than the embedding
            has rows.
    """
    where, remedy = f"the tokenizer of {source.location}", "use the one that the model was trained with"
    if not tokenizer.is_fast:
        raise ValueError(f"{where} is not a fast one: save it with a tokenizer.json")
    if tokenizer.pad_token is None:
        raise ValueError(
            f"{where} has neither a padding token nor an end-of-text token: name one of its entries as pad_token in "
            "tokenizer_config.json"
        )
    vocabulary, rows = tokenizer.get_vocab(), source.config.get("vocab_size")
    words = len(vocabulary) - len(set(tokenizer.all_special_ids))
    if words <= 0:
        raise ValueError(f"{where} has {len(vocabulary)} entries and no words: {remedy}")
    if rows is None:
        return
    if (largest := max(vocabulary.values())) >= rows:
        raise ValueError(
            f"{where} numbers its entries up to {largest}, but the model's embedding has {rows} rows (vocab_size): "
            f"{remedy}"
        )
    if not source.random and len(vocabulary) < FEWEST * rows:
        raise ValueError(
            f"{where} has {len(vocabulary)} entries, but the model's embedding has {rows} rows (vocab_size): {remedy}"
        )
