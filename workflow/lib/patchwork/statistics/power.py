"""Positive controls: how often an analysis finds an effect that was planted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from patchwork.statistics.influence import Estimates, codes_of
from patchwork.statistics.intervals import (
    DECIDING,
    LEVEL,
    Interval,
    binomial_interval,
    interval,
    intervals_of,
    unknown,
)

Bounds = Sequence[float | None]
Draw = Callable[[np.random.Generator], Interval]


@dataclass(frozen=True)
class Planted:
    """An effect that an analysis must find.

    Attributes:
        effect: in the unit of the quantity.
        claimed: region in which its interval must lie, lower and upper bound; None is no bound.
    """

    effect: float
    claimed: tuple[float | None, float | None]


def planted_of(block: Mapping[str, Mapping[str, Any]]) -> dict[str, Planted]:
    """Quantity to its planted effect, from plain mappings with ``effect`` and ``claimed``."""
    return {name: Planted(one["effect"], tuple(one["claimed"])) for name, one in block.items()}


def share_found(
    draw: Draw,
    claimed: Bounds,
    seed: int,
    n_draws: int = 100,
) -> Interval:
    """Share of draws in which the interval that decides lies inside a region.

    Args:
        draw: resamples the data with the given generator, without their own effect, plants an
            effect inside the region and estimates it as the analysis does.
        claimed: lower and upper bound, closed; None is no bound.
        seed: of all draws, each of which has a generator of its own.
        n_draws: 1 or more.

    Returns:
        The share, 0 to 1, of `n` draws with Clopper and Pearson's intervals; no seeds. A draw
        without an interval is one that found nothing.

    Raises:
        ValueError: if n_draws is below 1.
    """
    if n_draws < 1:
        raise ValueError(f"n_draws is {n_draws}; allowed is 1 or more")
    low, high = claimed
    least, most = -np.inf if low is None else low, np.inf if high is None else high
    drawn = [draw(rng) for rng in np.random.default_rng(seed).spawn(n_draws)]
    found = sum(least <= one.low90 and one.high90 <= most for one in drawn)
    ends = [float(end) for level in (LEVEL, DECIDING)
            for end in binomial_interval(found, n_draws, level)]  # fmt: skip
    return Interval(found / n_draws, ends[0], ends[1], ends[2], ends[3], n_draws, 0)


def redrawn(
    found: Estimates,
    effect: float,
    clusters: np.ndarray | None,
    units: np.ndarray | None = None,
    function: Callable[[float], float] | None = None,
) -> Draw:
    """Draws an estimate anew around a planted effect, and gives its interval.

    Seeds are drawn from a normal distribution with the variance that they show beyond that of
    their images; images and residuals are resampled, a residual with a random sign. Every seed
    is taken to have seen every image, or, without units, images of its own.

    Args:
        found: one estimate with its influence values, shape (n, 1).
        effect: planted, on the scale of the estimate.
        clusters: shape (n,), seeds, as for `intervals_of`; None: units alone vary.
        units: shape (n,), images, as for `intervals_of`.
        function: growing, from the scale of the estimate to that of the quantity.

    Returns:
        A draw, as `share_found` takes it.
    """
    values = found.influence[:, 0]
    n = len(values)
    seed = codes_of(np.zeros(n) if clusters is None else clusters, n, "clusters")
    image = np.zeros(n, int) if units is None else codes_of(units, n, "units")

    def means(of: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return np.bincount(codes, of) / np.bincount(codes)

    by_seed = means(values, seed)
    by_image = means(values - by_seed[seed], image)
    rest = values - by_seed[seed] - by_image[image]
    k = len(by_seed)
    noise = rest.var() / np.bincount(seed).mean() if units is not None else 0.0
    sd = np.sqrt(max(by_seed.var(ddof=1) - noise, 0.0)) if k > 1 else 0.0

    def draw(rng: np.random.Generator) -> Interval:
        drawn = sd * rng.standard_normal(k)[seed]
        if units is not None or clusters is None:
            drawn = drawn + rng.choice(by_image, len(by_image))[image]
            drawn += rng.permutation(rest) * rng.choice([-1.0, 1.0], n)
        mean = drawn.mean()
        estimate = Estimates(np.array([effect + mean]), (drawn - mean)[:, None])
        one = intervals_of(estimate, clusters, units)[0]
        return one if function is None else one.mapped(function)

    return draw


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
