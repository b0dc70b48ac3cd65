"""Positive controls: how often effects that were planted into the same data are found."""

from typing import Any, Protocol

import numpy as np

from patchwork.analysis.knowledge import measures
from patchwork.statistics import Interval, ratio_interval
from patchwork.statistics.intervals import unknown
from patchwork.statistics.power import Planted, share_found

# Fewer permutations than the test itself takes, enough for the interval of a p below .01.
_N_PERMUTATIONS = 600


class Draws(Protocol):
    """How many effects are planted, and the seed of all."""

    @property
    def n_draws(self) -> int: ...  # noqa: D102

    @property
    def seed(self) -> int: ...  # noqa: D102


def _resampled(seeds: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of seeds and facts drawn with replacement, and the label of each row's drawn seed."""
    names = np.unique(seeds)
    rows, labels = [], []
    for label, name in enumerate(rng.choice(names, len(names))):
        own = np.flatnonzero(seeds == name)
        rows.append(rng.choice(own, len(own)))
        labels.append(np.full(len(own), label))
    return np.concatenate(rows), np.concatenate(labels)


def recovery(
    effect: np.ndarray, gap: np.ndarray, seeds: np.ndarray, planted: Planted, draws: Draws
) -> Interval:
    """How often a planted recovery, in %, is found in the claimed region."""
    if len(effect) < 2:
        return unknown(len(effect), 0)
    rest = effect - effect.mean() / gap.mean() * gap

    def draw(rng: np.random.Generator) -> Interval:
        rows, labels = _resampled(seeds, rng)
        added = planted.effect / measures.PERCENT * gap[rows]
        return measures.recovery(rest[rows] + added, gap[rows], labels)

    return share_found(draw, planted.claimed, draws.seed, draws.n_draws)


def ratio(first: np.ndarray, second: np.ndarray, planted: Planted, draws: Draws) -> Interval:
    """How often a planted ratio of sizes, one pair per seed, is found in the claimed region."""
    if len(first) < 2:
        return unknown(len(first), len(first))
    rest = first - first.mean() / second.mean() * second

    def draw(rng: np.random.Generator) -> Interval:
        rows = rng.integers(len(first), size=len(first))
        return ratio_interval(rest[rows] + planted.effect * second[rows], second[rows])

    return share_found(draw, planted.claimed, draws.seed, draws.n_draws)


def layers(effects: np.ndarray, gap: float, planted: Planted, draws: Draws) -> Interval:
    """How often an effect of one layer is found: one site gets it, the labels are permuted.

    The effect is in % of the gap, the claimed region that of the p value.
    """

    def draw(rng: np.random.Generator) -> Interval:
        own = effects[rng.integers(len(effects), size=len(effects))]
        order = rng.random(own.shape[:2]).argsort(1)
        own = np.take_along_axis(own, order[..., None], 1)
        own[:, 0, 0] += planted.effect / measures.PERCENT * gap
        return _p(measures.layer_p(own, _N_PERMUTATIONS, int(rng.integers(2**31))), len(own))

    return share_found(draw, planted.claimed, draws.seed, min(draws.n_draws, 30))


def interaction(
    scores: np.ndarray, group: np.ndarray, seeds: np.ndarray, planted: Planted, draws: Draws
) -> Interval:
    """How often a difference of kinds in one layer is found: the kinds are permuted.

    The effect is that difference of scores, the claimed region that of the p value.
    """

    def draw(rng: np.random.Generator) -> Interval:
        labels = group.copy()
        for one in np.unique(seeds):
            labels[seeds == one] = rng.permutation(labels[seeds == one])
        own = scores.copy()
        own[labels, 0] += planted.effect
        found = measures.interaction_p(
            own, labels, seeds, _N_PERMUTATIONS, int(rng.integers(2**31))
        )
        return _p(found, len(own))

    return share_found(draw, planted.claimed, draws.seed, min(draws.n_draws, 30))


def _p(found: tuple[Any, int], n: int) -> Interval:
    return measures.p_interval(found[1], _N_PERMUTATIONS, n, 0)
