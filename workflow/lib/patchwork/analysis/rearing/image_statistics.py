"""Edge orientations and colours in the pictures of a condition."""

import numpy as np
import pandas as pd
from scipy import ndimage

# ASSUME: edges at a scale of 1.5 px: fine enough for small pictures, and a Gaussian so wide treats
# all orientations of the lattice alike.
_SIGMA_PX = 1.5
# ASSUME: within .38 of the side from the centre: at 64 px nearly three sigma inside the border of
# the disc, whose own gradient thus stays out.
_RADIUS = 0.38
_LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
# sRGB (D65) to XYZ relative to its white point: IEC 61966-2-1.
_XYZ = np.array(
    [
        [0.4123908, 0.3575843, 0.1804808],
        [0.2126390, 0.7151687, 0.0721923],
        [0.0193308, 0.1191948, 0.9505322],
    ]
)
_WHITE = _XYZ.sum(1)


def _disc(images: np.ndarray) -> np.ndarray:
    """The disc of pixels that counts."""
    height, width = images.shape[1:3]
    y = np.arange(height)[:, None] - (height - 1) / 2
    x = np.arange(width) - (width - 1) / 2
    return np.hypot(x, y) <= _RADIUS * min(height, width)


def _histogram(place: np.ndarray, weight: np.ndarray, period: float, n_bins: int) -> np.ndarray:
    """Weight in bins centred on multiples of their width."""
    bins = np.floor(place * (n_bins / period) + 0.5).astype(int) % n_bins
    return np.bincount(bins.ravel(), weight.ravel(), n_bins)


def edge_orientation_energy(images: np.ndarray, *, n_bins: int = 36) -> pd.DataFrame:
    """Share of edge energy at each orientation, inside the disc.

    Energy is the squared gradient of luma; an edge runs at right angles to its gradient. Isotropic
    pictures have the same share everywhere.

    Args:
        images: shape (n, height, width, 3), uint8.
        n_bins: of orientation.

    Returns:
        The table ``tables/edge_energy.csv`` without condition; shares sum to 1.

    Raises:
        ValueError: if nothing has an edge.
    """
    inside = _disc(images)
    total = np.zeros(n_bins)
    for picture in images:
        luma = picture @ _LUMA
        x = ndimage.gaussian_filter(luma, _SIGMA_PX, order=(0, 1))[inside]
        y = ndimage.gaussian_filter(luma, _SIGMA_PX, order=(1, 0))[inside]
        edge = np.mod(np.rad2deg(np.arctan2(y, x)) + 90, 180)
        total += _histogram(edge, x**2 + y**2, 180, n_bins)
    if not total.sum() > 0:
        raise ValueError("images have no edge inside the disc; allowed are pictures that vary")
    return pd.DataFrame(
        {
            "orientation_deg": np.arange(n_bins) * 180 / n_bins,
            "share": total / total.sum(),
            "n": len(images),
        }
    )


def lab(images: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of sRGB levels.

    Args:
        images: shape (..., 3), uint8.

    Returns:
        The same shape, float64: lightness 0 to 100, a, b.

    Source: CIE 15:2004; IEC 61966-2-1 (sRGB).
    """
    levels = np.arange(256) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    xyz = linear[images] @ _XYZ.T / _WHITE
    edge = 6 / 29
    root = np.where(xyz > edge**3, np.cbrt(xyz), xyz / (3 * edge**2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def colour_histogram(images: np.ndarray, *, n_bins: int = 36) -> pd.DataFrame:
    """Chroma at each hue of CIELCh, inside the disc.

    Args:
        images: shape (n, height, width, 3), uint8.
        n_bins: of hue.

    Returns:
        The table ``tables/hues.csv`` without condition; chroma sums to its mean over pixels.
    """
    inside = _disc(images)
    total = np.zeros(n_bins)
    for picture in images:
        hue, chroma = _polar(picture[inside])
        total += _histogram(hue, chroma, 360, n_bins)
    chroma = total / (len(images) * inside.sum())
    return pd.DataFrame(
        {
            "hue_deg": np.arange(n_bins) * 360 / n_bins,
            "chroma": chroma,
            "share": chroma / chroma.sum() if chroma.sum() > 0 else 0.0,
            "n": len(images),
        }
    )


def _polar(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hue (deg) and chroma; greys have none, whatever rounding says."""
    _, a, b = np.moveaxis(lab(pixels), -1, 0)
    grey = np.ptp(pixels, axis=-1) == 0
    return np.mod(np.rad2deg(np.arctan2(b, a)), 360), np.where(grey, 0.0, np.hypot(a, b))
