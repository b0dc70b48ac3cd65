"""A recording goes in; a table, annotations and overlays come out."""

import sys
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from patchwork.models import backbones, fine_tuned, tasks
from patchwork.recordings import annotations, detection

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow/scripts"), str(ROOT / "tests/lib")]

import localise_recording  # noqa: E402
import planted  # noqa: E402
from rule_files import outputs_of  # noqa: E402
from small_networks import RANDOM  # noqa: E402

TARGETS = {
    "place": {
        "labels": ["start_s", "start_hz", "end_hz"],
        "encoding": "scaled",
        "scale": [45, 100, 100],
    },
    "present": {
        "labels": ["present"], "encoding": "category", "n_classes": 2, "loss": "cross_entropy",
    },
}  # fmt: skip
PROTOCOL = {"readout": "cls", "head_hidden": [8], "adapter": {"kind": "none"}}
SETTINGS = {
    "picks": "data", "exclude": [], "units": None, "overlap_s": 30, "edge_s": 5,
    "threshold": 0.0, "merge_s": 2, "mains_hz": [50], "coverage": 0.9, "seed": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """A network that was never trained, what it predicted, and a cut recording."""
    folder = tmp_path_factory.mktemp("files")
    paths = {
        name: str(folder / file)
        for name, file in {
            "model": "model.safetensors", "backbone": "backbone.safetensors",
            "calibration": "predictions.parquet", "recording": "sub_raw.fif",
        }.items()
    }  # fmt: skip
    backbone = backbones.prepare(RANDOM, 16, seed=0)
    backbones.save(backbone, paths["backbone"])
    targets = {name: tasks.read_target(block, 16) for name, block in TARGETS.items()}
    network = fine_tuned.build(backbones.load(paths["backbone"]), targets, PROTOCOL, seed=0)
    record = {"settings": PROTOCOL, "targets": TARGETS, "image_px": 16, "seed": 0}
    fine_tuned.save(network, record, paths["model"])
    rows = {label: np.arange(40.0) for label in TARGETS["place"]["labels"]}
    predicted = {f"predicted_{name}": column + 2.5 for name, column in rows.items()}
    pd.DataFrame({**rows, **predicted, "seed": 0}).to_parquet(paths["calibration"])
    raw = planted.raw(256, 150, {"Cz": [40.0], "C3/A2": []})
    raw.crop(20.5).save(paths["recording"], verbose="error")
    return paths


def localise(files: dict[str, str], folder: Path, recording: str | None = None, **settings) -> dict:
    outputs = outputs_of("localise_recording", folder)
    localise_recording.main(
        recording=recording or files["recording"],
        network=(files["model"], files["backbone"]),
        calibration=files["calibration"],
        settings=SETTINGS | settings,
        outputs=outputs,
        device="cpu",
    )
    return outputs


def test_every_output_tells_of_the_same_events(files, tmp_path):
    outputs = localise(files, tmp_path)
    table = pd.read_csv(outputs["events"])
    assert set(table["channel"]) == {"Cz", "C3/A2"}
    np.testing.assert_allclose(
        table["onset_high_s"], np.minimum(table["onset_s"] + 2.5, 129.5 + 1 / 256), atol=1e-5
    )
    assert table["onset_clock"].str.startswith("2021-03-04T05:").all()
    raw = mne.io.read_raw_fif(files["recording"], verbose="error")
    for kind in ("fif", "csv", "edf"):
        read = annotations.read_edf if kind == "edf" else mne.read_annotations
        placed = raw.copy().set_annotations(read(outputs[kind])).annotations
        np.testing.assert_allclose(placed.onset - raw.first_time, table["onset_s"], atol=1e-4)
        assert [name for (name,) in placed.ch_names] == table["channel"].tolist()
    names = {f"{stem}.{ending}" for stem in ("001_Cz", "002_C3_A2")
             for ending in ("svg", "png", "csv")}  # fmt: skip
    assert {path.name for path in Path(outputs["overlays"]).iterdir()} == names
    shown = pd.read_csv(Path(outputs["overlays"]) / "001_Cz.csv")
    assert shown["onset_s"].tolist() == pytest.approx(
        table.loc[table["channel"] == "Cz", "onset_s"].tolist(), abs=1e-5
    )


def test_predictions_of_the_network_are_written(files, tmp_path, monkeypatch):
    """An observer in the network's place: the chirp lies where it was planted."""
    monkeypatch.setattr(detection, "predictor", lambda network: planted.observe)
    outputs = localise(files, tmp_path, threshold=0.5, picks=["Cz"])
    table = pd.read_csv(outputs["events"])
    assert table["channel"].tolist() == ["Cz"]
    assert table["onset_s"][0] == pytest.approx(40 - 20.5, abs=0.6)
    raw = mne.io.read_raw_fif(files["recording"], verbose="error")
    raw.set_annotations(mne.read_annotations(outputs["fif"]))
    assert raw.annotations.onset[0] == pytest.approx(40, abs=0.6)


def test_the_page_shows_each_event_with_its_moment(files, tmp_path, monkeypatch):
    monkeypatch.setattr(detection, "predictor", lambda network: planted.observe)
    outputs = localise(files, tmp_path, threshold=0.5)
    text = Path(outputs["page"]).read_text()
    table = pd.read_csv(outputs["events"])
    (moment,) = table["onset_clock"]
    assert text.count('<figure id="event0">') == text.count("data:image/png;base64,") == 1
    assert f"0: Cz, {moment}, 1.00" in text
    for name in ("events.csv", "channels.csv", "events.tsv", "overlays/001_Cz.svg"):
        assert f'href="{name}"' in text
        assert (Path(outputs["page"]).parent / name).exists()
    bids = pd.read_csv(outputs["bids"], sep="\t")
    assert bids["onset"].tolist() == table["onset_s"].tolist()
    assert bids.loc[0, ["eventType", "channels", "dateTime"]].tolist() == [
        "chirp", "Cz", "2021-03-04 05:06:27"
    ]  # fmt: skip


def test_channels_are_counted_and_left_out_in_one_line(files, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(detection, "predictor", lambda network: planted.observe)
    with caplog.at_level("WARNING", logger="patchwork"):
        outputs = localise(files, tmp_path, threshold=0.5, exclude=["C3/A2"])
    assert [line for line in caplog.messages if "left out" in line] == [
        f"{files['recording']}: left out: C3/A2 (excluded)"
    ]
    table = pd.read_csv(outputs["channels"]).set_index("channel")
    assert table.loc["C3/A2", "left_out"] == "excluded"
    one = table.loc["Cz"]
    assert (one["n_events"], one["n_in_bad"], one["searched_share"]) == (1, 0, 1)
    assert one["events_per_hour"] == pytest.approx(3600 / 129.5, rel=1e-3)


def test_a_folder_of_arrays_is_a_recording(files, tmp_path):
    (tmp_path / "arrays").mkdir()
    array = np.random.Generator(np.random.Philox(1)).random((128, 256), np.float32)
    np.save(tmp_path / "arrays/Cz.npy", array)
    table = pd.read_csv(localise(files, tmp_path, str(tmp_path / "arrays"))["events"])
    assert set(table["channel"]) == {"Cz"}
    assert table["onset_clock"].isna().all()


def test_bad_input_leaves_one_line_and_no_output(files, tmp_path):
    (tmp_path / "a.edf").write_text("no recording")
    with pytest.raises(ValueError, match=r"a.edf: is no EDF file by its header; allowed is"):
        localise(files, tmp_path, str(tmp_path / "a.edf"))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.edf"]
