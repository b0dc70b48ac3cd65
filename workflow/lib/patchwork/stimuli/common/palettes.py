"""The colours that stimuli are drawn in."""

from collections.abc import Sequence
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

N_HUES = 3600
N_HUE_NAMES = 12
_HUE_STEP_DEG = 360 / N_HUES
# ASSUME: lightness .75 holds nearly the largest chroma that every hue reaches in sRGB, so the hues
# are as strong as they can be at one lightness; a test checks that none leaves the gamut.
_OKLCH_LIGHTNESS = 0.75
_OKLCH_CHROMA = 0.12


@dataclass(frozen=True)
class Palette:
    """The colours that one dataset draws from, each equally likely.

    Attributes:
        rgb: shape (k, 3), uint8.
        colour: shape (k,), index into `names`.
        hue_deg: shape (k,), OKLCh hue in degrees, NaN where hue is not the quantity varied.
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


def equal_energy(colours: dict[str, tuple[int, int, int]]) -> dict[str, tuple[int, int, int]]:
    """Scales each colour, hue kept, until all have the energy of one full channel.

    One full channel is the most that pure red, green or blue can have, so no colour is clipped.
    Colours of one hue (magenta and purple, cyan and teal) become equal: pairs that must not differ.

    Args:
        colours: name to levels 0 to 255, none black.

    Returns:
        The same names; levels rounded to integers, energies equal up to that rounding.
    """
    scaled = {
        name: np.rint(np.array(rgb) / np.sqrt(signal_energy(np.array(rgb)))).astype(int)
        for name, rgb in colours.items()
    }
    return {name: (int(rgb[0]), int(rgb[1]), int(rgb[2])) for name, rgb in scaled.items()}


@lru_cache
def hue_circle() -> np.ndarray:
    """Colours of one lightness and chroma in OKLCh, hue in steps of 0.1 degree.

    Returns:
        shape (3600, 3), uint8; row i has hue i / 10 degrees. Read-only, cached.

    Source: Ottosson 2020, "A perceptual color space for image processing" (OKLab).
    """
    from coloraide import Color

    table = np.array(
        [
            Color("oklch", [_OKLCH_LIGHTNESS, _OKLCH_CHROMA, step * _HUE_STEP_DEG])
            .convert("srgb")
            .coords()
            for step in range(N_HUES)
        ]
    )
    levels = np.rint(table * 255).astype(np.uint8)
    levels.flags.writeable = False
    return levels


def in_arcs(hue_deg: np.ndarray, arcs: Sequence[tuple[float, float]]) -> np.ndarray:
    """Whether each hue, shape (n,), lies in one of the arcs [lo, hi], which may run through 360."""
    inside = np.zeros(len(hue_deg), dtype=bool)
    for low, high in arcs:
        inside |= (hue_deg - low) % 360 <= (high - low) % 360
    return inside


def _named(colours: dict[str, tuple[int, int, int]]) -> Palette:
    return Palette(
        rgb=np.array(list(colours.values()), dtype=np.uint8),
        colour=np.arange(len(colours)),
        hue_deg=np.full(len(colours), np.nan),
        names=tuple(colours),
    )


def _hues(held_out: tuple[tuple[float, float], ...]) -> Palette:
    hue = np.arange(N_HUES) * _HUE_STEP_DEG
    kept = ~in_arcs(hue, held_out)
    if not kept.any():
        raise ValueError(
            f"held_out_hues_deg is {[list(arc) for arc in held_out]}; allowed are arcs that leave "
            "some hue to draw"
        )
    width = 360 / N_HUE_NAMES
    return Palette(
        rgb=hue_circle()[kept],
        colour=np.floor(hue / width + 0.5).astype(np.int64)[kept] % N_HUE_NAMES,
        hue_deg=hue[kept],
        names=tuple(f"hue {round(i * width)} deg" for i in range(N_HUE_NAMES)),
    )


PALETTES = ("white", "basic11", "equal_energy", "hue_circle")


@lru_cache
def palette(name: str, held_out: tuple[tuple[float, float], ...] = ()) -> Palette:
    """The palette of that name.

    Args:
        name: one of `PALETTES`.
        held_out: for "hue_circle": arcs [lo, hi] in degrees that are never drawn; an arc with
            lo > hi runs through 360.

    Returns:
        Its colours; "hue_circle" names the nearest of 12 hues 30 degrees apart.

    Raises:
        ValueError: if no hue is left.
    """
    if name == "hue_circle":
        return _hues(held_out)
    named = {
        "white": {"white": BASIC11["white"]},
        "basic11": BASIC11,
        "equal_energy": equal_energy(BASIC11),
    }
    return _named(named[name])
