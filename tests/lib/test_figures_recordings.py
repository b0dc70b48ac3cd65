"""Overlays: events where they are, a picture per channel, file names, captions."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from patchwork.figures import theme
from patchwork.figures.chirps import recordings

SEARCHED = recordings.SearchedRecording("sub_01.edf", 1000.0, 100.0, 0.5, 0.9)
EVENTS = pd.DataFrame(
    {
        "channel": ["C3/A2", "C3/A2", "Pz"],
        "onset_s": [20.0, 900.0, 500.0],
        "duration_s": [10.0, 5.0, 3.0],
        "start_hz": [30.0, 60.0, 10.0],
        "end_hz": [50.0, 40.0, 12.0],
        "score": [0.9, 0.6, 0.8],
        "onset_low_s": [18.0, 898.0, 498.0],
        "onset_high_s": [22.0, 902.0, 502.0],
    }
)
PICTURE = np.tile(np.arange(200, dtype=np.uint8), (128, 1))


def drawn(figure: Figure) -> list[tuple]:
    """Ends of the events in the first row of the figure: halfway between their two lines."""
    lines = [(*line.get_xdata(), *line.get_ydata()) for line in figure.axes[0].lines]
    below, above = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    return [tuple(np.add(a, b) / 2) for a, b in zip(below, above, strict=True)]


def test_one_figure_per_channel_with_its_own_events():
    levels = {"C3/A2": PICTURE, "Pz": PICTURE, "Oz": PICTURE}
    made = list(recordings.overlays(levels, EVENTS, SEARCHED))
    assert [stem for stem, _, _ in made] == ["001_C3_A2", "002_Pz", "003_Oz"]
    assert [len(table) for _, _, table in made] == [2, 1, 0]
    assert drawn(made[0][1]) == [(20, 30, 30, 50), (900, 905, 60, 40)]
    assert drawn(made[2][1]) == []


def test_rows_cover_the_recording_once():
    figure = recordings.overlay(PICTURE, EVENTS, "Cz", SEARCHED)
    limits = [axes.get_xlim() for axes in figure.axes]
    assert limits == [(0, 250), (250, 500), (500, 750), (750, 1000)]
    for axes, (left, right) in zip(figure.axes, limits, strict=True):
        assert list(axes.images[0].get_extent()) == [left, right, 0, 100]
        assert axes.images[0].origin == "lower"
        assert axes.images[0].get_array()[0, 0] == left / 5
    long = recordings.SearchedRecording("a", 90000.0, 100.0, 0.5, 0.9)
    assert len(recordings.overlay(PICTURE, EVENTS, "Cz", long).axes) == 6


def test_captions_say_what_is_drawn():
    figure = recordings.overlay(PICTURE, EVENTS, "Cz", SEARCHED)
    caption = theme.text_of(figure, "caption")
    for words in ("sub_01.edf", "1,000 s", "n = 3 events", "0.5 or more", "90%"):
        assert words in caption
    bare = EVENTS[["channel", "onset_s", "start_hz", "end_hz", "score"]]
    caption = theme.text_of(recordings.overlay(PICTURE, bare, "Cz", SEARCHED), "caption")
    assert "white bars" not in caption
    assert "lines on to the end frequency" in caption


def test_files_repeat_byte_for_byte(tmp_path):
    for name in ("a", "b"):
        theme.save(recordings.overlay(PICTURE, EVENTS, "Cz", SEARCHED), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_wrong_frames_and_pictures_are_refused():
    with pytest.raises(ValueError, match=r"overlay: events lacks \['score'\]"):
        recordings.overlay(PICTURE, EVENTS.drop(columns="score"), "Cz", SEARCHED)
    with pytest.raises(ValueError, match="picture is float64 of shape"):
        recordings.overlay(PICTURE / 2, EVENTS, "Cz", SEARCHED)
