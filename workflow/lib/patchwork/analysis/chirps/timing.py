"""How long inference takes, and how stable that is."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from patchwork import statistics
from patchwork.statistics import Interval
from patchwork.statistics.power import Draw, Planted, share_found
from patchwork.tables import CONDITION, groups

_SPREAD = "repetition_spread"


def spread(seconds: np.ndarray) -> float:
    """Coefficient of variation of repeated times, which a few interrupted passes do not change.

    Args:
        seconds: shape (n,), above 0.

    Returns:
        Median absolute deviation over the median, scaled to the standard deviation of a normal
        variable.

    Source: Rousseeuw and Croux 1993, "Alternatives to the median absolute deviation".
    """
    return float(stats.median_abs_deviation(seconds, scale="normal") / np.median(seconds))


def timing_findings(frame: pd.DataFrame, planted: Mapping[str, Planted]) -> pd.DataFrame:
    """How fast images are evaluated, and how much repeated passes differ.

    Args:
        frame: the table ``timings.csv`` with the names of its condition.
        planted: positive controls; of ``repetition_spread`` here.

    Returns:
        Findings: ``images_per_s``, ``repetition_spread`` (see :func:`spread`; the mean over
        networks), and with a positive control ``repetition_spread_found``.
    """
    rows = []
    for names, part in groups(frame, CONDITION):
        runs = [one.to_numpy() for _, one in part.groupby("seed")["seconds"]]
        speed = [float(np.median(part["n_images"].iloc[0] / one)) for one in runs]
        found = {
            "images_per_s": statistics.interval(np.array(speed)),
            _SPREAD: _mean_spread(runs),
        }
        if _SPREAD in planted:
            one = planted[_SPREAD]
            found[f"{_SPREAD}_found"] = share_found(_redrawn(runs, one.effect), one.claimed, 0)
        rows += [{"quantity": name, **names, **one.row()} for name, one in found.items()]
    return pd.DataFrame(rows)


def _mean_spread(runs: Sequence[np.ndarray]) -> Interval:
    return statistics.interval(np.array([spread(one) for one in runs])).within(least=0.0)


def _redrawn(runs: Sequence[np.ndarray], effect: float) -> Draw:
    """The same passes, each network's around its median, as far apart as planted."""
    apart = [(one / np.median(one) - 1) / (spread(one) or 1.0) for one in runs]
    pool = np.concatenate(apart)
    return lambda rng: _mean_spread([1 + effect * rng.choice(pool, len(one)) for one in runs])
