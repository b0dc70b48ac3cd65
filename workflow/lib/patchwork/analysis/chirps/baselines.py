"""Chirps found without a network: a ridge that is tracked, and a bank of templates."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from patchwork.analysis.chirps.templates import along, best_templates

COLUMNS = ("start_s", "duration_s", "start_hz", "end_hz", "score")
_CHUNK = 64  # images at once: the responses of one template fit into the cache
_NORMAL = 0.6745  # median absolute deviation of a standard normal variable

# ASSUME: the papers do not describe this baseline. A jump of 19 rows a column is the steepest chirp
# of the generator: 30 Hz in the two columns of 1 s. A column must exceed 2 standard deviations of
# the noise to lengthen the ridge: less, and a path that may choose its rows grows in noise alone.
_JUMP_ROWS = 19
_JUMP_COST = 0.2
_LEAST = 2.0


@dataclass(frozen=True)
class Plane:
    """What the bins of a spectrogram stand for; bins are counted at their centres.

    Attributes:
        duration_s: time from the left edge of the first column to the right edge of the last.
        frequency_max_hz: top edge of the last row; the first row begins at 0 Hz.
    """

    duration_s: float = 60.0
    frequency_max_hz: float = 100.0


PLANE = Plane()


def ridge_tracker(arrays: np.ndarray, plane: Plane = PLANE) -> pd.DataFrame:
    """The brightest connected ridge of each spectrogram, by dynamic programming.

    The path gains what each column exceeds the noise by and pays for jumps; it begins where that
    pays. Its ends are then set where the energy along it falls to half, its frequencies by a
    parabola through it.

    Args:
        arrays: shape (n, rows, columns), any unit; rows are frequencies upwards, columns times.
        plane: time and frequency range of the arrays.

    Returns:
        One row per array: start_s, duration_s, start_hz, end_hz and score (sum of the excess, in
        standard deviations of the noise, >= 0).

    Raises:
        ValueError: if arrays is not three-dimensional or not finite.
    """
    return _in_chunks(_track, arrays, plane)


def matched_filter(arrays: np.ndarray, plane: Plane = PLANE) -> pd.DataFrame:
    """The linear chirp that fits each spectrogram best, from a bank of templates.

    Every start, duration and pair of frequencies of a coarse plane is tried; the best is then
    refined on the full one.

    Args:
        arrays: as for :func:`ridge_tracker`.
        plane: as for :func:`ridge_tracker`.

    Returns:
        One row per array: start_s, duration_s, start_hz, end_hz and score (the largest normalised
        response, in standard deviations of the noise).

    Raises:
        ValueError: if arrays is not three-dimensional or not finite.
    """
    return _in_chunks(best_templates, arrays, plane)


def _in_chunks(
    find: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], arrays: np.ndarray, plane: Plane
) -> pd.DataFrame:
    """Ends in bins and scores of all arrays, as seconds and hertz."""
    if np.ndim(arrays) != 3 or min(np.shape(arrays)[1:]) < 8:
        raise ValueError(
            f"arrays has shape {np.shape(arrays)}; allowed is (n, rows, columns), 8 or more each"
        )
    _, n_rows, n_columns = arrays.shape
    parts = [
        find(whitened(arrays[first : first + _CHUNK])) for first in range(0, len(arrays), _CHUNK)
    ]
    ends = np.concatenate([part[0] for part in parts]) if parts else np.empty((0, 4))
    scores = np.concatenate([part[1] for part in parts]) if parts else np.empty(0)
    first, last, low, high = ends.T
    to_s, to_hz = plane.duration_s / n_columns, plane.frequency_max_hz / n_rows
    return pd.DataFrame(
        {
            "start_s": np.clip((first + 0.5) * to_s, 0, plane.duration_s),
            "duration_s": np.maximum(last - first, 0) * to_s,
            "start_hz": np.clip((low + 0.5) * to_hz, 0, plane.frequency_max_hz),
            "end_hz": np.clip((high + 0.5) * to_hz, 0, plane.frequency_max_hz),
            "score": scores.astype(float),
        }
    )


def whitened(arrays: np.ndarray) -> np.ndarray:
    """Each row in standard deviations of its own noise, blurred along frequency as a ridge is.

    Args:
        arrays: shape (n, rows, columns), finite.

    Returns:
        The same shape, float32; about 0 with spread 1 away from a chirp. A chirp fills a quarter
        of a row at most, so the row's median and median deviation are those of its noise.

    Raises:
        ValueError: if a value is not finite.
    """
    values = np.asarray(arrays, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError("arrays holds nan or infinity; allowed are finite numbers")
    # Without noise there is no spread to divide by: a hundredth of the range stands for it.
    floor = 0.01 * np.ptp(values, axis=(1, 2), keepdims=True) + np.finfo(np.float32).tiny
    values = values - np.median(values, axis=2, keepdims=True)
    spread = np.median(np.abs(values), axis=2, keepdims=True) / _NORMAL
    # Neighbouring rows have about the same noise, and one row is a small sample of it.
    spread = np.maximum(ndimage.uniform_filter1d(spread, 5, axis=1), floor)
    blurred = ndimage.gaussian_filter1d(values / spread, 1.0, axis=1)
    rest = np.median(np.abs(blurred), axis=(1, 2), keepdims=True) / _NORMAL
    return blurred / np.maximum(rest, 0.05)


def _track(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last column, first and last row of the best ridge, fractional, and its score."""
    path, on_path, score = _best_path(z)
    columns, inside = np.arange(z.shape[2]), on_path
    # Twice: the path also follows the dim ends that smoothing gives a ridge, or wanders off there.
    for _ in range(2):
        fit = _parabola(path, inside)
        energy = along(z, fit(columns))
        height = np.nanmedian(np.where(inside, energy, np.nan), axis=1, keepdims=True) / 2
        first, last = _half_height(energy - height)
        within = on_path & (columns >= first[:, None]) & (columns <= last[:, None])
        inside = np.where(within.any(axis=1, keepdims=True), within, inside)
    ends = np.stack([first, last], axis=1)
    rows = np.take_along_axis(fit(ends), np.array([[0, 1]]), axis=1)
    return np.concatenate([ends, rows], axis=1), score


def _best_path(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row of the best path in each column, where the path is (bool), and its score.

    Local alignment: the gain so far is never below zero, so a path starts afresh where all that
    went before does not pay.
    """
    n, n_rows, n_columns = z.shape
    jumps = np.arange(-_JUMP_ROWS, _JUMP_ROWS + 1)
    came = np.zeros((n_columns, n, n_rows), np.int8)
    gains = np.empty((n_columns, n, n_rows), np.float32)
    padded = np.full((n, n_rows + 2 * _JUMP_ROWS), -np.inf, np.float32)
    inner = slice(_JUMP_ROWS, _JUMP_ROWS + n_rows)
    for column in range(n_columns):
        best, which = np.zeros((n, n_rows), np.float32), np.zeros((n, n_rows), np.int8)
        if column:
            padded[:, inner] = gains[column - 1]
            for code, jump in enumerate(jumps, start=1):
                begin = _JUMP_ROWS - jump
                reached = padded[:, begin : begin + n_rows] - np.float32(_JUMP_COST * abs(jump))
                np.copyto(which, code, where=reached > best)
                np.maximum(best, reached, out=best)
        came[column] = which
        gains[column] = best + z[:, :, column] - np.float32(_LEAST)
    return _trace(gains, came)


def _trace(gains: np.ndarray, came: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow the path with the largest gain back to where it began."""
    n_columns, n, n_rows = gains.shape
    flat = gains.transpose(1, 0, 2).reshape(n, -1)
    top = flat.argmax(1)
    end, row = top // n_rows, top % n_rows
    path, inside = np.zeros((n, n_columns)), np.zeros((n, n_columns), bool)
    images, going = np.arange(n), np.zeros(n, bool)
    for column in range(n_columns - 1, -1, -1):
        going |= end == column
        path[going, column] = row[going]
        inside[going, column] = True
        code = came[column, images, row]
        row = np.where(going & (code > 0), row - (code - 1 - _JUMP_ROWS), row)
        going &= code > 0
    return path, inside, np.maximum(flat[images, top], 0)


def _parabola(path: np.ndarray, inside: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Row as a function of the column: a parabola through each path, straight outside of it."""
    columns = np.arange(path.shape[1])
    first = inside.argmax(1)[:, None]
    last = (path.shape[1] - 1 - inside[:, ::-1].argmax(1))[:, None]
    middle, half = (first + last) / 2, np.maximum((last - first) / 2, 0.5)
    x = (columns - middle) / half
    powers = np.stack([np.ones_like(x), x, x**2], axis=2) * inside[:, :, None]
    # A ridge of a few columns has no curvature to speak of: a pull towards straight.
    normal = powers.transpose(0, 2, 1) @ powers + np.diag([1e-9, 1e-3, 1.0])
    terms = np.linalg.solve(normal, powers.transpose(0, 2, 1) @ path[:, :, None])[:, :, 0]
    mean, slope, bend = (terms[:, [i]] for i in range(3))

    def fit(at: np.ndarray) -> np.ndarray:
        place = (at - middle) / half
        within = np.clip(place, -1, 1)
        curve = mean + slope * within + bend * within**2
        return curve + (slope + 2 * bend * within) * (place - within)

    return fit


def _half_height(excess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fractional columns where the segment with the largest sum begins and ends."""
    images = np.arange(len(excess))
    total = np.cumsum(excess, axis=1)
    before = np.concatenate([np.zeros((len(excess), 1)), total[:, :-1]], axis=1)
    lowest = np.minimum.accumulate(before, axis=1)
    last = (total - lowest).argmax(1)
    begun = np.where(np.arange(excess.shape[1]) <= last[:, None], before, np.inf)
    first = begun.argmin(1)

    def crossing(inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
        off = (outer < 0) | (outer >= excess.shape[1])
        high = excess[images, inner]
        low = excess[images, np.clip(outer, 0, excess.shape[1] - 1)]
        fall = np.maximum(high - low, np.finfo(np.float32).tiny)
        share = np.where(off, 0.5, np.clip(high / fall, 0, 1))
        return inner + share * (outer - inner)

    return crossing(first, first - 1), crossing(last, last + 1)
