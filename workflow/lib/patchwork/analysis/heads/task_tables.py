"""How alike heads are between networks that learned different tasks: tables and findings."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd

from patchwork import statistics
from patchwork.statistics import Interval
from patchwork.statistics.power import seed_effects, share_found
from patchwork.tables import UNTOUCHED, groups

# ASSUME: heads whose outputs agree so far (linear CKA) after every two tasks are "the same".
AGNOSTIC = 0.9
_MEASURES = ("map_correlation", "linear_cka")
_UNIT = (-1.0, 1.0)


def similarity_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Similarity of each head between tasks, and with the untouched backbone, over seeds.

    Args:
        frame: backbone, protocol, seed, one, other, layer, head, map_correlation, linear_cka, n.

    Returns:
        The table ``tables/head_similarity.csv``.
    """
    keys = ["backbone", "protocol", "compared", "layer", "head"]
    compared = np.where(frame["other"] == UNTOUCHED, UNTOUCHED, "tasks")
    long = frame.assign(compared=compared).melt(
        [*keys, "seed", "n"], list(_MEASURES), "measure", "similarity"
    )
    rows = []
    for names, part in groups(long, [*keys, "measure"]):
        # Pairs of tasks share networks, so a seed counts once.
        one = statistics.over_seeds(part.groupby("seed")["similarity"].mean(), _UNIT)
        row = names | {"similarity": one.pop("estimate"), **one}
        rows.append(row | {"n": int(part["n"].iloc[0])})
    return pd.DataFrame(rows)


def similarity_findings(
    frame: pd.DataFrame, control: tuple[str, str], *, planted: float, seed: int = 0
) -> pd.DataFrame:
    """How alike heads are over all heads, per backbone and protocol, with intervals over seeds.

    Args:
        frame: as for :func:`similarity_table`.
        control: backbone and protocol of the networks that nothing trained before their tasks.
        planted: excess of one layer in the positive control; half of it is to be found.
        seed: of the positive control.

    Returns:
        Findings with dataset ``all``: ``cross_task_head_similarity`` (mean linear CKA of a head's
        outputs between two tasks), ``cross_task_map_correlation``, ``similarity_to_untouched``
        (linear CKA), ``share_of_agnostic_heads`` (CKA of at least 0.9 between all pairs of tasks;
        binomial), ``greatest_layer_similarity_excess``: cross-task similarity of the heads of a
        layer minus that in the control with the same seed, over the pairs of tasks that both were
        tuned on, in the layer where it is greatest; and its ``..._power``.
    """
    before = frame["other"] == UNTOUCHED
    between, rows = frame[~before], []

    def add(quantity: str, names: dict, found: dict) -> None:
        rows.append({"quantity": quantity, "dataset": "all", **names, **found})

    for names, part in groups(between, ["backbone", "protocol"]):
        for quantity, measure in (
            ("cross_task_head_similarity", "linear_cka"),
            ("cross_task_map_correlation", "map_correlation"),
        ):
            add(quantity, names, statistics.over_seeds(part.groupby("seed")[measure].mean(), _UNIT))
        least = part.groupby(["seed", "layer", "head"])["linear_cka"].min()
        kept = statistics.share_over_seeds(
            least.ge(AGNOSTIC), least.index.get_level_values("seed").to_numpy()
        )
        add("share_of_agnostic_heads", names, kept.row())
    for names, part in groups(frame[before], ["backbone", "protocol"]):
        found = statistics.over_seeds(part.groupby("seed")["linear_cka"].mean(), _UNIT)
        add("similarity_to_untouched", names, found)
    for names, excess in _excesses(between, control):
        quantity = "greatest_layer_similarity_excess"
        add(quantity, names, greatest_layer(excess).row())
        add(f"{quantity}_power", names, _layer_found(excess, planted, seed).row())
    return pd.DataFrame(rows).assign(n=lambda t: t["n"].fillna(int(frame["n"].iloc[0])))


def _excesses(
    between: pd.DataFrame, control: tuple[str, str]
) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Names of a network, and its excess over the control's similarity, shape (seeds, layers)."""
    ends = np.sort(between[["one", "other"]].to_numpy(str), axis=1)
    keys = ["seed", "layer", "first", "second"]
    means = (
        between.assign(first=ends[:, 0], second=ends[:, 1])
        .groupby(["backbone", "protocol", *keys])["linear_cka"]
        .mean()
        .reset_index()
    )
    null = (means["backbone"] == control[0]) & (means["protocol"] == control[1])
    for names, part in groups(means[~null], ["backbone", "protocol"]):
        both = part.merge(means[null], on=keys, suffixes=("", "_null"))
        if len(both):
            excess = both.assign(excess=both["linear_cka"] - both["linear_cka_null"])
            yield names, excess.pivot_table(index="seed", columns="layer", values="excess")


def greatest_layer(excess: pd.DataFrame | np.ndarray) -> Interval:
    """The excess of the layer where it is greatest.

    Args:
        excess: shape (seeds, layers).
    """
    columns = np.asarray(excess, float).T
    plain, strict = (
        [statistics.interval(one, family=family) for one in columns] for family in (1, len(columns))
    )
    return statistics.greatest(plain, strict)


def _layer_found(excess: pd.DataFrame, planted: float, seed: int) -> Interval:
    """How often an excess of the last layer alone would be found."""
    values = excess.to_numpy(float)
    if len(values) < 2:
        return statistics.unknown(0, 0)
    truth = np.zeros(values.shape[1])
    truth[-1] = planted
    return share_found(
        lambda rng: greatest_layer(truth + seed_effects(values, rng)), (planted / 2, None), seed
    )


def agreement_findings(frame: pd.DataFrame, baseline: str = "mean") -> pd.DataFrame:
    """Whether the heads that matter for one task matter for the others.

    Args:
        frame: dataset, backbone, protocol, seed, layer, head, baseline, effect.
        baseline: of the ablation that counts.

    Returns:
        Findings ``ablation_agreement`` with dataset ``all``: Spearman's correlation over heads of
        their effects on two tasks, mean over pairs of tasks, over seeds.
    """
    rows = []
    kept = frame[frame["baseline"] == baseline]
    for names, part in groups(kept, ["backbone", "protocol"]):
        wide = part.pivot_table(index=["seed", "layer", "head"], columns="dataset", values="effect")
        pairs = list(combinations(wide.columns, 2))
        if not pairs:
            continue
        per_seed = [
            np.mean([one[a].corr(one[b], method="spearman") for a, b in pairs])
            for _, one in wide.groupby("seed")
        ]
        one = statistics.over_seeds(per_seed, _UNIT)
        n = len(wide) // len(per_seed)
        rows.append({"quantity": "ablation_agreement", "dataset": "all", **names, **one, "n": n})
    return pd.DataFrame(rows)
