"""Numbers of traced effects: recovery, how local effects are, and whether layers differ."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from patchwork.statistics import DECIDING, Interval, binomial_interval, intervals_of, ratios
from patchwork.statistics.intervals import LEVEL, ratio_interval, unknown

PERCENT = 100.0


def recovery(effect: np.ndarray, gap: np.ndarray, seeds: np.ndarray) -> Interval:
    """Share of the gap that patching restores: a ratio of means with Fieller's interval, %.

    Args:
        effect: of each fact, nat.
        gap: clean less corrupted log-odds of each fact, nat.
        seeds: network of each fact.

    Returns:
        Ends are nan where the gap cannot be told from zero, for then no share is excluded.
    """
    if not len(effect):
        return unknown(0, 0)
    return ratio_interval(effect, gap, seeds).mapped(lambda share: PERCENT * share)


def recovery_difference(
    effect: np.ndarray,
    control: np.ndarray,
    gap: np.ndarray,
    seeds: np.ndarray,
    control_gap: np.ndarray | None = None,
) -> Interval:
    """Recovery less that of a control on the same facts, percentage points.

    Args:
        effect: of each fact, nat.
        control: effect of the same fact in the control, nat.
        gap: of each fact, nat; its mean is far from zero.
        seeds: network of each fact.
        control_gap: gap of the control, nat; None: that of the network itself, for a control that
            has no gap of its own.
    """  # fmt: skip
    if not len(effect):
        return unknown(0, 0)
    own, other = ratios(effect, gap), ratios(control, gap if control_gap is None else control_gap)
    value = PERCENT * (own.value - other.value)
    influence = PERCENT * (own.influence - other.influence)
    return intervals_of(type(own)(value, influence), seeds)[0]


def participation_ratio(effects: np.ndarray, seed: int) -> float:
    """Number of sites that share the effects, free of the noise of single facts.

    (sum of squares)^2 / sum of fourth powers of the mean effects: 1 if one site has all, the number
    of sites if all have the same. Noise would add to both; products of means over separate quarters
    of the facts have none.

    Args:
        effects: shape (facts, sites), nat; 4 facts or more.
        seed: of the split.

    Returns:
        nan where the effects cannot be told from noise (a sum is not positive).
    """
    if len(effects) < 4:
        return float("nan")
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(effects))
    a, b, c, d = (effects[part].mean(0) for part in np.array_split(order, 4))
    pairs = [((a * b), (c * d)), ((a * c), (b * d)), ((a * d), (b * c))]
    top = float(np.mean([x.sum() * y.sum() for x, y in pairs]))
    bottom = float((a * b * c * d).sum())
    return top / bottom if top > 0 and bottom > 0 else float("nan")


def equal_gaps(gap: np.ndarray, group: np.ndarray, bins: int, seed: int) -> np.ndarray:
    """Rows after which two groups have the same distribution of gaps.

    Args:
        gap: of each fact, nat.
        group: of each fact, two values.
        bins: of equal content, in each of which both groups keep as many facts.
        seed: of what is left out.

    Returns:
        Rows that are kept, in order.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    edges = np.quantile(gap, np.linspace(0, 1, bins + 1)[1:-1])
    cell = np.digitize(gap, edges)
    kept: list[int] = []
    for one in range(bins):
        parts = [np.flatnonzero((cell == one) & (group == name)) for name in np.unique(group)]
        least = min(map(len, parts)) if len(parts) == 2 else 0
        for part in parts:
            kept += list(rng.choice(part, least, replace=False))
    return np.sort(np.array(kept, dtype=int))


def layer_p(effects: np.ndarray, n_permutations: int, seed: int) -> tuple[np.ndarray, int]:
    """Whether layers differ: their labels are permuted within each fact.

    Args:
        effects: shape (facts, layers, sites), nat.
        n_permutations: 1 or more.
        seed: of the permutations.

    Returns:
        Family-wise p of each layer and site, (layers, sites): how often the largest standardised
        deviation of any layer from the mean over layers is as large as this one; and how often it
        is as large as the largest of all.

    Source: Westfall and Young 1993 (largest statistic).
    """
    centred = effects - effects.mean(1, keepdims=True)
    # The spread of a permuted effect does not depend on the permutation.
    spread = np.sqrt((centred**2).mean((0, 1)) / len(effects))
    spread = np.where(spread > 0, spread, np.inf)
    true = np.abs(centred.mean(0)) / spread
    rng = np.random.Generator(np.random.Philox(seed))
    count = np.zeros(true.shape)
    exceeded = 0
    for _ in range(n_permutations):
        order = rng.random(centred.shape[:2]).argsort(1)
        drawn = np.take_along_axis(centred, order[..., None], 1).mean(0)
        top = (np.abs(drawn) / spread).max()
        count += top >= true * (1 - 1e-9)
        exceeded += int(top >= true.max() * (1 - 1e-9))
    return (1 + count) / (n_permutations + 1), exceeded


def interaction_p(
    scores: np.ndarray, group: np.ndarray, seeds: np.ndarray, n_permutations: int, seed: int
) -> tuple[float, int]:
    """Whether the difference of two groups depends on the layer: groups are permuted within seeds.

    Args:
        scores: shape (facts, layers).
        group: whether each fact is of the first group, bool (facts,).
        seeds: network of each fact.
        n_permutations: 1 or more.
        seed: of the permutations.

    Returns:
        p, and how often a permutation gave at least the true sum of squares.
    """
    centred = scores - scores.mean(1, keepdims=True)
    rng = np.random.Generator(np.random.Philox(seed))
    cells = [np.flatnonzero(seeds == one) for one in np.unique(seeds)]

    def size(labels: np.ndarray) -> float:
        if labels.all() or not labels.any():
            return 0.0
        apart = centred[labels].mean(0) - centred[~labels].mean(0)
        return float(((apart - apart.mean()) ** 2).sum())

    labels = np.asarray(group, dtype=bool)
    true, exceeded = size(labels), 0
    for _ in range(n_permutations):
        drawn = labels.copy()
        for cell in cells:
            drawn[cell] = rng.permutation(drawn[cell])
        exceeded += int(size(drawn) >= true * (1 - 1e-9))
    return (1 + exceeded) / (n_permutations + 1), exceeded


def p_interval(exceeded: int, n_permutations: int, n: int, seeds: int) -> Interval:
    """A p value of random permutations with the interval of their number (Clopper and Pearson)."""
    low, high = binomial_interval(exceeded + 1, n_permutations + 1, LEVEL)
    low90, high90 = binomial_interval(exceeded + 1, n_permutations + 1, DECIDING)
    p = (exceeded + 1) / (n_permutations + 1)
    return Interval(p, float(low), float(high), float(low90), float(high90), n, seeds)


def localisation_index(curves: pd.DataFrame) -> float:
    """Sites of the smallest set that restores enough, mean over both choices of halves.

    Args:
        curves: from `tracing.minimal_sets`, of one network and one set of facts.

    Returns:
        nan where no set restores enough.
    """
    found = curves[curves["enough"].astype(bool)].groupby("half")["n_sites"].min()
    return float(found.mean()) if len(found) and len(found) == curves["half"].nunique() else np.nan


def named_layer(curves: pd.DataFrame) -> int:
    """Layer of the first MLP in the sets, by both halves; -1 where they disagree."""
    mlps = curves[curves["component"] == "mlp_out"].sort_values("n_sites")
    first = mlps.groupby("half")["layer"].first().unique()
    return int(first[0]) if len(first) == 1 else -1


def best_layer(effects: pd.DataFrame) -> int:
    """Layer of the place, layer and role, with the largest mean effect; -1 without effects."""
    mean = effects.groupby(["layer", "role"])["effect"].mean()
    return int(cast(Any, mean.idxmax())[0]) if len(mean) else -1


def paired_levels(
    frame: pd.DataFrame, factor: str, levels: Sequence[object], value: str
) -> np.ndarray:
    """Difference of a number between two levels of a factor, one per seed.

    Args:
        frame: one row per seed and level (or several, which are averaged).
        factor: column of the level.
        levels: the two, first minus second.
        value: column of the number.

    Returns:
        shape (seeds,); seeds that lack a level are left out.
    """
    table = frame.pivot_table(index="seed", columns=factor, values=value, aggfunc="mean")
    if not set(levels) <= set(table.columns):
        return np.array([])
    return (table[levels[0]] - table[levels[1]]).dropna().to_numpy()
