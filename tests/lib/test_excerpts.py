"""What is shown around an event is what the recording holds there."""

import numpy as np
import planted
import pytest
from patchwork.figures.chirps import recording_page, recordings
from patchwork.recordings import detection, excerpts, readers

SEARCH = detection.Search(overlap_s=30, edge_s=5, threshold=0.5, merge_s=2)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("fif") / "a_raw.fif"
    raw = planted.raw(256, 130, {"<b>": [40.0], "Pz": [100.0]})
    raw.save(path, verbose="error")
    recording = readers.open_recording(path)
    return recording, raw, detection.localise(recording, planted.observe, SEARCH)


def test_excerpts_hold_the_chirp_and_what_is_around_it(found):
    recording, raw, result = found
    shown = dict(excerpts.excerpts(recording, result.events, (), 10))
    assert list(shown) == [0, 1]
    for number, onset, name in ((0, 40, "<b>"), (1, 100, "Pz")):
        one = shown[number]
        assert one.span_s[0] == pytest.approx(onset - excerpts.AROUND_S, abs=1.1)
        assert one.span_s[1] == pytest.approx(onset + 10 + excerpts.AROUND_S, abs=1.6)
        first = round(one.span_s[0] * 256)
        expected = raw.get_data([name])[0, first : first + len(one.samples)] * 1e6
        assert np.corrcoef(expected, one.samples)[0, 1] > 0.999
        assert one.unit == "uV"
        assert len(one.time_s) == len(one.samples)
        middle = one.array[:, one.array.shape[1] // 2]
        assert (middle.argmax() + 0.5) / 128 * 100 == pytest.approx(40, abs=3)


def test_only_the_best_are_drawn_and_names_are_no_markup(found):
    recording, _, result = found
    ((number, one),) = excerpts.excerpts(recording, result.events, (), 1)
    figure = recordings.event_figure(one, result.events.loc[number])
    assert [axes.get_ylabel() for axes in figure.axes] == ["Hz", "uV"]
    searched = recordings.SearchedRecording("a<i>.fif", 130.0, 100.0, 0.5, 0.9)
    text = recording_page.page(
        searched, result.events, result.channels, {number: one}, ["events.csv"]
    )
    assert "<b>" not in text
    assert "<i>" not in text
    assert "2 of 2 channels searched, 2 events" in text
    assert "The 1 with the best scores" in text
