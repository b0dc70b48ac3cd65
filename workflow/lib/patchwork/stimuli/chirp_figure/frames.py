"""Spectrograms as published figures, put together from parts instead of drawn one by one.

matplotlib maps the cells of a spectrogram to colours and then spreads them with a kernel that is a
product of one along rows and one along columns, and a picture is made smaller in the same way. So a
figure is A_y C A_x^T, with the colours C of the cells, on a ground that never changes, less the ink
of the title and of the colour bar's labels. Two figures of each size are first compared with
matplotlib's own; if they differ, because matplotlib changed, it draws each figure, with a warning.
"""

import warnings
from dataclasses import dataclass, replace
from functools import lru_cache

import matplotlib
import numpy as np
from matplotlib import colormaps
from PIL import Image
from scipy import sparse

from patchwork.stimuli.chirp_figure import sheet
from patchwork.stimuli.chirp_figure.regions import RegionMap
from patchwork.stimuli.chirp_figure.sheet import (
    HEIGHT_PX,
    PHASES,
    REFERENCE_ROW,
    WIDTH_PX,
    Parts,
    Sheet,
    Stamp,
)
from patchwork.stimuli.spectrograms import GRID, colour_indices

# Two figures that differ by more than so many levels in more than this share of pixels are not
# the same figure.
LEVELS_APART, SHARE_APART = 8, 1e-5


@dataclass(frozen=True)
class Caption:
    """What the title of a figure says: the number of the image, and the kind of its chirp."""

    words: str
    number: int

    @property
    def text(self) -> str:
        """The whole title."""
        return sheet.TITLE.format(number=self.number, words=self.words)


def shrink(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture of another size, by PIL's bilinear filter.

    Args:
        picture: shape (rows, columns, 3), uint8.
        height: rows wanted.
        width: columns wanted.

    Returns:
        shape (height, width, 3), uint8.
    """
    if picture.shape[:2] == (height, width):
        return picture
    # ASSUME: bilinear, which is what common pipelines of vision models take to make images smaller.
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _resize_matrix(n_in: int, n_out: int) -> sparse.csr_array:
    """PIL's bilinear filter along one axis, shape (n_out, n_in)."""
    unit = Image.fromarray(np.eye(n_in, dtype=np.float32))
    return sparse.csr_array(np.asarray(unit.resize((n_out, n_in), Image.Resampling.BILINEAR)).T)


def _spread_matrix(pixels: np.ndarray, first: float, last: float) -> sparse.csr_array:
    """Weight of each cell in each pixel: a Hann kernel that reaches to the next cell.

    Args:
        pixels: shape (n,), pixel numbers along one axis.
        first: where the first cell begins, in px.
        last: where the last cell ends, in px; before `first` if cells run backwards.

    Returns:
        shape (n, 128); rows sum to one.
    """
    place = (pixels + 0.5 - first) / (last - first) * GRID - 0.5
    below = np.floor(place).astype(np.int64)
    above = 0.5 - 0.5 * np.cos(np.pi * (place - below))
    rows = np.tile(np.arange(len(pixels)), 2)
    cells = np.clip(np.concatenate([below, below + 1]), 0, GRID - 1)
    weights = np.concatenate([1 - above, above])
    return sparse.csr_array((weights, (rows, cells)), shape=(len(pixels), GRID))


class _Product:
    """A linear map of pictures that is one matrix along rows and one along columns."""

    def __init__(self, along_rows: sparse.csr_array, along_columns: sparse.csr_array) -> None:
        """Keeps what of the result can differ from zero.

        Args:
            along_rows: shape (height, n_rows).
            along_columns: shape (width, n_columns).
        """
        self.rows, self._along_rows = self._touched(along_rows)
        self.columns, self._along_columns = self._touched(along_columns)

    @staticmethod
    def _touched(matrix: sparse.csr_array) -> tuple[slice, sparse.csr_array]:
        # Resizing matrices hold zeros as numbers: dropped, a product costs a fraction.
        matrix = sparse.csr_array(matrix, dtype=np.float32)
        matrix.eliminate_zeros()
        lines = np.flatnonzero(np.diff(matrix.indptr))
        used = slice(int(lines[0]), int(lines[-1]) + 1)
        return used, matrix[used]

    def __call__(self, turned: np.ndarray) -> np.ndarray:
        """The part of the result at (`rows`, `columns`).

        Args:
            turned: shape (n_columns, n_rows, channels), float32: a picture on its side.

        Returns:
            shape (rows, columns, channels), float32.
        """
        n_columns, n_rows, channels = turned.shape
        half = self._along_columns @ turned.reshape(n_columns, -1)
        # The channels of a pixel move as one element, twice as fast as one by one.
        pixels = half.reshape(-1, n_rows, channels).view(f"V{half.itemsize * channels}")[..., 0]
        half = np.ascontiguousarray(pixels.T).view(np.float32)
        return (self._along_rows @ half).reshape(-1, half.shape[1] // channels, channels)


@dataclass(frozen=True)
class _Window:
    """A rectangle of whole pixels of the figure that changes from image to image."""

    top: int
    bottom: int
    left: int
    right: int

    def blank(self) -> np.ndarray:
        """No ink, int16."""
        return np.zeros((self.bottom - self.top, self.right - self.left), dtype=np.int16)

    def press(self, stamp: Stamp, ground: np.ndarray, rows_down: int = 0) -> None:
        """Adds a stamp to ground of this rectangle."""
        stamp.press(ground, self.top, self.left, rows_down)


@dataclass(frozen=True)
class BarLayout:
    """Ticks of one colour bar: labels, rows that they point at, and where the labels end, in px."""

    texts: tuple[str, ...]
    rows: tuple[float, ...]
    right: float


class _Stamps:
    """Parts of the figure, each drawn once and then kept."""

    def __init__(self) -> None:
        self.parts = Parts()
        # Numbers of a dataset have few lengths, labels few texts, and glyphs 64 places in a pixel.
        self.tick_label = lru_cache(4096)(self.parts.tick_label)
        self.bar_label = lru_cache(256)(self.parts.bar_label)
        self.texts = lru_cache(4096)(self.parts.texts)
        self.title = lru_cache(64)(self.parts.title_parts)
        self.tick_line = self.parts.tick_line()
        self.layout = lru_cache(4)(self._layout)

    def _layout(self, low: float, high: float) -> BarLayout:
        """The colour bar of an array with these least and greatest values."""
        values = sheet.tick_values(low, high)
        texts, bar = self.texts(values), self.parts.bar_box
        step = (bar.bottom - bar.top) / (high - low)
        rows = tuple(bar.bottom - (value - low) * step for value in values)
        return BarLayout(texts, rows, max(self.tick_label(text, 0)[1].right for text in texts))


class _Compositor:
    """Draws figures of one size from parts."""

    def __init__(self, height: int, width: int, stamps: _Stamps) -> None:
        self._stamps, parts = stamps, stamps.parts
        down = _resize_matrix(HEIGHT_PX, height)
        across = _resize_matrix(WIDTH_PX, width)
        black, white = (ground.astype(np.float32) for ground in parts.grounds())
        share = (white - black)[..., 0] / 255
        self._data = self._data_map(share, down, across)
        # matplotlib drops the fraction of a level, so that data lose half a level on average; the
        # other half is for rounding, as casting to uint8 drops the fraction, too.
        whole = _Product(down, across)
        under = np.ascontiguousarray((black - share[..., None] / 2).transpose(1, 0, 2))
        ground = whole(under) + np.float32(0.5)
        self._ground = ground.astype(np.uint8)
        self._under_data = ground[self._data.rows, self._data.columns].copy()
        title, bar = parts.title_parts("linear chirp", 1)[2], parts.bar_box
        # Wide enough for all glyphs, and for labels half of which stand out above and below.
        self._title = _Window(int(title.top) - 4, int(title.bottom) + 4, 0, WIDTH_PX)
        self._bar = _Window(int(bar.top) - 20, int(bar.bottom) + 20, int(bar.right), WIDTH_PX)
        self._shrink, self._paper = {}, {}
        for window in (self._title, self._bar):
            rows, columns = slice(window.top, window.bottom), slice(window.left, window.right)
            self._shrink[window] = _Product(down[:, rows], across[:, columns])
            # Ink on a line that is black already changes nothing: ticks begin on the bar's outline.
            self._paper[window] = black[rows, columns, 0].T / 255
        self._colours = (colormaps["viridis"](np.arange(256))[:, :3] * 255).astype(np.float32)

    def _data_map(
        self, share: np.ndarray, down: sparse.csr_array, across: sparse.csr_array
    ) -> _Product:
        """From the colours of cells to pixels; `share` is how far data cover each pixel."""
        rows, columns = (np.flatnonzero(share.max(axis=axis)) for axis in (1, 0))
        middle = share[rows.mean().astype(int)], share[:, columns.mean().astype(int)]
        box = self._stamps.parts.data_box
        along_rows = _spread_matrix(rows, box.bottom, box.top) * middle[1][rows, None]
        along_columns = _spread_matrix(columns, box.left, box.right) * middle[0][columns, None]
        return _Product(
            sparse.csr_array(down[:, rows] @ along_rows),
            sparse.csr_array(across[:, columns] @ along_columns),
        )

    def draw(self, array: np.ndarray, layout: BarLayout, caption: Caption | None) -> np.ndarray:
        """One figure, shape (height, width, 3), uint8."""
        out = self._ground.copy()
        data = self._data(np.take(self._colours, colour_indices(array.T), axis=0))
        data += self._under_data
        out[self._data.rows, self._data.columns] = data
        self._subtract(out, self._bar, self._bar_ink(layout))
        if caption is not None:
            self._subtract(out, self._title, self._title_ink(caption))
        return out

    def _subtract(self, out: np.ndarray, window: _Window, ink: np.ndarray) -> None:
        shrink = self._shrink[window]
        small = shrink((np.clip(ink.T, 0, 255) * self._paper[window])[..., None])
        levels = np.repeat((small + 0.5).astype(np.uint8), 3, axis=2)
        ground = out[shrink.rows, shrink.columns]
        ground -= np.minimum(levels, ground)

    def _bar_ink(self, layout: BarLayout) -> np.ndarray:
        ink, window = self._bar.blank(), self._bar
        window.press(self._stamps.bar_label(layout.right)[0], ink)
        for text, row in zip(layout.texts, layout.rows, strict=True):
            # Lines lie on whole pixels, glyphs on steps of 1/64.
            window.press(self._stamps.tick_line, ink, int(np.floor(row + 0.5)) - REFERENCE_ROW)
            whole, phase = divmod(round(row * PHASES), PHASES)
            window.press(self._stamps.tick_label(text, phase)[0], ink, whole - REFERENCE_ROW)
        return ink

    def _title_ink(self, caption: Caption) -> np.ndarray:
        digits = str(caption.number)
        ground, changes, _ = self._stamps.title(caption.words, len(digits))
        ink = self._title.blank()
        self._title.press(ground, ink)
        for place, digit in enumerate(digits):
            if digit != "0":
                self._title.press(changes[place, int(digit)], ink)
        return ink


@lru_cache
def _stamps() -> _Stamps:
    return _Stamps()


def _examples() -> list[np.ndarray]:
    """Arrays of restless cells, with ticks of one and of two digits, above and below zero."""
    cells = np.modf(np.arange(GRID * GRID) * 0.618034)[0].astype(np.float32).reshape(GRID, GRID)
    cells = (cells - cells.min()) / (cells.max() - cells.min())
    return [cells * np.float32(1.4) - np.float32(0.3), cells * np.float32(70) - np.float32(63)]


class Frames:
    """Figures of one size with their regions.

    Attributes:
        composed: whether figures are put together from parts, or drawn by matplotlib one by one
            because the parts did not make the same figure.
    """

    def __init__(self, height: int, width: int) -> None:
        self._height, self._width = height, width
        self._stamps, self._sheet = _stamps(), Sheet()
        self._regions = RegionMap(height, width, self._stamps.parts)
        self.composed = self._parts_make_the_figure()
        if not self.composed:
            warnings.warn(
                f"matplotlib {matplotlib.__version__} draws figures that differ from their parts; "
                "each figure is drawn by matplotlib, which takes many times as long",
                RuntimeWarning,
                stacklevel=3,
            )

    def _parts_make_the_figure(self) -> bool:
        try:
            self._compositor = _Compositor(self._height, self._width, self._stamps)
            return all(self._agrees(array) for array in _examples())
        # What changed in matplotlib may be gone, or of another size.
        except (AttributeError, IndexError, TypeError, ValueError):
            return False

    def _agrees(self, array: np.ndarray) -> bool:
        caption = Caption("exponential chirp", 1203987654)
        found = self._composed(array, caption).astype(np.int64)
        apart = np.abs(found - self._redrawn(array, caption)).max(axis=2) > LEVELS_APART
        return bool(apart.mean() <= SHARE_APART)

    @property
    def data(self) -> tuple[slice, slice]:
        """Rows and columns of the pixels that lie in the data area."""
        return self._regions.data

    def _layout(self, array: np.ndarray) -> BarLayout:
        return self._stamps.layout(float(array.min()), float(array.max()))

    def _composed(self, array: np.ndarray, caption: Caption | None) -> np.ndarray:
        return self._compositor.draw(array, self._layout(array), caption)

    def _redrawn(self, array: np.ndarray, caption: Caption | None) -> np.ndarray:
        picture = self._sheet.draw(array, caption.text if caption else "")
        return shrink(picture, self._height, self._width)

    def picture(self, array: np.ndarray, caption: Caption | None) -> np.ndarray:
        """A spectrogram as the published figure.

        Args:
            array: shape (128, 128), float32, not all equal, rows ascending in frequency.
            caption: the title, or None to leave it out.

        Returns:
            shape (height, width, 3), uint8.
        """
        draw = self._composed if self.composed else self._redrawn
        return draw(array, caption)

    def regions(self, array: np.ndarray, mask: np.ndarray, caption: Caption | None) -> np.ndarray:
        """The region of each pixel of `picture`.

        Args:
            array: as in `picture`.
            mask: shape (128, 128), bool: cells of the chirp.
            caption: as in `picture`.

        Returns:
            shape (height, width), uint8, indices into `names.REGIONS`.
        """
        layout, stamps = self._layout(array), self._stamps
        bar = stamps.parts.bar_box.right
        boxes = [
            # From the bar on: a tick's line belongs to its label.
            replace(stamps.tick_label(text, 0)[1].moved(row - REFERENCE_ROW), left=bar)
            for text, row in zip(layout.texts, layout.rows, strict=True)
        ]
        boxes.append(stamps.bar_label(layout.right)[1])
        if caption is None:
            return self._regions.draw(mask, boxes, None)
        title = stamps.title(caption.words, len(str(caption.number)))[2]
        return self._regions.draw(mask, boxes, title)


@lru_cache(maxsize=8)
def frames(height: int, width: int) -> Frames:
    """Figures of this size; the parts are made and compared with matplotlib once a process."""
    return Frames(height, width)
