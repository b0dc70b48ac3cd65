import matplotlib
import numpy as np
import pytest
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from patchwork.stimuli import chirps
from patchwork.stimuli.chirp_figure import frames as figure_frames
from patchwork.stimuli.chirp_figure.frames import Caption, frames
from patchwork.stimuli.chirp_figure.names import REGION, REGIONS
from PIL import Image

KINDS = {
    "ridge": {"signal": "ridge", "presence_probability": 0.8},
    "waveform": {
        "signal": "waveform",
        "snr_db": {"min": -20, "max": 20},
        "sweeps": ["linear", "exponential", "curved"],
    },
}
NUMBERS = (0, 7, 13, 208, 999, 1203, 98765, 100000)
DECORATED = {"image_px": 224, "signal": "ridge", "rendering": "decorated", "titled": True}


def _published(array, title):
    """The figure as anyone would draw it, 480 x 640."""
    with style.context("default"):
        figure = Figure(figsize=(6.4, 4.8), dpi=100)
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots()
        image = axes.imshow(
            array, aspect="auto", origin="lower", extent=[0, 60, 0, 100], cmap="viridis"
        )
        figure.colorbar(image, label="Intensity")
        axes.set_xlabel("Time (s)")
        axes.set_ylabel("Frequency (Hz)")
        axes.set_title(title)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _resized(picture, height, width):
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def _arrays(kind, n):
    return chirps.arrays({"image_px": 64, **KINDS[kind]}, seed=4, indices=range(n))


def _apart(found, expected):
    return np.abs(found.astype(int) - expected).max(axis=-1)


def _grown(mask, by=1):
    """A mask and its neighbours."""
    grown = mask.copy()
    for _ in range(by):
        padded = np.pad(grown, 1)
        grown = np.max(
            [
                padded[i : i + mask.shape[0], j : j + mask.shape[1]]
                for i in range(3)
                for j in range(3)
            ],
            axis=0,
        )
    return grown


@pytest.fixture
def fresh_parts():
    """Parts made anew within the test, and again after it."""
    for cached in (figure_frames.frames, figure_frames._stamps):
        cached.cache_clear()
    yield
    for cached in (figure_frames.frames, figure_frames._stamps):
        cached.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("titled", [True, False], ids=["titled", "untitled"])
def test_figures_are_those_of_matplotlib(kind, titled):
    apart = {(224, 224): [], (480, 640): []}
    for array, number in zip(_arrays(kind, len(NUMBERS)), NUMBERS, strict=True):
        words = ("linear chirp", "exponential chirp", "curved chirp", "no chirp")[number % 4]
        title = f"Synthetic Spectrogram {number} ({words})" if titled else ""
        expected = _published(array, title)
        for (height, width), found in apart.items():
            drawn = frames(height, width).picture(array, Caption(words, number) if titled else None)
            found.append(_apart(drawn, _resized(expected, height, width)))
    for found in apart.values():
        assert np.mean(np.array(found) > 8) <= 1e-5
        assert np.mean(found) < 0.2
    assert all(frames(*size).composed for size in apart)


@pytest.mark.parametrize("digits", [1, 2, 6, 12, 20])
def test_titles_carry_any_number(digits):
    array = _arrays("ridge", 1)[0]
    number = int("98765432101234567890"[-digits:]) if digits < 20 else 2**64 - 1
    caption = Caption("exponential chirp", number)
    expected = _published(array, f"Synthetic Spectrogram {number} (exponential chirp)")
    assert _apart(frames(480, 640).picture(array, caption), expected).max() <= 8


@pytest.mark.parametrize("size", [16, 64, 97, 336])
def test_figures_of_any_size_are_matplotlibs_made_smaller(size):
    array, caption = _arrays("waveform", 1)[0], Caption("linear chirp", 42)
    expected = _resized(_published(array, caption.text), size, size)
    assert _apart(frames(size, size).picture(array, caption), expected).max() <= 8


@pytest.mark.usefixtures("fresh_parts")
def test_the_users_style_changes_no_figure():
    array, caption = _arrays("ridge", 1)[0], Caption("linear chirp", 42)
    expected = frames(224, 224).picture(array, caption)
    figure_frames.frames.cache_clear()
    figure_frames._stamps.cache_clear()
    with matplotlib.rc_context({"font.size": 20, "image.cmap": "gray", "figure.dpi": 50}):
        found = frames(224, 224).picture(array, caption)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("fresh_parts")
def test_a_figure_does_not_depend_on_those_before_it():
    expected = chirps.generate(DECORATED, seed=2, indices=range(12))
    for first in (11, 5):
        figure_frames.frames.cache_clear()
        figure_frames._stamps.cache_clear()
        found = chirps.generate(DECORATED, seed=2, indices=[first])
        np.testing.assert_array_equal(found.images[0], expected.images[first])
        regions = expected.extras["regions"][first]
        np.testing.assert_array_equal(found.extras["regions"][0], regions)


@pytest.mark.usefixtures("fresh_parts")
@pytest.mark.parametrize("moved", ["data", "digits", "ticks", "gone"])
def test_a_matplotlib_that_changed_draws_each_figure_itself(monkeypatch, moved):
    if moved == "data":
        spread = figure_frames._spread_matrix
        monkeypatch.setattr(
            figure_frames, "_spread_matrix", lambda p, first, last: spread(p, first + 2, last + 2)
        )
    elif moved == "digits":
        press = figure_frames._Compositor._title_ink
        monkeypatch.setattr(
            figure_frames._Compositor, "_title_ink", lambda *given: np.roll(press(*given), 1, 1)
        )
    elif moved == "gone":
        monkeypatch.delattr(figure_frames.Parts, "grounds")
    else:
        values = figure_frames.sheet.tick_values
        monkeypatch.setattr(figure_frames.sheet, "tick_values", lambda *ends: values(*ends)[::2])
    with pytest.warns(RuntimeWarning, match="each figure is drawn by matplotlib"):
        drawn = frames(224, 224)
    assert not drawn.composed
    array, caption = _arrays("ridge", 1)[0], Caption("no chirp", 42)
    for given, title in ((caption, caption.text), (None, "")):
        expected = _resized(_published(array, title), 224, 224)
        np.testing.assert_array_equal(drawn.picture(array, given), expected)


def _regions(size=(480, 640), caption=None, i=0):
    array = _arrays("ridge", i + 1)[i]
    mask = np.zeros((128, 128), dtype=bool)
    mask[20:40, 60:90] = True
    drawn = frames(*size)
    return drawn.picture(array, caption), drawn.regions(array, mask, caption), array


def test_the_title_is_where_its_region_is():
    caption = Caption("exponential chirp", 4071)
    titled, regions, _ = _regions(caption=caption)
    bare, without, _ = _regions()
    changed, region = _apart(titled, bare) > 0, regions == REGION["title"]
    assert not changed[~_grown(region)].any()
    rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    ink = [np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0)]
    for ours, theirs in zip((rows, columns), ink, strict=True):
        assert abs(ours[0] - theirs[0]) <= 3
        assert abs(ours[-1] - theirs[-1]) <= 3
    assert not (without == REGION["title"]).any()


def test_labels_of_the_colour_bar_are_where_their_region_is():
    drawn, array = frames(480, 640), _arrays("ridge", 1)[0]
    mask = np.zeros((128, 128), dtype=bool)
    # The same colours under other numbers.
    other = array * np.float32(64) - np.float32(32)
    one, two = (drawn.picture(given, None) for given in (array, other))
    regions = [drawn.regions(given, mask, None) for given in (array, other)]
    inside = np.any([r == REGION["colour_bar_labels"] for r in regions], axis=0)
    changed = _apart(one, two) > 60
    assert changed.sum() > 300
    assert changed[~_grown(inside)].sum() == 0


def test_the_margin_is_white_and_text_is_not():
    picture, regions, _ = _regions(caption=Caption("linear chirp", 12))
    margin = ~_grown(regions != REGION["margin"])
    # Lines are a little wider than a pixel and leave a trace in the next.
    assert (picture[margin] >= 240).all()
    assert (picture[margin] == 255).mean() > 0.99
    dark = picture.max(axis=2) < 128
    for name in ("tick_labels", "axis_labels", "title", "colour_bar_labels"):
        share = dark[regions == REGION[name]].mean()
        assert 0.05 < share < 0.6, name
    spines = regions == REGION["frame"]
    assert dark[spines].mean() > 0.8
    # Every black line is frame, or belongs to the colour bar or to text.
    black = picture.max(axis=2) == 0
    lines = np.isin(regions, [REGION[name] for name in ("margin", "background", "chirp", "frame")])
    assert (regions[black & lines] == REGION["frame"]).all()
    assert (black & spines).sum() > 1000


def test_the_chirp_is_where_its_cells_are_drawn():
    drawn = frames(480, 640)
    mask = np.zeros((128, 128), dtype=bool)
    mask[20:40, 60:90] = True
    array = np.where(mask, 1, 0).astype(np.float32)
    regions, picture = drawn.regions(array, mask, None), drawn.picture(array, None)
    yellow = (picture[..., 0] > 150) & (picture[..., 2] < 110)
    yellow[:, 490:] = False
    chirp = regions == REGION["chirp"]
    assert not yellow[~_grown(chirp)].any()
    assert not chirp[~_grown(yellow)].any()
    rows, columns = np.nonzero(chirp)
    assert columns.mean() == pytest.approx(80 + 396.8 * 75 / 128, abs=1)
    assert rows.mean() == pytest.approx(427.2 - 369.6 * 30 / 128, abs=1)


@pytest.mark.parametrize("size", [64, 112, 224])
def test_regions_of_small_pictures_keep_their_shares(size):
    caption = Caption("linear chirp", 12)
    _, large, _ = _regions(caption=caption)
    _, small, _ = _regions((size, size), caption)
    for name in set(REGIONS) - {"frame"}:
        share = [np.mean(found == REGION[name]) for found in (large, small)]
        assert share[1] == pytest.approx(share[0], rel=0.1, abs=1.2 / size), name
    assert (small == REGION["frame"]).any()


def test_decorated_images_carry_what_their_labels_say():
    batch = chirps.generate(DECORATED, seed=2, indices=range(12))
    chirp = batch.extras["regions"][..., 0] == REGION["chirp"]
    for i in range(len(batch)):
        columns = np.flatnonzero(chirp[i].any(axis=0)) + 0.5
        seconds = (columns * 640 / 224 - 80) * 60 / 396.8
        start, length = batch.labels["start_s"][i], batch.labels["duration_s"][i]
        assert seconds[0] == pytest.approx(start, abs=0.75)
        assert seconds[-1] == pytest.approx(start + length, abs=0.75)
        green = batch.images[i, ..., 1].astype(float)
        ground = batch.extras["regions"][i, ..., 0] == REGION["background"]
        assert green[chirp[i]].mean() > green[ground].mean()


def test_a_title_left_out_changes_the_title_alone():
    titled, bare = (
        chirps.generate({**DECORATED, "titled": given}, seed=2, indices=range(3))
        for given in (True, False)
    )
    title = titled.extras["regions"][..., 0] == REGION["title"]
    changed = _apart(titled.images, bare.images) > 0
    assert changed.any()
    for i in range(3):
        assert not changed[i][~_grown(title[i])].any()
    assert not (bare.extras["regions"] == REGION["title"]).any()
