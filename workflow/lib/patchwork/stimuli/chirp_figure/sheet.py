"""The published figure of a spectrogram as matplotlib draws it, and the ink of its parts.

Ink is the opacity of black on clear ground, 0 to 255. Pixels count from the top left corner of the
figure, as in an image; matplotlib counts them from the bottom.

Source: arXiv 2503.22713.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from patchwork.stimuli.spectrograms import DURATION_S, FREQUENCY_MAX_HZ, GRID

HEIGHT_PX, WIDTH_PX = 480, 640
TITLE = "Synthetic Spectrogram {number} ({words})"
# Glyphs are placed in steps of 1/64 pixel.
PHASES = 64
REFERENCE_ROW = HEIGHT_PX // 2
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
        ink: shape (rows, columns), uint8, or int16 where it is a difference.
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
        # Only parts are drawn from here on; a colour bar from 0 to 1 makes places simple.
        self.bar.ax.set_ylim(0, 1)
        self.data_box, self.bar_box = self.box(self.axes), self.box(self.bar.ax)
        self._axis = self.bar.ax.yaxis
        self._tick = self._axis.get_major_ticks()[0]
        self._label_gap = self.box(self._axis.label).left - max(
            self.box(text).right for text in self._axis.get_ticklabels()
        )

    @_default_style
    def grounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The figure without title and ticks of the colour bar, over black and over white data.

        Returns:
            Two pictures of shape (480, 640, 3), uint8.
        """
        self.title.set_text("")
        self._axis.set_visible(False)
        pictures = []
        for level in (0.0, 1.0):
            self.image.set_data(np.full((GRID, GRID, 3), level))
            pictures.append(self._drawn())
        self._axis.set_visible(True)
        return pictures[0], pictures[1]

    @_default_style
    def title_parts(
        self, words: str, digits: int
    ) -> tuple[Stamp, dict[tuple[int, int], Stamp], Box]:
        """Ink of the title for numbers of that many digits.

        Args:
            words: what stands in brackets.
            digits: 1 or more.

        Returns:
            Ink of the title whose number is all noughts; what another digit adds to that, by place
            from the left and digit, above and below zero; and where the title lies.
        """

        def ink(number: str) -> np.ndarray:
            self.title.set_text(TITLE.format(number=number, words=words))
            return self.ink(self.title).astype(np.int16)

        noughts = "0" * digits
        ground = ink(noughts)
        box = self.box(self.title)
        changes = {
            (place, digit): _stamp(ink(f"{noughts[:place]}{digit}{noughts[place + 1 :]}") - ground)
            for place in range(digits)
            for digit in range(1, 10)
        }
        return _stamp(ground), changes, box

    @_default_style
    def texts(self, values: tuple[float, ...]) -> tuple[str, ...]:
        """Labels of ticks at these values of the colour bar."""
        self.bar.ax.set_ylim(min(values), max(values) + 1e-9)
        texts = tuple(self._axis.get_major_formatter().format_ticks(list(values)))
        self.bar.ax.set_ylim(0, 1)
        return texts

    # Made a thousand times, and not styled: entering the style takes longer than the drawing, in
    # which only the hinting of glyphs is still read from the user's style.
    def tick_label(self, text: str, phase: int) -> tuple[Stamp, Box]:
        """A label of the colour bar at `REFERENCE_ROW` and so many steps of a pixel below.

        Args:
            text: the label.
            phase: 0 to `PHASES` - 1.

        Returns:
            Its ink, and where it lies.
        """
        self._tick.label2.set_text(text)
        self._tick.label2.set_y(self._value(REFERENCE_ROW + phase / PHASES))
        return _stamp(self.ink(self._tick.label2)), self.box(self._tick.label2)

    @_default_style
    def tick_line(self) -> Stamp:
        """The line of a tick of the colour bar at `REFERENCE_ROW`."""
        self._tick.update_position(self._value(REFERENCE_ROW))
        return _stamp(self.ink(self._tick.tick2line))

    @_default_style
    def bar_label(self, right: float) -> tuple[Stamp, Box]:
        """The name of the colour bar beside tick labels that end at this column.

        Args:
            right: in px from the left.

        Returns:
            Its ink, and where it lies.
        """
        self._axis.label.set_x(right + self._label_gap)
        return _stamp(self.ink(self._axis.label)), self.box(self._axis.label)

    def _value(self, row: float) -> float:
        """Value of a colour bar from 0 to 1 at that row."""
        return (self.bar_box.bottom - row) / (self.bar_box.bottom - self.bar_box.top)

    def outlined_bar(self) -> Box:
        """Where the colour bar lies, with its outline."""
        half = self.bar.outline.get_linewidth() * self.figure.dpi / 72 / 2
        box = self.bar_box
        return Box(box.top - half, box.bottom + half, box.left - half, box.right + half)

    def frame_ink(self) -> np.ndarray:
        """Ink of the border of the data area and of its ticks."""
        lines = [
            line
            for axis in (self.axes.xaxis, self.axes.yaxis)
            for tick in axis.get_major_ticks()
            for line in (tick.tick1line, tick.tick2line)
        ]
        return self.ink(*self.axes.spines.values(), *lines)

    def text_boxes(self) -> tuple[list[Box], list[Box]]:
        """Where the tick labels and the axis labels of the data area lie."""
        axes = (self.axes.xaxis, self.axes.yaxis)
        ticks = [self.box(text) for axis in axes for text in axis.get_ticklabels()]
        return ticks, [self.box(axis.label) for axis in axes]


def tick_values(low: float, high: float) -> tuple[float, ...]:
    """Ticks of a colour bar from low to high, ascending."""
    values = np.asarray(_LOCATOR.tick_values(low, high))
    slack = 1e-10 * (high - low)
    return tuple(values[(values >= low - slack) & (values <= high + slack)].tolist())
