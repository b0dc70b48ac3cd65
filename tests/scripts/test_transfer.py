"""Networks trained on drawn spectrograms, tried on annotated pictures: a planted skill is found."""

import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from patchwork.analysis.chirps import transfer
from patchwork.data import annotated, store
from patchwork.stimuli import chirps, spectrograms
from PIL import Image
from rule_files import outputs_of

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow/scripts"))

import score_transfer

AXES = {"time_s": [0, 60], "frequency_hz": [0, 50]}
CONDITION = {"dataset": "waveform", "backbone": "pretrained", "protocol": "corrected"}
PLANTED = {"real_start_s_r": {"effect": 0.9, "claimed": [0.8, 1]}}
N = 40


def picture(start_s: float, colours=None) -> Image.Image:
    """A bright bar of 10 s at 20 to 25 Hz on axes of 0 to 60 s and 0 to 50 Hz."""
    levels = np.zeros((50, 60), np.uint8)
    levels[25:30, round(start_s) : round(start_s) + 10] = 255
    table = spectrograms.colour_table() if colours is None else colours
    return Image.fromarray(table[levels])


def test_pictures_get_the_axes_and_colours_of_drawn_ones():
    shown = annotated.as_drawn(picture(30), AXES, 120)
    read = chirps.read_pixels({"image_px": 120, "signal": "ridge"}, shown[None])[0]
    bright = np.argwhere(read > 0.5)
    # Rows are frequencies from 0 to 100 Hz, ascending; columns 0 to 60 s.
    assert bright.min(0) == pytest.approx([20 * 1.2, 30 * 2], abs=1)
    assert bright.max(0) == pytest.approx([25 * 1.2, 40 * 2], abs=1)
    assert read[61:].max() < 0.01  # above what the picture shows


def test_colours_of_any_map_that_grows_brighter_are_read_alike():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    one, other = (annotated.as_drawn(picture(12, c), AXES, 64) for c in (None, grey // 2 + 40))
    assert np.array_equal(one, other)


def test_axes_beyond_those_of_drawn_ones_are_refused():
    with pytest.raises(ValueError, match=r"frequency_hz is \[0, 120\]; allowed is within 0 to"):
        annotated.as_drawn(picture(3), AXES | {"frequency_hz": [0, 120]}, 64)


def test_of_each_recording_the_first_own_picture_with_a_box_is_taken():
    labels = {
        "present": np.array([0, 1, 1, 1, 1]),
        "augmented": np.array([0, 0, 0, 1, 0]),
        "recording": np.array([4, 4, 4, 2, 2]),
    }
    assert annotated.one_of_each(labels).tolist() == [1, 4]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Forty recordings of one picture each, and the true start times."""
    folder = tmp_path_factory.mktemp("pictures")
    starts = np.linspace(2, 45, N)
    table = pd.DataFrame({"picture": [f"{i}_a.png" for i in range(N)], "recording": range(N)})
    table = table.assign(
        augmented=False, present=True, n_boxes=1, start_s=starts, end_s=starts + 10.0,
        low_hz=20.0, high_hz=25.0,
    )  # fmt: skip

    def load(name):
        out = io.BytesIO()
        picture(starts[int(name.split("_")[0])]).save(out, "PNG")
        return out.getvalue()

    path = str(folder / "pictures.h5")
    store.write(
        path,
        annotated.batches(table, range(N), load, 64, axes=AXES),
        n=N,
        attributes={"seed": 0, "settings": {"image_px": 64}, "first_index": 0, "code": "test"},
        label_attributes=annotated.label_attributes({"axes": AXES}, list(map(str, range(N))), 1),
    )
    return path, starts


def predictions(starts, error_s, n_seeds=3):
    rng = np.random.Generator(np.random.Philox(1))
    parts = [
        pd.DataFrame({
            "index": np.arange(N), "start_s": starts, "present": 1, "seed": seed,
            "predicted_start_s": starts + error_s * rng.standard_normal(N),
        })
        for seed in range(n_seeds)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(("error_s", "r"), [(2.0, 0.99), (400.0, 0.0)])
def test_a_planted_skill_is_found_and_none_where_there_is_none(stored, tmp_path, error_s, r):
    path, starts = stored
    predicted = str(tmp_path / "predicted.parquet")
    predictions(starts, error_s).to_parquet(predicted)
    outputs = outputs_of("score_transfer", tmp_path)
    score_transfer.main(
        inputs={"predictions": [predicted], "pictures": [path]},
        outputs=outputs, conditions=[CONDITION], planted=PLANTED,
    )  # fmt: skip
    found = pd.read_csv(outputs["findings"]).set_index(["quantity", "backbone"])
    row = found.loc["real_start_s_r", "pretrained"]
    assert row["ci_low"] - 0.03 <= r <= row["ci_high"] + 0.03
    assert row["ci_high"] - row["ci_low"] < 0.8
    # The bar is all that there is, so a tracker finds it.
    assert found.loc["real_start_s_r", "ridge_tracker"]["estimate"] > 0.9
    assert ("real_start_s_mae_minus_constant", "pretrained") in found.index
    power = found.loc["real_start_s_r_found", "pretrained"]["estimate"]
    assert 0.5 < power <= 1


def test_labels_that_boxes_do_not_tell_are_unknown():
    labels = {name: np.zeros(3) for name in ("start_s", "present", "duration_s", "recording")}
    told = transfer.labels_of(labels)
    assert np.isnan(told["start_hz"]).all()
    assert np.isnan(told["end_hz"]).all()
