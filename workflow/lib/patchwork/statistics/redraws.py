"""Effects planted into an estimate whose sampling errors are those that the data show."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from patchwork.statistics.influence import Estimates, codes_of
from patchwork.statistics.intervals import Interval, intervals_of

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
