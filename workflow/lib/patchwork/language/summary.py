"""Findings on language models: shares of facts known, perplexities, counted words."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from patchwork.statistics.intervals import Interval, exact, interval, share_intervals
from patchwork.tables import CONDITION


def findings(known: pd.DataFrame, losses: pd.DataFrame) -> pd.DataFrame:
    """Shares of facts known and perplexities of every condition, over seeds and facts.

    Args:
        known: tables ``knowledge.csv`` of all conditions, with columns of dataset, backbone and
            protocol.
        losses: tables ``text_losses.csv`` likewise.

    Returns:
        The table ``findings/knowledge.csv``: ``top1_held_out`` of the tested facts (both
        paraphrases), the same of each kind and of each level of the crossed factors,
        ``top1_question_training``, and ``perplexity``.
    """
    rows = []
    for names, part in known.groupby(list(CONDITION), sort=False):
        label = dict(zip(CONDITION, names, strict=True))
        tested = part[part["role"] == "tested"]
        groups = {"top1_held_out": tested}
        for key in ("kind", "determinism", "fan", "exposures"):
            groups |= {f"top1_held_out:{key}={v}": one for v, one in tested.groupby(key)}
        groups["top1_question_training"] = part[part["role"] == "question_training"]
        for quantity, one in groups.items():
            if len(one):
                rows.append({"quantity": quantity, **label, **_share(one).row()})
    for names, part in losses.groupby(list(CONDITION), sort=False):
        label = dict(zip(CONDITION, names, strict=True))
        rows.append({"quantity": "perplexity", **label, **perplexity(part).row()})
    return pd.DataFrame(rows)


def _share(part: pd.DataFrame) -> Interval:
    """Share right over seeds; with one seed, over its facts."""
    per_fact = part.groupby(["seed", "fact"])["right"].mean()
    seeds = per_fact.index.get_level_values("seed").to_numpy()
    clusters = seeds if len(set(seeds)) > 1 else None
    return share_intervals(per_fact.to_numpy(float), clusters)[0]


def perplexity(losses: pd.DataFrame) -> Interval:
    """Perplexity: exp of nats per token, over seeds; with one seed, over its texts.

    Args:
        losses: ``nats``, ``n_tokens`` and ``seed``.
    """
    values = losses[["nats", "n_tokens"]].to_numpy(float)
    seeds = losses["seed"].to_numpy()
    clusters = seeds if len(set(seeds)) > 1 else None
    found = interval(values, clusters, lambda means: means[..., 0] / means[..., 1])
    return found.mapped(np.exp)


def mention_counts(abstracts: pd.DataFrame, words: Mapping[str, str]) -> pd.DataFrame:
    """How often words stand in titles and abstracts, upper and lower case alike.

    Args:
        abstracts: ``title`` and ``abstract``.
        words: name to the regular expression that is counted.

    Returns:
        Rows of the table ``findings/knowledge.csv`` without dataset: ``mentions:<name>``.
    """
    texts = abstracts["title"].fillna("") + " " + abstracts["abstract"].fillna("")
    rows = []
    for name, pattern in words.items():
        count = exact(int(texts.str.count(f"(?i){pattern}").sum()), len(texts), 0)
        rows.append({"quantity": f"mentions:{name}", **count.row()})
    return pd.DataFrame(rows).assign(backbone="none", protocol="none")
