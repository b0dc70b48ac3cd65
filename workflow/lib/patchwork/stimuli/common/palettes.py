"""The colours that stimuli are drawn in."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# Source: arXiv 2504.09393, dataset IV.
BASIC11 = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
    "white": (255, 255, 255),
    "orange": (255, 165, 0),
    "purple": (128, 0, 128),
    "pink": (255, 192, 203),
    "teal": (0, 128, 128),
}

N_HUES = 360
N_HUE_NAMES = 12


@dataclass(frozen=True)
class Palette:
    """The colours that one dataset draws from, each equally likely.

    Attributes:
        rgb: shape (k, 3), uint8.
        colour: shape (k,), index into `names`.
        hue_deg: shape (k,), HSV hue in degrees, NaN where hue is not the quantity varied.
        names: what an index of `colour` stands for.
    """

    rgb: np.ndarray
    colour: np.ndarray
    hue_deg: np.ndarray
    names: tuple[str, ...]


def signal_energy(rgb: np.ndarray) -> np.ndarray:
    """Sum of squared channel values: the energy of a colour on black, per pixel.

    Args:
        rgb: shape (..., 3), levels 0 to 255.

    Returns:
        shape (...), in units of one full channel squared, 0 (black) to 3 (white).
    """
    return np.sum((np.asarray(rgb, dtype=np.float64) / 255) ** 2, axis=-1)


def equal_energy(rgb: np.ndarray) -> np.ndarray:
    """Scales colours, hue kept, until all have the energy of one full channel.

    One full channel is the most that pure red, green or blue can have, so no colour is clipped.

    Args:
        rgb: shape (k, 3), levels 0 to 255, none black.

    Returns:
        shape (k, 3), uint8; energies are equal up to rounding.
    """
    return np.rint(rgb / np.sqrt(signal_energy(rgb))[:, None]).astype(np.uint8)


@lru_cache
def hue_circle(n: int = N_HUES) -> np.ndarray:
    """Saturated hues of equal signal energy, evenly spaced.

    Args:
        n: hues, a divisor of 360.

    Returns:
        shape (n, 3), uint8; row i has hue 360 i / n degrees (HSV: red 0, green 120, blue 240).
        Read-only, cached.
    """
    from coloraide import Color

    turns = (Color("hsv", [360 * i / n, 1, 1]).convert("srgb").coords() for i in range(n))
    levels = equal_energy(255 * np.array(list(turns)))
    levels.flags.writeable = False
    return levels


def in_arc(hue_deg: np.ndarray, arc: tuple[float, float]) -> np.ndarray:
    """Whether each hue, shape (n,), lies in the arc [low, high), which may run through 360."""
    low, high = arc
    return (hue_deg - low) % 360 < (high - low) % 360


def _named(colours: dict[str, tuple[int, int, int]]) -> Palette:
    return Palette(
        rgb=np.array(list(colours.values()), dtype=np.uint8),
        colour=np.arange(len(colours)),
        hue_deg=np.full(len(colours), np.nan),
        names=tuple(colours),
    )


def _hues() -> Palette:
    width, hue = 360 / N_HUE_NAMES, np.arange(N_HUES) * (360 / N_HUES)
    return Palette(
        rgb=hue_circle(),
        colour=np.floor(hue / width + 0.5).astype(np.int64) % N_HUE_NAMES,
        hue_deg=hue,
        names=tuple(f"hue {round(i * width)} deg" for i in range(N_HUE_NAMES)),
    )


PALETTES = ("white", "basic11", "hue_circle")


@lru_cache
def palette(name: str) -> Palette:
    """The palette of that name.

    Args:
        name: one of `PALETTES`.

    Returns:
        Its colours; "hue_circle" names the nearest of 12 hues 30 degrees apart.
    """
    if name == "hue_circle":
        return _hues()
    return _named({"white": {"white": BASIC11["white"]}, "basic11": BASIC11}[name])
