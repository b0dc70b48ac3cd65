"""Gaussian pixel noise from 16-bit integers: a table look-up instead of a draw."""

from functools import cache, lru_cache

import numpy as np


@cache
def normal_scores() -> np.ndarray:
    """Standard normal value of each 16-bit integer: the centre of its share of probability.

    Returns:
        shape (65536,), float32, within +-4.4, read-only.
    """
    # Imported where images are drawn: a check of settings, at every start of the workflow, is not.
    from scipy.special import ndtri

    scores = ndtri((np.arange(2**16) + 0.5) / 2**16).astype(np.float32)
    scores.flags.writeable = False
    return scores


def quantised(levels: np.ndarray) -> np.ndarray:
    """Clips levels to 0..255 and drops the fraction."""
    # ASSUME: noisy levels are truncated, not rounded: the usual cast of a clipped array to uint8.
    return np.clip(levels, 0, 255).astype(np.uint8)


@lru_cache(maxsize=64)
def on_black(sd: float) -> np.ndarray:
    """Level of a noisy black channel for each 16-bit integer.

    Args:
        sd: standard deviation as a fraction of 255.

    Returns:
        shape (65536,), uint8.
    """
    return noisy(np.zeros(1), sd, np.arange(2**16))


def noisy(levels: np.ndarray, sd: float, bits: np.ndarray) -> np.ndarray:
    """Adds clipped Gaussian noise to levels.

    Args:
        levels: 0 to 255, of a shape that broadcasts with `bits`.
        sd: standard deviation as a fraction of 255.
        bits: integers 0 to 65535, one for each channel value.

    Returns:
        uint8, of the common shape.
    """
    return quantised(levels + np.float32(sd * 255) * np.take(normal_scores(), bits, mode="clip"))
