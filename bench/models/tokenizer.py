"""Check that a tokenizer is the one that a model was trained with, as far as possible without the weights."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from bench.models.source import Source

# Each of these sets of files is a complete tokenizer.
FILES = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("tokenizer.model",),
    ("sentencepiece.bpe.model",),
    ("spiece.model",),
)
# Smallest number of entries per row of a trained embedding. Rows that only pad it to a round size are far fewer.
FEWEST = 0.1


def check_files(source: Source) -> None:
    """Refuse a local folder without tokenizer files.

    transformers would silently build a tokenizer that knows only special tokens.

    Args:
        source: The model. One on the hub is not checked.

    Raises:
        ValueError: The folder holds none of the file sets in FILES completely.
    """
    folder = Path(source.location)
    if folder.is_dir() and not any(all((folder / name).is_file() for name in names) for names in FILES):
        raise ValueError(
            f"no tokenizer files in {folder}: copy the model's tokenizer.json and tokenizer_config.json there, "
            "or save the model and its tokenizer together with save_pretrained"
        )


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, source: Source) -> None:
    """Refuse a tokenizer that does not match the model or cannot be used here.

    Args:
        tokenizer: The tokenizer that was loaded for the model.
        source: The model. Its `vocab_size`, the number of embedding rows, is compared with the vocabulary.

    Raises:
        ValueError: The tokenizer is not a fast one, cannot pad, knows hardly any words, or has a token id beyond the
            rows of the embedding.
    """
    subject, remedy = f"the tokenizer of {source.location}", "use the one that the model was trained with"
    if not tokenizer.is_fast:
        raise ValueError(f"{subject} is not a fast tokenizer: save it with a tokenizer.json")
    if tokenizer.pad_token is None:
        raise ValueError(
            f"{subject} has neither a padding token nor an end-of-text token: set pad_token in tokenizer_config.json "
            "to one of its entries"
        )
    vocabulary, rows = tokenizer.get_vocab(), source.config.get("vocab_size")
    words = len(vocabulary) - len(set(tokenizer.all_special_ids))
    if words <= 0:
        raise ValueError(f"{subject} has {len(vocabulary)} entries but no words: {remedy}")
    if rows is None:
        return
    if (largest := max(vocabulary.values())) >= rows:
        raise ValueError(
            f"{subject} has token ids up to {largest}, but the model's embedding has {rows} rows (vocab_size): {remedy}"
        )
    if not source.random and len(vocabulary) < FEWEST * rows:
        raise ValueError(
            f"{subject} has {len(vocabulary)} entries, but the model's embedding has {rows} rows (vocab_size): {remedy}"
        )
