"""Byte-level BPE tokenizers: trained on abstracts, kept as one JSON file, applied to texts."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|endoftext|>"
NAME = "tokenizer.json"


def train(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer as that of GPT-2 is made.

    Args:
        texts: any number.
        vocabulary: tokens, bytes and the end of text included; at least 257. Fewer come out of
            texts that have no more pairs to merge.

    Raises:
        ValueError: if the vocabulary cannot hold every byte.
    """
    if vocabulary < 257:
        raise ValueError(
            f"vocabulary is {vocabulary}; allowed is at least 257, the bytes and an end"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(tokenizer: Tokenizer, path: str | Path) -> None:
    """Write a tokenizer as one JSON file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))


def load(folder: str | Path) -> Tokenizer:
    """Read the tokenizer of a folder, or of a JSON file.

    Args:
        folder: holds ``tokenizer.json``, as a folder of the hub does, or is that file.

    Raises:
        ValueError: if there is none, or if it has no end of text.
    """
    path = Path(folder)
    path = path / NAME if path.is_dir() else path
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions
        raise ValueError(f"{path}: not a readable tokenizer ({error})") from None
    if tokenizer.token_to_id(END) is None:
        raise ValueError(f"{path}: has no token {END}; allowed is a tokenizer of GPT-2's form")
    return tokenizer


def end_of(tokenizer: Tokenizer) -> int:
    """The number of the token that ends, starts and pads texts."""
    found = tokenizer.token_to_id(END)
    assert found is not None, "load has checked it"
    return int(found)


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Tokens of each text, int64, nothing added."""
    return [np.asarray(one.ids, np.int64) for one in tokenizer.encode_batch(list(texts))]


def padded(tokenizer: Tokenizer, texts: Sequence[str], context: int) -> np.ndarray:
    """One row per text, cut or filled to the context: configuration I.

    Args:
        tokenizer: see :func:`load`.
        texts: n.
        context: tokens of a row, the ends of text at start and end included; 3 or more.

    Returns:
        int64 (n, context): an end of text, the text, ends of text. The first of those that follow
        a text is learnt, the others are padding.
    """
    end = end_of(tokenizer)
    rows = np.full((len(texts), context), end)
    for row, ids in zip(rows, encode(tokenizer, texts), strict=True):
        kept = ids[: context - 1]
        row[1 : 1 + len(kept)] = kept
    return rows


def chunked(tokenizer: Tokenizer, texts: Sequence[str], context: int) -> np.ndarray:
    """All of every text, in pieces that are filled to the context: configuration II.

    Args:
        tokenizer: see :func:`load`.
        texts: any number.
        context: tokens of a row, 3 or more.

    Returns:
        int64 (m, context): every piece after an end of text, filled with ends of text.
    """
    end, size, pieces = end_of(tokenizer), context - 1, []
    for ids in encode(tokenizer, texts):
        whole = np.append(ids, end)
        pieces += [whole[i : i + size] for i in range(0, len(whole), size)]
    rows = np.full((len(pieces), context), end)
    for row, piece in zip(rows, pieces, strict=True):
        row[1 : 1 + len(piece)] = piece
    return rows


def labels(rows: np.ndarray, end: int, *, padding_counts: bool) -> np.ndarray:
    """What each position of each row should predict next.

    Args:
        rows: int64 (n, context).
        end: token of :func:`end_of`.
        padding_counts: whether padding is learnt like text, as the released configuration I does;
            otherwise only the first end after a text is.

    Returns:
        int64 (n, context - 1): the next token, or -100 where nothing is learnt.
    """
    following = rows[:, 1:].copy()
    if not padding_counts:
        repeated = (following == end) & (rows[:, :-1] == end)
        following[repeated] = -100
    return following
