"""Which part of a published figure each pixel of a picture belongs to."""

import numpy as np

from patchwork.stimuli.chirp_figure.names import REGION
from patchwork.stimuli.chirp_figure.sheet import HEIGHT_PX, WIDTH_PX, Box, Parts
from patchwork.stimuli.spectrograms import GRID

# ASSUME: a pixel of the figure is frame where lines cover a tenth of it; less cannot be seen.
_FRAME_INK = 25


def _touches(n_in: int, n_out: int) -> np.ndarray:
    """Whether an output pixel lies on an input pixel, shape (n_out, n_in)."""
    first = np.arange(n_out)[:, None] * n_in / n_out
    numbers = np.arange(n_in)
    return (numbers + 1 > first) & (numbers < first + n_in / n_out)


def _pixels(first: float, last: float, n_figure: int, n: int) -> slice:
    """Those of n pixels whose middle lies between two places of the figure."""
    scale = n / n_figure
    return slice(max(int(np.ceil(first * scale - 0.5)), 0), int(np.ceil(last * scale - 0.5)))


class RegionMap:
    """Regions of figures of one size.

    Text, colour bar and data own the pixels whose middle lies within their rectangles; lines are
    thinner than most pixels and own all that they touch, except those of text.
    """

    def __init__(self, height: int, width: int, parts: Parts) -> None:
        self._height, self._width = height, width
        box = parts.data_box
        rows = (np.arange(height) + 0.5) * HEIGHT_PX / height
        columns = (np.arange(width) + 0.5) * WIDTH_PX / width
        rows = (rows - box.bottom) / (box.top - box.bottom) * GRID
        columns = (columns - box.left) / (box.right - box.left) * GRID
        self.data = (
            _pixels(box.top, box.bottom, HEIGHT_PX, height),
            _pixels(box.left, box.right, WIDTH_PX, width),
        )
        cells = rows[self.data[0]], columns[self.data[1]]
        self._cells = np.ix_(*(np.clip(np.floor(c).astype(np.int64), 0, GRID - 1) for c in cells))
        self._ground = np.full((height, width), REGION["margin"], dtype=np.uint8)
        self._ground[self.data] = REGION["background"]
        frame = (parts.frame_ink() > _FRAME_INK).astype(np.int64)
        touched = _touches(HEIGHT_PX, height) @ frame @ _touches(WIDTH_PX, width).T
        self._ground[touched > 0] = REGION["frame"]
        tick_labels, axis_labels = parts.text_boxes()
        for label in tick_labels:
            self._fill(self._ground, label, "tick_labels")
        for label in axis_labels:
            self._fill(self._ground, label, "axis_labels")
        self._fill(self._ground, parts.outlined_bar(), "colour_bar")

    def _fill(self, regions: np.ndarray, box: Box, region: str) -> None:
        rows = _pixels(box.top, box.bottom, HEIGHT_PX, self._height)
        regions[rows, _pixels(box.left, box.right, WIDTH_PX, self._width)] = REGION[region]

    def draw(self, mask: np.ndarray, labels: list[Box], title: Box | None) -> np.ndarray:
        """Regions of one figure.

        Args:
            mask: shape (128, 128), bool: cells of the chirp, rows ascending in frequency.
            labels: where the labels of the colour bar lie.
            title: where the title lies, if there is one.

        Returns:
            shape (height, width), uint8, indices into `REGIONS`.
        """
        regions = self._ground.copy()
        data = regions[self.data]
        data[mask[self._cells] & (data == REGION["background"])] = REGION["chirp"]
        for label in labels:
            self._fill(regions, label, "colour_bar_labels")
        if title is not None:
            self._fill(regions, title, "title")
        return regions
