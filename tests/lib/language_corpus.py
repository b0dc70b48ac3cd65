"""A small invented corpus for tests."""

from functools import cache

import pandas as pd
from patchwork.language import invented, tokens
from tokenizers import Tokenizer

SOURCE = {
    "n_tested": 64, "n_question_training": 16, "n_answers": 6, "n_multi_token": 3,
    "exposures": {"low": 6, "high": 12}, "questions": 2, "copies": 8, "sentences": 2,
    "background": {
        "seed": 0, "n_names": 120, "n_subjects": 12, "mentions": 16, "n_sentences": 600,
        "copy_share": 0.5,
    },
}  # fmt: skip


@cache
def tokenizer() -> Tokenizer:
    return tokens.train(invented.background(SOURCE, 0)["text"], 700)


@cache
def facts(seed: int = 0) -> pd.DataFrame:
    first = invented.background(SOURCE, 0).iloc[0]
    answers, names = first["answers"].split(), first["names"].split()
    return invented.facts(SOURCE, tokenizer(), answers, names, seed)
