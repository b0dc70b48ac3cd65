"""The table of facts that a language model is asked: read, checked, turned into prompts."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from patchwork import tables
from patchwork.language import tokens

PARAPHRASES = (0, 1)
ROLES = ("tested", "question_training")
KINDS = ("definitional", "associative")
_WORDS = {"role": ROLES, "kind": KINDS}


def read(path: str | Path) -> pd.DataFrame:
    """Read and check a table of facts.

    Args:
        path: a ``facts.csv``, see docs/tables.md.

    Returns:
        Its rows in order, ``fact`` counting from 0; ``multi_token`` is bool.

    Raises:
        ValueError: one line naming the file and what is wrong: a missing column, an unknown word,
            a partner that is no fact or has the same answer, a prompt without its subject.
    """
    try:
        frame = pd.read_csv(path, dtype={"answers": str, "answer": str, "foil": str})
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable table ({error})") from None
    needed = list(tables.schemas()["facts.csv"].columns)
    for name in needed:
        if name not in frame.columns:
            raise ValueError(f"{path}: lacks the column {name!r}; needed are {', '.join(needed)}")
        if frame[name].isna().any():
            row = int(frame[name].isna().to_numpy().argmax())
            raise ValueError(
                f"{path}: {name} of row {row} is empty; allowed is a value in every row"
            )
    for name, words in _WORDS.items():
        odd = frame[~frame[name].isin(words)]
        if len(odd):
            raise ValueError(
                f"{path}: {name} of row {odd.index[0]} is {odd[name].iat[0]!r}; allowed is "
                f"{', '.join(words)}"
            )
    if not (frame["fact"] == np.arange(len(frame))).all():
        raise ValueError(f"{path}: fact does not count the rows; allowed is 0 to {len(frame) - 1}")
    _check_partners(frame, path)
    fact: Any
    for fact in frame.itertuples():
        for i in PARAPHRASES:
            prompt = getattr(fact, f"prompt_{i}")
            if str(fact.subject) not in prompt:
                raise ValueError(
                    f"{path}: prompt_{i} of fact {fact.fact} is {prompt!r}; allowed is one that "
                    f"names the subject, {fact.subject}"
                )
    return frame.assign(multi_token=frame["multi_token"].astype(bool))


def _check_partners(frame: pd.DataFrame, path: str | Path) -> None:
    row: Any
    for row in frame.itertuples():
        if row.partner not in range(len(frame)):
            raise ValueError(
                f"{path}: partner of fact {row.fact} is {row.partner}; allowed is the number of "
                f"another fact, 0 to {len(frame) - 1}"
            )
        other = frame.iloc[row.partner]
        if other["kind"] != row.kind or other["answer"] == row.answer:
            raise ValueError(
                f"{path}: partner of fact {row.fact} is {row.partner}; allowed is a fact of the "
                f"same kind, {row.kind}, with another answer than {row.answer}"
            )


def prompts(frame: pd.DataFrame, tokenizer: Tokenizer, paraphrase: int) -> np.ndarray:
    """The tokens of a prompt of every fact, after an end of text.

    Args:
        frame: of :func:`read`.
        tokenizer: see :func:`patchwork.language.tokens.load`.
        paraphrase: 0 or 1.

    Returns:
        int64 (facts, length): the model is asked for what follows the last one. The positions in
        the table count columns of this.

    Raises:
        ValueError: if prompts differ in length, or the subject is not where the table says.
    """
    rows = tokens.encode(tokenizer, list(frame[f"prompt_{paraphrase}"]))
    lengths = sorted({len(row) for row in rows})
    if len(lengths) != 1:
        raise ValueError(
            f"prompt_{paraphrase} has {lengths[0]} to {lengths[-1]} tokens; allowed is one length"
        )
    ends = np.full((len(rows), 1), tokens.end_of(tokenizer))
    found = np.concatenate([ends, np.stack(rows)], axis=1)
    subjects = answers(tokenizer, list(frame["subject"]))
    for row, subject, first, last in zip(
        found, subjects, frame[f"subject_start_{paraphrase}"], frame[f"subject_end_{paraphrase}"],
        strict=True,
    ):  # fmt: skip
        if row[first : last + 1].tolist() != subject:
            raise ValueError(
                f"subject_start_{paraphrase} is {first}; allowed is where the {len(subject)} "
                "tokens of the subject stand, the end of text before the prompt counted as 0"
            )
    return found


def answers(tokenizer: Tokenizer, words: list[str]) -> list[list[int]]:
    """The tokens of each word as they follow a prompt, a space before it."""
    return [one.ids for one in tokenizer.encode_batch([f" {word}" for word in words])]


def first_tokens(tokenizer: Tokenizer, words: list[str]) -> np.ndarray:
    """The first token of each word as it follows a prompt, int64 (n,)."""
    return np.array([ids[0] for ids in answers(tokenizer, words)])
