"""Procedural images for pre-training: one outlined shape on plain or cluttered noisy ground.

A small network learns shape, place, size, thickness, colour and noise from these images, and the
clean pixels. Orientation is never a label; its statistics, and those of colour, are settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.special import ndtri

from patchwork.stimuli.common import noise, rng
from patchwork.stimuli.common.batch import Batch, LabelAttributes
from patchwork.stimuli.common.validation import read_settings

ORIENTATION_STATISTICS = ("isotropic", "cardinal", "oblique")
COLOUR_STATISTICS = ("uniform", "blue_poor", "yellow_poor")

_SCENE, _NOISE = 0, 1
_CIRCLE = np.deg2rad(np.arange(0, 361, 15))


def _polyline(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, dtype=np.float64)


# Strokes of each shape within the unit circle, as polylines (k, 2) of x, y.
SHAPES: dict[str, list[np.ndarray]] = {
    "bar": [_polyline((-1, 0), (1, 0))],
    "cross": [_polyline((-1, 0), (1, 0)), _polyline((0, -1), (0, 1))],
    "tee": [_polyline((-0.8, -0.6), (0.8, -0.6)), _polyline((0, -0.6), (0, 1))],
    "corner": [_polyline((-0.6, -0.8), (-0.6, 0.8), (0.6, 0.8))],
    "triangle": [_polyline((0, -1), (0.866, 0.5), (-0.866, 0.5), (0, -1))],
    "square": [_polyline((-0.7, -0.7), (0.7, -0.7), (0.7, 0.7), (-0.7, 0.7), (-0.7, -0.7))],
    "circle": [np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE)], axis=1)],
    "arc": [np.stack([np.cos(_CIRCLE[:13]), np.sin(_CIRCLE[:13]) - 0.5], axis=1) * 0.89],
}
_STROKES = list(SHAPES.values())

# ASSUME: ranges below, as fractions of the image's side where they are lengths: large enough to be
# seen through 8 px patches, small enough to leave room for place to vary.
_SIZE = (0.2, 0.6)
_THICKNESS = (1 / 64, 5 / 64)
_NOISE_SD_MAX = 0.3
_SHAPE_VALUE = (0.6, 1.0)
# Clutter is dimmer than any shape: a bar among bars would else not be identifiable.
_CLUTTER_VALUE = (0.15, 0.45)
_GROUND_VALUE = (0.0, 0.3)
_CLUTTER_LENGTH = (0.15, 0.7)
_CLUTTER_COUNT = (3, 8)
# ASSUME: rich statistics put four of five orientations near an axis, with a spread of 5 degrees;
# "oblique" is "cardinal" turned by 45 degrees, nothing else.
_RICH_SHARE, _RICH_SPREAD_DEG = 0.8, 5.0
# ASSUME: poor statistics leave one in twenty of the colours that would fall in an 80 degree band of
# hue (HSV) around blue or yellow.
_POOR_CENTRE_DEG = {"blue_poor": 240.0, "yellow_poor": 60.0}
_POOR_BAND_DEG, _POOR_SHARE = 80.0, 0.95
# Drawn four times larger and averaged down, so that edges carry little trace of the pixel lattice.
_OVERSAMPLING = 4

_N_ORIENTATION, _N_COLOUR, _N_CLUTTER = 3, 4, 4
_N_DRAWS = 7 + _N_ORIENTATION + 2 * _N_COLOUR
_N_ELEMENT = _N_CLUTTER + _N_ORIENTATION + _N_COLOUR


@dataclass(frozen=True)
class ObjectSettings:
    """Settings of the pre-training images.

    Attributes:
        image_px: height and width, 16 to 1024.
        orientation_statistics: one of `ORIENTATION_STATISTICS`, for shapes and clutter alike.
        colour_statistics: one of `COLOUR_STATISTICS`, for shapes, clutter and ground alike.
        clutter_probability: share of images with clutter, 0 to 1.
        size: limits of the shape's diameter as shares of the image's side, 0.1 to 0.9; a mapping
            {min, max} in the configuration.
        noise_sd_max: highest noise level as a share of 255, 0 to 0.3; the lowest is 0.
    """

    image_px: int
    orientation_statistics: str = "isotropic"
    colour_statistics: str = "uniform"
    clutter_probability: float = 0.5
    size: tuple[float, float] = _SIZE
    noise_sd_max: float = _NOISE_SD_MAX


@dataclass(frozen=True)
class _Bars:
    """Clutter of each image: arrays of shape (n, 8) or (n, 8, channels)."""

    ends: np.ndarray
    thickness: np.ndarray
    rgb: np.ndarray


@dataclass(frozen=True)
class _Scene:
    """What each image shows; arrays of shape (n,), colours (n, 3), lengths in px."""

    shape: np.ndarray
    centre: np.ndarray
    size: np.ndarray
    thickness: np.ndarray
    orientation_deg: np.ndarray
    rgb: np.ndarray
    ground: np.ndarray
    noise: np.ndarray
    n_clutter: np.ndarray
    clutter: _Bars


def parse_settings(settings: Mapping[str, object]) -> ObjectSettings:
    """Settings of the pre-training images, typed; only `image_px` is required.

    Raises:
        ValueError: one line that names a key that is unknown or missing.
    """
    return read_settings(ObjectSettings, settings)


def _between(draws: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return limits[0] + draws * (limits[1] - limits[0])


def _orientation_deg(draws: np.ndarray, statistics: str) -> np.ndarray:
    """Angles from three uniform numbers each (last axis), 0 to 360 degrees."""
    turn, pick, jitter = np.moveaxis(draws, -1, 0)
    uniform = 360.0 * turn
    if statistics == "isotropic":
        return uniform
    axis = 90.0 * np.floor(4 * turn) + _RICH_SPREAD_DEG * ndtri(np.maximum(jitter, 1e-12))
    angle = np.where(pick < _RICH_SHARE, axis, uniform)
    return np.mod(angle + (45.0 if statistics == "oblique" else 0.0), 360)


def _colour(draws: np.ndarray, statistics: str, value: tuple[float, float]) -> np.ndarray:
    """RGB levels (..., 3) from four uniform numbers each (last axis): hue, pick, chroma, value."""
    turn, pick, saturation, brightness = np.moveaxis(draws, -1, 0)
    hue = 360.0 * turn
    if statistics in _POOR_CENTRE_DEG:
        edge = _POOR_CENTRE_DEG[statistics] + _POOR_BAND_DEG / 2
        elsewhere = edge + (360.0 - _POOR_BAND_DEG) * turn
        hue = np.where(pick < _POOR_SHARE, elsewhere, hue)
    sector = np.mod(np.array([5.0, 3.0, 1.0]) + hue[..., None] / 60, 6)
    shade = saturation[..., None] * np.clip(np.minimum(sector, 4 - sector), 0, 1)
    return np.rint(255 * _between(brightness, value)[..., None] * (1 - shade)).astype(np.int64)


def _draw_clutter(draws: np.ndarray, settings: ObjectSettings) -> _Bars:
    """Bars from `_N_ELEMENT` uniform numbers each, shape (n, 8, _N_ELEMENT)."""
    size = settings.image_px
    place, length, thickness = draws[..., :2] * size, draws[..., 2], draws[..., 3]
    turn = draws[..., _N_CLUTTER : _N_CLUTTER + _N_ORIENTATION]
    angle = np.deg2rad(_orientation_deg(turn, settings.orientation_statistics))
    half = _between(length, _CLUTTER_LENGTH)[..., None] * size / 2
    reach = half * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return _Bars(
        ends=np.stack([place - reach, place + reach], axis=-2),
        thickness=_between(thickness, _THICKNESS) * size,
        rgb=_colour(draws[..., -_N_COLOUR:], settings.colour_statistics, _CLUTTER_VALUE),
    )


def _draw_scene(settings: ObjectSettings, seed: int, indices: np.ndarray) -> _Scene:
    """Draws the parameters of each image, in a fixed order, from its own stream."""
    n_draws = _N_DRAWS + _CLUTTER_COUNT[1] * _N_ELEMENT
    draws = rng.uniforms(seed, indices, n_draws, _SCENE)
    size = _between(draws[:, 3], settings.size) * settings.image_px
    thickness = _between(draws[:, 4], _THICKNESS) * settings.image_px
    room = settings.image_px - size - thickness
    colours = draws[:, 7 + _N_ORIENTATION : _N_DRAWS].reshape(-1, 2, _N_COLOUR)
    statistics = settings.colour_statistics
    cluttered = draws[:, 5] < settings.clutter_probability
    count = rng.uniform_integers(
        draws[:, 5] / max(settings.clutter_probability, 1e-12), *_CLUTTER_COUNT
    )
    elements = draws[:, _N_DRAWS:].reshape(len(draws), _CLUTTER_COUNT[1], _N_ELEMENT)
    return _Scene(
        shape=rng.uniform_integers(draws[:, 0], 0, len(SHAPES) - 1),
        centre=(size + thickness)[:, None] / 2 + draws[:, 1:3] * room[:, None],
        size=size,
        thickness=thickness,
        orientation_deg=_orientation_deg(
            draws[:, 7 : 7 + _N_ORIENTATION], settings.orientation_statistics
        ),
        rgb=_colour(colours[:, 0], statistics, _SHAPE_VALUE),
        ground=_colour(colours[:, 1], statistics, _GROUND_VALUE),
        noise=_between(draws[:, 6], (0.0, settings.noise_sd_max)),
        n_clutter=np.where(cluttered, count, 0),
        clutter=_draw_clutter(elements, settings),
    )


def _stroke(canvas: ImageDraw.ImageDraw, points: np.ndarray, width: float, rgb: np.ndarray) -> None:
    """Draws a polyline with round joints and ends; lengths in image px."""
    scaled = points * _OVERSAMPLING
    colour = (int(rgb[0]), int(rgb[1]), int(rgb[2]))
    thick = max(1, round(width * _OVERSAMPLING))
    canvas.line(scaled.ravel().tolist(), fill=colour, width=thick)
    if thick > 2:
        radius = (thick - 1) / 2
        for x, y in scaled.tolist():
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _render(settings: ObjectSettings, scene: _Scene, i: int) -> np.ndarray:
    """Image i of the scene without noise, shape (image_px, image_px, 3), uint8."""
    side = settings.image_px * _OVERSAMPLING
    picture = Image.new("RGB", (side, side), tuple(scene.ground[i].tolist()))
    canvas = ImageDraw.Draw(picture)
    bars = scene.clutter
    for k in range(scene.n_clutter[i]):
        _stroke(canvas, bars.ends[i, k], bars.thickness[i, k], bars.rgb[i, k])
    angle = np.deg2rad(scene.orientation_deg[i])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for points in _STROKES[scene.shape[i]]:
        placed = points @ turn * (scene.size[i] / 2) + scene.centre[i]
        _stroke(canvas, placed, scene.thickness[i], scene.rgb[i])
    return np.asarray(picture.reduce(_OVERSAMPLING))


def generate(settings: Mapping[str, object], *, seed: int, indices: range | np.ndarray) -> Batch:
    """Draws pre-training images; each depends on the settings, the seed and its own index alone.

    Args:
        settings: see `parse_settings`.
        seed: 0 to 2**64 - 1.
        indices: image numbers, shape (n,), in any order.

    Returns:
        Images of shape (n, image_px, image_px, 3), the labels of `label_attributes`, and the
        images without noise as extra `clean`.

    Raises:
        ValueError: if the settings or the seed are impossible.
    """
    parsed = parse_settings(settings)
    numbers = np.asarray(indices, dtype=np.uint64)
    scene = _draw_scene(parsed, seed, numbers)
    clean = np.empty((len(numbers), parsed.image_px, parsed.image_px, 3), dtype=np.uint8)
    images = np.empty_like(clean)
    for i, index in enumerate(numbers):
        clean[i] = _render(parsed, scene, i)
        bits = rng.sixteen_bits(rng.stream(seed, int(index), _NOISE), clean[i].size)
        images[i] = noise.noisy(clean[i], scene.noise[i], bits.reshape(clean[i].shape))
    labels = {
        "shape": scene.shape,
        # Pixel centres lie at whole numbers, half a pixel from the corner the scene is measured by.
        "x_px": scene.centre[:, 0] - 0.5,
        "y_px": scene.centre[:, 1] - 0.5,
        "size_px": scene.size,
        "thickness_px": scene.thickness,
        "red": scene.rgb[:, 0],
        "green": scene.rgb[:, 1],
        "blue": scene.rgb[:, 2],
        "noise_sd": scene.noise,
    }
    return Batch(images=images, labels=labels, extras={"clean": clean})


def label_attributes(settings: Mapping[str, object]) -> dict[str, LabelAttributes]:
    """Unit and range of each label under these settings.

    Args:
        settings: see `parse_settings`.

    Returns:
        Label name to unit and range; `shape` carries the names of its indices.

    Raises:
        ValueError: if the settings are impossible.
    """
    parsed = parse_settings(settings)
    size, (least, most) = parsed.image_px, parsed.size
    nearest = (least + _THICKNESS[0]) * size / 2
    place = LabelAttributes("px", nearest - 0.5, size - nearest - 0.5)
    return {
        "shape": LabelAttributes("index", 0, len(SHAPES) - 1, tuple(SHAPES)),
        "x_px": place,
        "y_px": place,
        "size_px": LabelAttributes("px", least * size, most * size),
        "thickness_px": LabelAttributes("px", _THICKNESS[0] * size, _THICKNESS[1] * size),
        **{channel: LabelAttributes("level", 0, 255) for channel in ("red", "green", "blue")},
        "noise_sd": LabelAttributes("fraction", 0.0, float(parsed.noise_sd_max)),
    }
