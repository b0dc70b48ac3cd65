"""Planted effects: what an analysis would have found, had there been something to find."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from patchwork.statistics.intervals import Interval, interval, unknown
from patchwork.statistics.power import share_found

Bounds = Sequence[float | None]


def seed_effects(per_seed: ArrayLike, rng: np.random.Generator) -> np.ndarray:
    """Deviations of new seeds from their mean: normal, with the covariance of those seen.

    Few seeds drawn with replacement would spread too little, or not at all.

    Args:
        per_seed: shape (k,) or (k, d), one estimate per seed, k >= 2.
        rng: of the draw.

    Returns:
        The same shape.
    """
    values = np.asarray(per_seed, float)
    centred = values - values.mean(0)
    # Mixtures of what was seen: covariance that of the sample, also where d > k.
    mixed = rng.standard_normal((len(values), len(values))) / np.sqrt(len(values) - 1)
    return mixed @ centred


def mean_found(per_seed: ArrayLike, planted: float, claimed: Bounds, seed: int) -> Interval:
    """How often a planted mean over seeds would be found to lie inside a region.

    Args:
        per_seed: shape (k,), estimates, whose spread counts.
        planted: true mean.
        claimed: lower and upper bound; None is none.
        seed: of the draws.

    Returns:
        Share of draws; unknown with fewer than two seeds.
    """
    values = np.asarray(per_seed, float)
    if len(values) < 2:
        return unknown(0, 0)

    def draw(rng: np.random.Generator) -> Interval:
        return interval(planted + seed_effects(values, rng))

    return share_found(draw, claimed, seed)


def crossed_found(values: np.ndarray, planted: float, claimed: Bounds, seed: int) -> Interval:
    """How often a planted mean over seeds and units would be found to lie inside a region.

    Args:
        values: shape (seeds, units), what is averaged; its spread over both counts.
        planted: true mean.
        claimed: lower and upper bound; None is none.
        seed: of the draws: new seeds, units with replacement.

    Returns:
        Share of draws; unknown with fewer than two seeds.
    """
    k, m = values.shape
    if k < 2:
        return unknown(0, 0)
    own = values.mean(1, keepdims=True)
    seeds, units = np.repeat(np.arange(k), m), np.tile(np.arange(m), k)

    def draw(rng: np.random.Generator) -> Interval:
        rest = (values - own)[:, rng.integers(m, size=m)]
        drawn = planted + seed_effects(own, rng) + rest
        return interval(drawn.reshape(-1), seeds, units=units)

    return share_found(draw, claimed, seed)
