"""The published figure of a spectrogram as matplotlib draws it, and the ink of its parts.

Ink is the opacity of black on clear ground, 0 to 255. Pixels count from the top left corner of the
figure, as in an image; matplotlib counts them from the bottom.

Source: arXiv 2503.22713, "Synthetic data".
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from patchwork.stimuli.spectrograms import DURATION_S, FREQUENCY_MAX_HZ, GRID

HEIGHT_PX, WIDTH_PX = 480, 640
TITLE = "Synthetic Spectrogram {number} ({words})"
# Glyphs are placed in steps of 1/64 pixel.
_PHASES = 64
_REFERENCE_ROW = HEIGHT_PX // 2
# How `matplotlib.ticker.AutoLocator` chooses ticks where there is room for nine or more.
_LOCATOR = MaxNLocator(nbins=9, steps=[1, 2, 2.5, 5, 10])

# The user's own style must not change the figure.
_default_style = style.context("default")


@dataclass(frozen=True)
class Box:
    """A rectangle of the figure in px, from the top left corner; ends need not be whole."""

    top: float
    bottom: float
    left: float
    right: float

    def moved(self, rows: float) -> "Box":
        """The same rectangle, so many rows further down."""
        return Box(self.top + rows, self.bottom + rows, self.left, self.right)


@dataclass(frozen=True)
class Stamp:
    """Ink of one part, cropped.

    Attributes:
        ink: shape (rows, columns), uint8.
        row: of the figure's row that the first row of ink lies on.
        column: of the figure's column that the first column of ink lies on.
    """

    ink: np.ndarray
    row: int
    column: int

    def press(self, ground: np.ndarray, row: int, column: int, rows_down: int = 0) -> None:
        """Adds the ink to ground whose first pixel is (row, column) of the figure."""
        top, left = self.row - row + rows_down, self.column - column
        height, width = self.ink.shape
        ground[top : top + height, left : left + width] += self.ink


@dataclass(frozen=True)
class Tick:
    """A labelled tick of the colour bar; `row` is where it points at, from the top, in px."""

    text: str
    row: float


def title_text(words: str, number: int) -> str:
    """The title of an image: its number, and words such as "linear chirp"."""
    return TITLE.format(number=number, words=words)


def _stamp(ink: np.ndarray) -> Stamp:
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not len(rows):
        raise ValueError("a part of the figure left no ink; allowed is a part that is visible")
    crop = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
    return Stamp(crop, int(rows[0]), int(columns[0]))


class Sheet:
    """One figure of 640 x 480 px, drawn as often as needed.

    Nothing accumulates: data, limits and title are replaced.
    """

    @_default_style
    def __init__(self) -> None:
        self.figure = Figure()
        self.canvas = FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_subplot()
        self.image = self.axes.imshow(
            np.zeros((GRID, GRID), dtype=np.float32),
            cmap="viridis",
            origin="lower",
            aspect="auto",
            extent=(0, DURATION_S, 0, FREQUENCY_MAX_HZ),
        )
        self.image.set_clim(0, 1)
        self.bar = self.figure.colorbar(self.image, ax=self.axes, label="Intensity")
        self.axes.set(xlabel="Time (s)", ylabel="Frequency (Hz)")
        self.title = self.axes.set_title("")
        self.canvas.draw()

    @_default_style
    def draw(self, array: np.ndarray, title: str) -> np.ndarray:
        """The whole figure.

        Args:
            array: shape (128, 128), rows ascending in frequency.
            title: text above the axes, may be empty.

        Returns:
            shape (480, 640, 3), uint8.
        """
        self.image.set_data(array)
        self.image.autoscale()
        self.title.set_text(title)
        return self._drawn()

    def _drawn(self) -> np.ndarray:
        self.canvas.draw()
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()

    def box(self, artist: Artist) -> Box:
        """Where an artist lies."""
        extent: Bbox = artist.get_window_extent(self.canvas.get_renderer())
        return Box(HEIGHT_PX - extent.y1, HEIGHT_PX - extent.y0, extent.x0, extent.x1)

    def ink(self, *artists: Artist) -> np.ndarray:
        """Ink of artists alone, shape (480, 640), uint8."""
        renderer = self.canvas.get_renderer()
        renderer.clear()
        for artist in artists:
            artist.draw(renderer)
        return np.asarray(self.canvas.buffer_rgba())[..., 3].copy()


class Parts(Sheet):
    """The figure taken apart: what never changes, and a stamp of each thing that does."""

    def __init__(self) -> None:
        super().__init__()
        # From here on, only parts are drawn; a colour bar from 0 to 1 makes places simple.
        self.bar.ax.set_ylim(0, 1)
        self.bar_box = self.box(self.bar.ax)
        self.data_box = self.box(self.axes)
        tick = self.bar.ax.yaxis.get_major_ticks()[0]
        self._tick_label, self._tick_line = tick.label2, tick.tick2line
        label = self.bar.ax.yaxis.label
        self._label_gap_px = self.box(label).left - max(
            self.box(text).right for text in self.bar.ax.yaxis.get_ticklabels()
        )
        self.tick_label_of = cache(self.tick_label_of)  # type: ignore[method-assign]
        self.bar_label = cache(self.bar_label)  # type: ignore[method-assign]
        self.texts_of = cache(self.texts_of)  # type: ignore[method-assign]
