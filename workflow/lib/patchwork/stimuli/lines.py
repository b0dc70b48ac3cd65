"""Single straight lines on black ground with Gaussian noise.

Angles run from the positive x axis towards the positive y axis; y points down, as in the image.

Source: arXiv 2504.09393, "Stimuli".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from patchwork.stimuli.common import noise, palettes, rng
from patchwork.stimuli.common.batch import Batch, LabelAttributes
from patchwork.stimuli.common.validation import read_settings

MARGINS = ("length", "length_and_width")
CHANGES = ("orientation", "colour", "width")
# Geometry and noise draw from streams of their own: a change of rasteriser, rotation or palette
# keeps the noise of each image, so that control stimuli differ in the one thing named.
_GEOMETRY, _NOISE = 0, 1


@dataclass(frozen=True)
class LineSettings:
    """Settings of a line dataset.

    Attributes:
        image_px: height and width, 8 to 4096.
        length_px: shortest and longest line; integers, each equally likely.
        width_px: thinnest and thickest line; integers, each equally likely.
        palette: one of `palettes.PALETTES`.
        margin: how far the start point stays from the border: "length" or "length_and_width".
        noise_levels: standard deviations as fractions of 255, each equally likely.
        rasteriser: one of `RASTERISERS`.
        rotation_deg: turn of the drawn line about the image centre, added to its angle.
    """

    image_px: int
    length_px: tuple[int, int]
    width_px: tuple[int, int]
    palette: str
    margin: str
    noise_levels: tuple[float, ...]
    rasteriser: str
    rotation_deg: float = 0.0

    @property
    def colours(self) -> palettes.Palette:
        """The colours that may be drawn."""
        return palettes.palette(self.palette)

    def margin_px(self, length: np.ndarray, width: np.ndarray) -> np.ndarray:
        """Distance in px of the box of start points from the border."""
        return length + width if self.margin == "length_and_width" else length


@dataclass(frozen=True)
class _Geometry:
    """What each image draws, before rotation; arrays of shape (n,), points (n, 2) as x, y."""

    angle_deg: np.ndarray
    start: np.ndarray
    end: np.ndarray
    length: np.ndarray
    width: np.ndarray
    colour: np.ndarray
    noise: np.ndarray


def parse_settings(settings: Mapping[str, object]) -> LineSettings:
    """Settings of a line dataset.

    Args:
        settings: plain mapping with the keys of `LineSettings`; `length_px` and `width_px` are
            mappings {min, max}; `rotation_deg` may be left out.

    Returns:
        The same settings, typed.

    Raises:
        ValueError: one line that names a key that is unknown or missing, or lines that are too
            long for the image.
    """
    parsed = read_settings(LineSettings, settings)
    longest = (parsed.image_px - 1) // 2
    longest -= parsed.width_px[1] if parsed.margin == "length_and_width" else 0
    if parsed.length_px[1] > longest:
        raise ValueError(
            f"length_px.max is {parsed.length_px[1]}; allowed is at most {longest} for a "
            f"{parsed.image_px} px image (line plus margin must fit)"
        )
    return parsed


def _draw_geometry(settings: LineSettings, seed: int, indices: np.ndarray) -> _Geometry:
    """Draws the parameters of each image, in a fixed order, from its own stream."""
    draws = rng.uniforms(seed, indices, 7, _GEOMETRY).T
    length = rng.uniform_integers(draws[3], *settings.length_px)
    width = rng.uniform_integers(draws[4], *settings.width_px)
    margin = settings.margin_px(length, width)[:, None]
    angle = 360.0 * draws[0]
    reach = length[:, None] * np.stack([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))], 1)
    room = settings.image_px - 2 * margin
    if settings.rasteriser == "antialiased":
        # Points between pixels, and no truncation: the lattice leaves no mark on angle or place.
        start = margin + draws[1:3].T * (room - 1)
        end = start + reach
    else:
        # ASSUME: start points are whole pixels, both ends of the box included: the text gives a
        # uniform box and whole-number steps to the end point.
        start = (margin + np.floor(draws[1:3].T * room)).astype(np.float64)
        end = start + np.trunc(reach)
    return _Geometry(
        angle_deg=angle,
        start=start,
        end=end,
        length=length,
        width=width,
        colour=rng.uniform_integers(draws[5], 0, len(settings.colours.rgb) - 1),
        noise=np.array(settings.noise_levels, dtype=float)[
            rng.uniform_integers(draws[6], 0, len(settings.noise_levels) - 1)
        ],
    )


def _rasterise_pil(size: int, start: np.ndarray, end: np.ndarray, width: int) -> np.ndarray:
    """Coverage (0 or 255) of the line exactly as `PIL.ImageDraw.line` draws it."""
    mask = Image.new("L", (size, size))
    ends = (int(start[0]), int(start[1]), int(end[0]), int(end[1]))
    ImageDraw.Draw(mask).line(ends, fill=255, width=width)
    return np.asarray(mask)


def _rasterise_antialiased(size: int, start: np.ndarray, end: np.ndarray, width: int) -> np.ndarray:
    """Coverage (0 to 255) that falls off linearly over one pixel around a rectangle."""
    mask = np.zeros((size, size), dtype=np.uint8)
    reach = width / 2 + 1
    low = np.maximum(np.floor(np.minimum(start, end) - reach).astype(int), 0)
    high = np.minimum(np.ceil(np.maximum(start, end) + reach).astype(int) + 1, size)
    x = np.arange(low[0], high[0]) - (start[0] + end[0]) / 2
    y = (np.arange(low[1], high[1]) - (start[1] + end[1]) / 2)[:, None]
    length = float(np.hypot(*(end - start)))
    along_x, along_y = (end - start) / length
    along = np.clip((length + 1) / 2 - np.abs(x * along_x + y * along_y), 0, 1)
    across = np.clip((width + 1) / 2 - np.abs(y * along_x - x * along_y), 0, 1)
    mask[low[1] : high[1], low[0] : high[0]] = np.rint(255 * along * across)
    return mask


RASTERISERS = {"pil": _rasterise_pil, "antialiased": _rasterise_antialiased}


def _paint(
    out: np.ndarray, mask: np.ndarray, rgb: np.ndarray, sd: float, stream: np.random.Philox
) -> None:
    """Writes a coloured mask plus noise into one image of shape (size, size, 3).

    Most channels are noise on black, one table look-up each; only the line needs arithmetic.
    """
    pixels = np.flatnonzero(mask != 0)
    levels = np.rint(mask.ravel()[pixels, None] * (rgb / 255.0))
    flat = out.reshape(-1, 3)
    if sd == 0:
        flat[pixels] = levels
        return
    bits = rng.sixteen_bits(stream, out.size)
    np.take(noise.on_black(sd), bits, out=out.reshape(-1), mode="clip")
    flat[pixels] = noise.noisy(levels, sd, bits.reshape(-1, 3)[pixels])


def _turned(points: np.ndarray, settings: LineSettings) -> np.ndarray:
    """Points (n, 2) after the image is rotated about its centre."""
    centre = (settings.image_px - 1) / 2
    cosine, sine = (
        np.cos(np.deg2rad(settings.rotation_deg)),
        np.sin(np.deg2rad(settings.rotation_deg)),
    )
    x, y = (points - centre).T
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1) + centre


def _labels(settings: LineSettings, drawn: _Geometry) -> dict[str, np.ndarray]:
    """Labels of the line as shown, that is after rotation."""
    angle = np.mod(drawn.angle_deg + settings.rotation_deg, 360)
    start, end = drawn.start, drawn.end
    if settings.rotation_deg:
        start, end = _turned(start, settings), _turned(end, settings)
    middle = (start + end) / 2
    colours = settings.colours
    rgb = colours.rgb[drawn.colour].astype(np.int64)
    return {
        "angle_deg": angle,
        "orientation_deg": np.mod(angle, 180),
        "length_px": drawn.length,
        "width_px": drawn.width,
        "start_x_px": start[:, 0],
        "start_y_px": start[:, 1],
        "end_x_px": end[:, 0],
        "end_y_px": end[:, 1],
        "mid_x_px": middle[:, 0],
        "mid_y_px": middle[:, 1],
        "noise_sd": drawn.noise,
        "red": rgb[:, 0],
        "green": rgb[:, 1],
        "blue": rgb[:, 2],
        "colour": colours.colour[drawn.colour],
        "hue_deg": colours.hue_deg[drawn.colour],
    }


def generate(settings: Mapping[str, object], *, seed: int, indices: range | np.ndarray) -> Batch:
    """Draws lines; each image depends on the settings, the seed and its own index alone.

    A rotated image may lose the part of a line that turns out of the frame, as any rotated picture
    does; its labels keep the whole line.

    Args:
        settings: see `parse_settings`.
        seed: 0 to 2**64 - 1.
        indices: image numbers, shape (n,), each 0 to 2**64 - 1, in any order.

    Returns:
        Images of shape (n, image_px, image_px, 3) and the labels of `label_attributes`.

    Raises:
        ValueError: if the settings or the seed are impossible.

    Source: arXiv 2504.09393, "Stimuli".
    """
    parsed = parse_settings(settings)
    numbers = np.asarray(indices, dtype=np.uint64)
    return _render(parsed, _draw_geometry(parsed, seed, numbers), seed, numbers)


def _render(settings: LineSettings, drawn: _Geometry, seed: int, numbers: np.ndarray) -> Batch:
    images = _images(settings, drawn, settings.colours.rgb[drawn.colour], seed, numbers)
    return Batch(images=images, labels=_labels(settings, drawn))


def _images(
    settings: LineSettings, drawn: _Geometry, rgb: np.ndarray, seed: int, numbers: np.ndarray
) -> np.ndarray:
    """Pictures of lines in colours of shape (n, 3)."""
    size, draw = settings.image_px, RASTERISERS[settings.rasteriser]
    images = np.zeros((len(numbers), size, size, 3), dtype=np.uint8)
    for i, index in enumerate(numbers):
        mask = draw(size, drawn.start[i], drawn.end[i], int(drawn.width[i]))
        if settings.rotation_deg:
            turn = Image.fromarray(mask).rotate(-settings.rotation_deg, Image.Resampling.BICUBIC)
            mask = np.asarray(turn)
        _paint(images[i], mask, rgb[i], drawn.noise[i], rng.stream(seed, int(index), _NOISE))
    return images


def in_colours(
    settings: Mapping[str, object], rgb: np.ndarray, *, seed: int, indices: range | np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The same lines in the same noise, drawn in every colour.

    Args:
        settings: see `parse_settings`; the palette's own colours are not used.
        rgb: shape (k, 3), levels 0 to 255.
        seed: 0 to 2**64 - 1.
        indices: image numbers, shape (n,).

    Returns:
        Images of shape (k, n, image_px, image_px, 3), uint8, and the lines' labels, of which those
        of colour do not hold.

    Raises:
        ValueError: if the settings are impossible.
    """
    parsed = parse_settings(settings)
    numbers = np.asarray(indices, dtype=np.uint64)
    drawn = _draw_geometry(parsed, seed, numbers)
    each = (np.broadcast_to(one, (len(numbers), 3)) for one in np.asarray(rgb))
    images = np.stack([_images(parsed, drawn, one, seed, numbers) for one in each])
    return images, _labels(parsed, drawn)


def pairs(
    settings: Mapping[str, object], changed: str, *, seed: int, indices: range | np.ndarray
) -> tuple[Batch, Batch]:
    """Lines, and the same lines in the same noise with one attribute changed.

    Args:
        settings: see `parse_settings`.
        changed: one of `CHANGES`: `orientation` turns the line by 90 deg about its middle,
            `colour` takes the colour half the palette further, `width` the other end of the range.
        seed: 0 to 2**64 - 1.
        indices: image numbers, shape (n,).

    Returns:
        The lines and their counterparts, row by row.

    Raises:
        ValueError: if settings or change are impossible, or nothing would change.
    """
    if changed not in CHANGES:
        raise ValueError(f"changed is {changed!r}; allowed is one of {', '.join(CHANGES)}")
    parsed = parse_settings(settings)
    numbers = np.asarray(indices, dtype=np.uint64)
    drawn = _draw_geometry(parsed, seed, numbers)
    other = _changed(parsed, drawn, changed)
    return _render(parsed, drawn, seed, numbers), _render(parsed, other, seed, numbers)


def _changed(settings: LineSettings, drawn: _Geometry, changed: str) -> _Geometry:
    if changed == "orientation":
        middle, half = (drawn.start + drawn.end) / 2, (drawn.end - drawn.start) / 2
        turned = np.stack([-half[:, 1], half[:, 0]], axis=1)
        ends = (np.round(middle - turned), np.round(middle + turned))
        angle = np.mod(drawn.angle_deg + 90, 360)
        return replace(drawn, start=ends[0], end=ends[1], angle_deg=angle)
    if changed == "colour":
        n = len(settings.colours.rgb)
        if n < 2:
            raise ValueError(f"changed is 'colour' with palette {settings.palette!r} of one colour")
        return replace(drawn, colour=(drawn.colour + n // 2) % n)
    low, high = settings.width_px
    if low == high:
        raise ValueError(f"changed is 'width' with one width, {low} px; allowed is a range")
    return replace(drawn, width=np.where(drawn.width > (low + high) / 2, low, high))


def label_attributes(settings: Mapping[str, object]) -> dict[str, LabelAttributes]:
    """Unit and range of each label under these settings.

    Args:
        settings: see `parse_settings`.

    Returns:
        Label name to unit and range; `colour` carries the names of its indices, and `hue_deg` is
        NaN where hue is not the quantity varied.

    Raises:
        ValueError: if the settings are impossible.
    """
    parsed = parse_settings(settings)
    names, levels = parsed.colours.names, [float(level) for level in parsed.noise_levels]
    inset = parsed.margin_px(*np.array([parsed.length_px[0], parsed.width_px[0]])[:, None])[0]
    starts, ends = _place_range(parsed, float(inset)), _place_range(parsed, 0.0)
    return {
        "angle_deg": LabelAttributes("deg", 0, 360),
        "orientation_deg": LabelAttributes("deg", 0, 180),
        "length_px": LabelAttributes("px", *parsed.length_px),
        "width_px": LabelAttributes("px", *parsed.width_px),
        **{f"start_{axis}_px": starts for axis in "xy"},
        **{f"{point}_{axis}_px": ends for point in ("end", "mid") for axis in "xy"},
        "noise_sd": LabelAttributes("fraction", min(levels), max(levels)),
        **{channel: LabelAttributes("level", 0, 255) for channel in ("red", "green", "blue")},
        "colour": LabelAttributes("index", 0, len(names) - 1, names),
        "hue_deg": LabelAttributes("deg", 0, 360),
    }


def _place_range(settings: LineSettings, inset: float) -> LabelAttributes:
    """Range of a coordinate of points at least `inset` px from the border before rotation."""
    centre = (settings.image_px - 1) / 2
    reach = (centre - inset) * (np.sqrt(2) if settings.rotation_deg else 1.0)
    return LabelAttributes("px", float(centre - reach), float(centre + reach))
