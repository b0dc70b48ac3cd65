"""How often an analysis finds an effect that was planted: a positive control."""

from collections.abc import Callable, Sequence

import numpy as np

from patchwork.statistics.intervals import DECIDING, LEVEL, Interval, binomial_interval


def share_found(
    draw: Callable[[np.random.Generator], Interval],
    claimed: Sequence[float | None],
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
