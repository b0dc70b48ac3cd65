"""Views of pictures: cut, turned, tinted and masked in one way for all of a condition.

Every condition draws its views with the same steps in the same order: colour, flip, one bicubic
resampling that also turns, a smooth disc on mean grey, equal mean and contrast inside. Conditions
of one seed have the same pictures, flips and cuts in the same order; what differs is the
condition's own setting.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from patchwork.stimuli.common import rng
from patchwork.stimuli.common.validation import read_settings

COLOURS = ("grey", "natural", "hue_rotated", "blue_poor", "yellow_poor")
# Rec. 601 weights, those of PIL's grey.
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# ASSUME: root mean square contrast, as a share of 255: large enough for eight bits to be fine,
# small enough that few pixels are clipped.
CONTRAST = 0.2
_MEAN_GREY = 127.5
# ASSUME: the border of the disc falls off over these px at an image of 64 px.
_SOFT = 3 / 64
# ASSUME: as for procedural images (stimuli.objects): an 80 deg band of hue keeps a twentieth of its
# chroma.
_POOR_CENTRE_DEG = {"blue_poor": 240.0, "yellow_poor": 60.0}
_POOR_BAND_DEG, _POOR_SHARE = 80.0, 0.05
_N_DRAWS = 4

_LUMA_CHROMA = np.array(  # YIQ: luma, and two axes of chroma that a hue rotation turns
    [LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
)


@dataclass(frozen=True)
class ViewSettings:
    """How a condition shows pictures.

    Attributes:
        image_px: height and width of the view, 16 to 1024.
        magnification: view px per picture px, 0.05 to 20; the same for all conditions.
        rotation_deg: turn of the picture, -360 to 360; as line angles: 0 to the right, 90 down.
        isotropic: whether each view gets a further random turn of its own.
        colour: one of `COLOURS`.
        hue_rotation_deg: turn of every hue for colour `hue_rotated`, -360 to 360.
        aperture: whether only a smooth disc is visible.
    """

    image_px: int
    magnification: float
    rotation_deg: float = 0.0
    isotropic: bool = False
    colour: str = "grey"
    hue_rotation_deg: float = 0.0
    aperture: bool = True

    @property
    def radius_px(self) -> float:
        """Distance from the centre of the view to the farthest visible px."""
        return self.image_px / 2 - 0.5 if self.aperture else self.image_px / np.sqrt(2)

    @property
    def side_min_px(self) -> int:
        """Smallest side of a picture that fills the view however it is turned."""
        return int(np.ceil(2 * self.radius_px / self.magnification))


def parse_settings(settings: Mapping[str, object]) -> ViewSettings:
    """Settings of a condition, typed; `image_px` and `magnification` are required.

    Raises:
        ValueError: one line that names a key that is unknown or missing.
    """
    return read_settings(ViewSettings, settings)


def disc(image_px: int) -> np.ndarray:
    """The aperture: 1 inside, 0 outside, a raised cosine between.

    Args:
        image_px: side of the view.

    Returns:
        shape (image_px, image_px), float32, 0 to 1.
    """
    place = np.arange(image_px) - (image_px - 1) / 2
    distance = np.hypot(place[:, None], place[None])
    soft = _SOFT * image_px
    ramp = np.clip((image_px / 2 - 0.5 - distance) / soft, 0, 1)
    return ((1 - np.cos(np.pi * ramp)) / 2).astype(np.float32)


def tint(picture: np.ndarray, settings: ViewSettings) -> np.ndarray:
    """A picture in the colours of a condition.

    Args:
        picture: shape (height, width, 3), uint8.
        settings: of the condition.

    Returns:
        The same shape, uint8.
    """
    if settings.colour == "natural":
        return picture
    if settings.colour == "grey":
        luma = np.rint(picture.astype(np.float32) @ LUMA)
        return np.repeat(luma[..., None], 3, axis=2).astype(np.uint8)
    if settings.colour == "hue_rotated":
        turn = np.deg2rad(settings.hue_rotation_deg)
        cosine, sine = np.cos(turn), np.sin(turn)
        rotation = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
        matrix = np.linalg.inv(_LUMA_CHROMA) @ rotation @ _LUMA_CHROMA
        turned = picture.astype(np.float32) @ matrix.T.astype(np.float32)
        return np.rint(np.clip(turned, 0, 255)).astype(np.uint8)
    return _poor(picture, _POOR_CENTRE_DEG[settings.colour])


def _poor(picture: np.ndarray, centre_deg: float) -> np.ndarray:
    """Pixels whose hue lies in a band lose most of their chroma and keep their luma."""
    hue = np.asarray(Image.fromarray(picture).convert("HSV"))[..., 0].astype(np.float32)
    away = np.abs(np.mod(hue * (360 / 256) - centre_deg + 180, 360) - 180)
    kept = np.where(away < _POOR_BAND_DEG / 2, _POOR_SHARE, 1.0).astype(np.float32)[..., None]
    rgb = picture.astype(np.float32)
    luma = (rgb @ LUMA)[..., None]
    return np.rint(luma + kept * (rgb - luma)).astype(np.uint8)


def view(
    pictures: np.ndarray, settings: ViewSettings, *, seed: int, indices: np.ndarray
) -> np.ndarray:
    """Views of pictures under a condition, each from picture, settings, seed and index alone.

    Args:
        pictures: shape (n, side, side, 3), uint8.
        settings: of the condition.
        seed: 0 to 2**64 - 1; with the index it chooses flip, cut and random turn.
        indices: numbers of the views, shape (n,).

    Returns:
        shape (n, image_px, image_px, 3), uint8.

    Raises:
        ValueError: if the pictures are too small to fill the view.
    """
    side, px = pictures.shape[1], settings.image_px
    if side < settings.side_min_px:
        raise ValueError(
            f"pictures have a side of {side} px; allowed is at least {settings.side_min_px} at "
            f"magnification {settings.magnification:g} and image_px {px}"
        )
    draws = rng.uniforms(seed, indices, _N_DRAWS)
    mask = disc(px) if settings.aperture else np.ones((px, px), np.float32)
    out = np.empty((len(pictures), px, px, 3), dtype=np.uint8)
    for target, picture, draw in zip(out, pictures, draws, strict=True):
        tinted = tint(picture, settings)
        if settings.colour == "grey":  # one channel to resample, as all three are alike
            seen = np.repeat(_resampled(tinted[..., 0], settings, draw)[..., None], 3, axis=2)
        else:
            seen = _resampled(tinted, settings, draw)
        target[:] = _equalised(seen, mask)
    return out


def _resampled(picture: np.ndarray, settings: ViewSettings, draw: np.ndarray) -> np.ndarray:
    """Flip, cut, turn and magnification in one bicubic step, float32 (px, px) or (px, px, 3)."""
    image, side = Image.fromarray(picture), float(len(picture))
    scale = settings.magnification
    if scale < 1:
        # Smaller views need their pictures smoothed first; upright, so alike for every condition.
        side = max(1.0, round(side * scale))
        image, scale = image.resize((int(side), int(side)), Image.Resampling.LANCZOS), 1.0
    room = max(0.0, side / 2 - settings.radius_px / scale)
    flip = -1.0 if draw[0] < 0.5 else 1.0
    centre = side / 2 + room * (2 * draw[1:3] - 1)
    turn = np.deg2rad(settings.rotation_deg + 360 * draw[3] * settings.isotropic)
    cosine, sine, half = np.cos(turn) / scale, np.sin(turn) / scale, settings.image_px / 2
    # Rows of the map from the view to the picture: turn back, flip, move to the centre.
    x = (flip * cosine, flip * sine, centre[0] - flip * half * (cosine + sine))
    y = (-sine, cosine, centre[1] - half * (cosine - sine))
    size = (settings.image_px, settings.image_px)
    drawn = image.transform(size, Image.Transform.AFFINE, (*x, *y), Image.Resampling.BICUBIC)
    return np.asarray(drawn, dtype=np.float32)


def _equalised(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Zero mean and fixed contrast of the luma inside the mask, on mean grey."""
    luma = rgb @ LUMA
    weight = mask / mask.sum()
    mean = (weight * luma).sum()
    rms = np.sqrt((weight * (luma - mean) ** 2).sum())
    gain = CONTRAST * 255 / max(float(rms), 1.0)
    seen = _MEAN_GREY + gain * mask[..., None] * (rgb - mean)
    return np.rint(np.clip(seen, 0, 255)).astype(np.uint8)
