"""How well vectors code orientation, and at which: Fisher information, read-out, c4.

Arrays in, numbers out: the vectors may come from a network, from pixels or from a model.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from patchwork.statistics.metrics import circular_error, signed_circular_error
from patchwork.stimuli import lines, probes

# Penalties in units of one standardised feature's variance times the number of examples.
_PENALTIES = np.logspace(-5, 2, 15)
# Normalised features lie in a subspace; single precision leaves some 1e-12 of variance outside it.
_RANK_TOLERANCE = 1e-9


@dataclass(frozen=True)
class FourCycle:
    """The part of a curve over orientation that repeats every 90 deg.

    Attributes:
        mean: of the curve, freed of its cycles.
        c4: factor of cos(4 theta): above zero, larger at 0 and 90 than at 45 and 135.
        s4: factor of sin(4 theta): above zero, larger at 22.5 than at 67.5.
    """

    mean: float
    c4: float
    s4: float


def four_cycle(orientation_deg: np.ndarray, value: np.ndarray) -> FourCycle:
    """Least-squares amplitude of the 4-cycle component of a curve or of single values.

    The 2-cycle is fitted beside it, so that uneven sampling lets neither leak into the other.

    Args:
        orientation_deg: shape (n,), any range.
        value: shape (n,), finite.

    Returns:
        Mean, c4 and s4 in the unit of the values; for errors c4 < 0 means better at 0 and 90.

    Raises:
        ValueError: if there are fewer than five orientations.
    """
    theta, values = np.deg2rad(np.asarray(orientation_deg, float)), np.asarray(value, float)
    waves = [np.ones_like(theta), *(f(k * theta) for k in (2, 4) for f in (np.cos, np.sin))]
    factors, _, rank, _ = np.linalg.lstsq(np.stack(waves, axis=1), values)
    if rank < len(waves):
        raise ValueError("orientation_deg has too few values; allowed are 5 or more distinct ones")
    return FourCycle(float(factors[0]), float(factors[3]), float(factors[4]))


def linear_fisher_information(
    features_at_theta_minus: np.ndarray, features_at_theta_plus: np.ndarray, delta: float
) -> float:
    """Linear Fisher information between two stimuli, without the bias of few examples.

    With examples enough for the inverse covariance (three for each two dimensions, both stimuli
    together) it is the unbiased direct estimator. With fewer, a decoder with shrunk
    covariance is trained on one half and scored on the other, both ways: a lower bound.

    Args:
        features_at_theta_minus: shape (n, d), responses at theta - delta / 2.
        features_at_theta_plus: shape (m, d), independent responses at theta + delta / 2.
        delta: difference of the stimuli, > 0.

    Returns:
        In units of 1 / delta**2's unit; may fall below zero where there is next to none.

    Raises:
        ValueError: if no feature varies.

    Source: Kanitscheider et al. 2015, "Measuring Fisher information accurately in correlated
    neural populations" (direct estimator; decoder as lower bound).
    """
    a = np.asarray(features_at_theta_minus, dtype=np.float64)
    b = np.asarray(features_at_theta_plus, dtype=np.float64)
    c, d = _varying(a, b)
    if 3 * c.shape[1] <= 2 * (len(c) + len(d) - 2):
        return _direct(c, d) / delta**2
    # Axes of all the data would let the scored half into the decoder: units as they are.
    halves = (a[::2], b[::2]), (a[1::2], b[1::2])
    return (_decoded(*halves[0], *halves[1]) + _decoded(*halves[1], *halves[0])) / 2 / delta**2


def _varying(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in axes of unit variance within stimuli, without directions in which none varies."""
    within = np.concatenate([a - a.mean(0), b - b.mean(0)])
    _, spread, axes = np.linalg.svd(within, full_matrices=False)
    kept = spread**2 > _RANK_TOLERANCE * spread[0] ** 2
    if spread[0] == 0:
        raise ValueError("features are constant within each stimulus; allowed are noisy responses")
    scale = axes[kept].T * (np.sqrt(len(within)) / spread[kept])
    middle = (a.mean(0) + b.mean(0)) / 2
    return (a - middle) @ scale, (b - middle) @ scale


def _direct(a: np.ndarray, b: np.ndarray) -> float:
    n, m, d = len(a), len(b), a.shape[1]
    apart, df = b.mean(0) - a.mean(0), n + m - 2
    within = ((a - a.mean(0)).T @ (a - a.mean(0)) + (b - b.mean(0)).T @ (b - b.mean(0))) / df
    naive = apart @ np.linalg.solve(within, apart)
    # E[inverse of a Wishart] and the means' own noise; equal n gives the published factors.
    return float(naive * (df - d - 1) / df - d * (1 / n + 1 / m))


def _decoded(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> float:
    """Squared d' on c and d of the best linear direction of a and b, free of the means' noise."""
    centred = np.concatenate([a - a.mean(0), b - b.mean(0)])
    direction = np.linalg.solve(ledoit_wolf(centred)[0], b.mean(0) - a.mean(0))
    low, high = c @ direction, d @ direction
    df = len(low) + len(high) - 2
    variance = (len(low) * low.var() + len(high) * high.var()) / df
    naive = (high.mean() - low.mean()) ** 2 / variance
    return float(naive * (df - 2) / df - (1 / len(low) + 1 / len(high)))


def ridge_readout_errors(
    train_features: np.ndarray,
    train_deg: np.ndarray,
    test_features: np.ndarray,
    test_deg: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Errors of a linear read-out of the doubled angle from frozen features.

    Ridge regression to (cos 2 theta, sin 2 theta); the penalty has the least leave-one-out error
    (closed form) on the training examples. No direction is favoured beforehand: without knowledge
    the read-out scatters, so that chance has no signed error.

    Args:
        train_features: shape (n, d).
        train_deg: shape (n,), orientations, evenly spread: their doubled angles average to zero.
        test_features: shape (m, d).
        test_deg: shape (m,), orientations.

    Returns:
        error_deg, 0 to 90, and signed_error_deg (predicted minus true), -90 to 90, shape (m,).
    """
    scaler = StandardScaler().fit(train_features)
    doubled = np.deg2rad(2 * np.asarray(train_deg, float))
    reader = RidgeCV(alphas=_PENALTIES * len(doubled))
    reader.fit(scaler.transform(train_features), np.stack([np.cos(doubled), np.sin(doubled)], 1))
    # The intercept is what is left of the spread's unevenness: no knowledge of the features.
    cosine, sine = (reader.predict(scaler.transform(test_features)) - reader.intercept_).T
    predicted = np.rad2deg(np.arctan2(sine, cosine)) / 2
    actual = np.asarray(test_deg, float)
    return circular_error(predicted, actual, 180), signed_circular_error(predicted, actual, 180)


def gabor_energy(images: np.ndarray, *, n_orientations: int = 16) -> np.ndarray:
    """Energy of an isotropic bank of oriented filters: the features of an unbiased observer.

    Equal filters at equal steps of orientation and octaves of frequency, applied in the spectrum
    on the disc of frequencies that the lattice treats alike.

    Args:
        images: shape (n, height, width, channels), square; channels are averaged.
        n_orientations: filters around the half circle, 4 to 64.

    Returns:
        shape (n, 2 * n_orientations), logarithm of the energy at 6 and 12 cycles per image.
    """
    side = images.shape[1]
    x, y = np.meshgrid(fft.rfftfreq(side) * side, fft.fftfreq(side) * side)
    radius, bearing = np.hypot(x, y), np.arctan2(y, x)
    inside = (radius > 0) & (radius < side / 2)
    octave = np.log2(np.where(inside, radius, 1.0))
    angles = np.arange(n_orientations) * np.pi / n_orientations + np.pi / 2
    bank = [
        inside * np.exp(-0.5 * (octave - np.log2(cycles)) ** 2 / 0.5**2)
        * np.exp(n_orientations / 2 * (np.cos(2 * (bearing - angle)) - 1))
        for cycles in (6, 12) for angle in angles
    ]  # fmt: skip
    # Columns of a half spectrum stand for themselves and their mirror images, but for the first.
    bank_of_halves = np.stack(bank) * np.where(x > 0, 2.0, 1.0)
    rows = [
        np.einsum(
            "hw,fhw->f", np.abs(fft.rfft2(one.mean(-1, dtype=np.float64))) ** 2, bank_of_halves
        )
        for one in images
    ]
    return np.log(np.stack(rows) + 1e-9)


def line_matches(images: np.ndarray, *, n_orientations: int = 24) -> np.ndarray:
    """Best match of the probes' line anywhere, by orientation: an observer who knows the line.

    Args:
        images: shape (n, side, side, channels); channels are averaged.
        n_orientations: templates around the half circle, 4 to 64.

    Returns:
        shape (n, n_orientations), the largest correlation over all places, sharpened by its fourth
        power and scaled to mean 1.
    """
    side = images.shape[1]
    middle, half = np.full(2, (side - 1) / 2), probes.LINE_LENGTH * side / 2
    width, draw = max(1, round(probes.LINE_WIDTH * side)), lines.RASTERISERS["antialiased"]
    templates = np.empty((n_orientations, side, side))
    for template, angle in zip(templates, np.arange(n_orientations), strict=True):
        bearing = angle * np.pi / n_orientations
        reach = half * np.array([np.cos(bearing), np.sin(bearing)])
        template[:] = draw(side, middle - reach, middle + reach, width)
    templates -= templates.mean((1, 2), keepdims=True)
    templates /= np.linalg.norm(templates, axis=(1, 2), keepdims=True)
    spectra = fft.rfft2(templates).conj()
    best = np.empty((len(images), n_orientations))
    for row, one in zip(best, images, strict=True):
        seen = fft.rfft2(one.mean(-1, dtype=np.float64) - probes.MEAN_LEVEL)
        row[:] = fft.irfft2(seen * spectra, s=(side, side)).max((1, 2))
    sharp = np.maximum(best, 0) ** 4
    return sharp / sharp.mean(1, keepdims=True)
