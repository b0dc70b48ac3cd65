"""A matched filter for chirps: a bank of straight templates, and the refinement of the best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

# ASSUME: the papers do not describe this baseline. Columns that are pooled, and the templates'
# durations in pooled columns: 0.9 s to 15 s of 60 s, the range of the generator and a little more.
_LEVELS = ((1, (2, 3, 4, 6)), (2, (4, 6, 8, 11, 16)))
_REACH = 20  # pooled rows that a template may rise or fall: 31 Hz of 100 Hz
_EDGE = 0.41  # scale of the logistic ends of a template, columns: as soft as a smoothed ridge's
_STEPS = (2.0, 1.0, 0.5, 0.25)  # of the refinement, columns and rows
_ROUNDS = 5
_LAGS = 7  # beyond these, bins of the noise have nothing in common


def along(z: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Values along a curve, linear between rows; beyond the edge, those of the outermost row.

    Args:
        z: shape (n, rows, columns).
        rows: shape (n, columns), fractional row of the curve in each column.

    Returns:
        shape (n, columns).
    """
    place = np.clip(rows, 0, z.shape[1] - 1)
    low = np.minimum(place.astype(np.intp), z.shape[1] - 2)
    part = place - low
    images, columns = np.arange(len(z))[:, None], np.arange(z.shape[2])
    return (1 - part) * z[images, low, columns] + part * z[images, low + 1, columns]


def best_templates(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The straight chirp with the largest normalised response in each array.

    Args:
        z: shape (n, rows, columns), in standard deviations of the noise.

    Returns:
        First and last column (edges at whole numbers and a half), first and last row, all
        fractional, shape (n, 4); and the response in standard deviations of its own noise, (n,).
    """
    noise = _noise_of(z)
    refined = [_refined(z, noise, _coarse_search(z, *level)) for level in _LEVELS]
    responses = np.stack([response for _, response in refined])
    best, images = responses.argmax(0), np.arange(len(z))
    return np.stack([ends for ends, _ in refined])[best, images], responses[best, images]


def _refined(z: np.ndarray, noise: "_Noise", ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends moved for as long as the response grows, in steps that become smaller."""
    best = _response(z, ends, noise)
    for step in _STEPS:
        for _ in range(_ROUNDS):
            tried = _moved(ends, step, z)
            values = np.stack([_response(z, one, noise) for one in tried])
            which = values.argmax(0)
            better = values.max(0) > best
            if not better.any():
                break
            moved = np.stack(tried)[which, np.arange(len(z))]
            ends = np.where(better[:, None], moved, ends)
            best = np.maximum(best, values.max(0))
    return ends, best


@dataclass(frozen=True)
class _Noise:
    """How alike neighbouring bins of the noise are, by image.

    Attributes:
        times: shape (n, lags), autocorrelation along time, lag 0 first.
        frequencies: the same along frequency.
    """

    times: np.ndarray
    frequencies: np.ndarray

    def deviation(self, width: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Standard deviation of a sum along a line.

        Args:
            width: shape (n,), columns that the line crosses, 1 or more.
            slope: shape (n,), rows a column.

        Returns:
            shape (n,). Neighbours on a steep line are further apart, so its sum varies less.
        """
        images, total = np.arange(len(self.times)), np.maximum(width, 1.0)
        lags = self.frequencies.shape[1]
        for lag in range(1, self.times.shape[1]):
            apart = np.minimum(np.abs(slope) * lag, lags - 1.001)
            low = apart.astype(int)
            ends = self.frequencies[images, low], self.frequencies[images, low + 1]
            alike = self.times[:, lag] * (ends[0] + (apart - low) * (ends[1] - ends[0]))
            total = total + 2 * np.maximum(width - lag, 0) * alike
        return np.sqrt(total)


def _noise_of(z: np.ndarray) -> _Noise:
    """The noise of whitened arrays; clipped, so that a bright chirp does not count as noise."""
    noise = np.clip(z, -3, 3)
    noise = noise - noise.mean(axis=(1, 2), keepdims=True)

    def correlations(values: np.ndarray) -> np.ndarray:
        length = values.shape[2]
        products = [
            np.einsum("nij,nij->n", values[:, :, : length - k], values[:, :, k:]) / (length - k)
            for k in range(_LAGS)
        ]
        found = np.stack(products, axis=1)
        return np.maximum(found / np.maximum(found[:, :1], 1e-6), 0)

    return _Noise(correlations(noise), correlations(noise.swapaxes(1, 2)))


def _coarse_search(z: np.ndarray, pooled: int, widths: Sequence[int]) -> np.ndarray:
    """Ends of the best template on a plane of less resolution, in bins of the full one."""
    best, found = np.full(len(z), -np.inf), np.zeros((len(z), 4))
    coarse = _pooled(z, pooled)
    noise, spread = _noise_of(coarse), np.clip(coarse, -3, 3).std(axis=(1, 2))
    for width in (one for one in widths if one <= coarse.shape[2]):
        for rise in np.arange(-_REACH, _REACH + 1, 1.5):
            total = _line_sums(coarse, width, float(rise)).reshape(len(z), -1)
            top = total.argmax(1)
            slope = np.full(len(z), rise / width)
            error = spread * noise.deviation(np.full(len(z), float(width)), slope)
            value = total[np.arange(len(z)), top] / np.maximum(error, 1e-6)
            better = value > best
            row, column = np.divmod(top, coarse.shape[2] - width + 1)
            # The coarse row i covers the rows 2 i and 2 i + 1: its centre is at 2 i + 0.5.
            ends = (
                pooled * column - 0.5,
                pooled * (column + width) - 0.5,
                2 * (row - rise / 2) + 0.5,
                2 * (row + rise / 2) + 0.5,
            )
            found = np.where(better[:, None], np.stack(ends, axis=1), found)
            best = np.maximum(best, value)
    return found


def _pooled(z: np.ndarray, pooled: int) -> np.ndarray:
    """Means over two rows and so many columns; a rest at the end is left out."""
    n, n_rows, n_columns = len(z), z.shape[1] // 2, z.shape[2] // pooled
    kept = z[:, : 2 * n_rows, : pooled * n_columns]
    return kept.reshape(n, n_rows, 2, n_columns, pooled).mean((2, 4))


def _line_sums(coarse: np.ndarray, width: int, rise: float) -> np.ndarray:
    """Sums along lines whose middle lies in each row, shape (n, rows, starts)."""
    n, n_rows, n_columns = coarse.shape
    # Lines that leave the plane are no candidates: noise is never so far below zero.
    padded = np.pad(coarse, ((0, 0), (_REACH, _REACH), (0, 0)), constant_values=-3.0)
    starts = n_columns - width + 1
    shifts = np.rint(rise * ((np.arange(width) + 0.5) / width - 0.5)).astype(int)
    total = np.zeros((n, n_rows, starts), np.float32)
    for k, shift in enumerate(shifts):
        total += padded[:, _REACH + shift : _REACH + shift + n_rows, k : k + starts]
    return total


def _moved(ends: np.ndarray, step: float, z: np.ndarray) -> list[np.ndarray]:
    """The ends after each of ten moves: along the line in time, up and down in frequency."""
    first, last, low, high = ends.T
    slope = (high - low) / np.maximum(last - first, 0.5)
    found = []
    for sign in (-step, step):
        # No end passes the other: a template has one column at least.
        left = np.minimum(first + sign, last - 1)
        right = np.maximum(last + sign, first + 1)
        found += [
            np.stack([left, last, low + slope * (left - first), high], axis=1),
            np.stack([first, right, low, high + slope * (right - last)], axis=1),
            np.stack([first, last, low + sign, high], axis=1),
            np.stack([first, last, low, high + sign], axis=1),
            np.stack([first, last, low + sign, high + sign], axis=1),
        ]
    for one in found:
        np.clip(one[:, :2], -0.5, z.shape[2] - 0.5, out=one[:, :2])
        np.clip(one[:, 2:], -0.5, z.shape[1] - 0.5, out=one[:, 2:])
    return found


def _response(z: np.ndarray, ends: np.ndarray, noise: _Noise) -> np.ndarray:
    """Response of one template per image, in standard deviations of the noise."""
    first, last, low, high = (ends[:, [i]] for i in range(4))
    columns = np.arange(z.shape[2])
    weights = special.expit((columns - first) / _EDGE) * special.expit((last - columns) / _EDGE)
    rows = low + (high - low) * (columns - first) / np.maximum(last - first, 0.5)
    total = (weights * along(z, rows)).sum(1)
    width = np.maximum((last - first)[:, 0], 1)
    return total / noise.deviation(width, (high - low)[:, 0] / width)
