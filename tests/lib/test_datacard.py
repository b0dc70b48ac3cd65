"""Data cards: what they say is what the files hold."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from patchwork import stimuli
from patchwork.data import datacard, store

RIDGE = {"image_px": 32, "signal": "ridge"}
WAVEFORM = {
    "image_px": 32, "signal": "waveform", "snr_db": {"min": 0, "max": 9},
    "sweeps": ["linear", "exponential", "curved"], "presence_probability": 0.5,
}  # fmt: skip
FIGURES = {"image_px": 96, "signal": "ridge", "rendering": "decorated"}
NAMED = datacard.Named(dataset="some", licence="MIT", reference="Somebody (2025). arXiv 1.2.")


def write(path: Path, first: int, n: int, settings: dict = RIDGE, **planted: np.ndarray) -> str:
    """A dataset file; labels, or `regions`, in place of those drawn."""
    batch = stimuli.GENERATORS["chirps"](settings, seed=1, indices=range(first, first + n))
    if "regions" in planted:
        batch.extras["regions"][:] = planted.pop("regions")
    batch.labels.update(planted)
    store.write(
        path, [batch], n=n,
        attributes={
            "seed": 1, "first_index": first, "code": "c0de",
            "settings": {"kind": "chirps", **settings},
        },
        label_attributes=stimuli.LABELS["chirps"](settings),
    )  # fmt: skip
    return str(path)


def card_of(files: dict[str, str]) -> str:
    return datacard.card({name: datacard.measure(path) for name, path in files.items()}, NAMED)


def rows(text: str) -> list[list[str]]:
    """Cells of all table rows."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]


def test_planted_labels_are_measured_as_they_are(tmp_path):
    text = card_of({
        "train": write(tmp_path / "train.h5", 0, 4, start_s=np.array([0, 10, np.nan, 30.0])),
        "test": write(tmp_path / "test.h5", 4, 4, sweep=np.array([0, 1, 1, 1])),
    })  # fmt: skip
    assert ["`start_s`", "train", "0", "13.33", "30", "25.00 %"] in rows(text)
    assert ["`start_s`", "first moment of the chirp", "s", "0 to 45"] in rows(text)
    sweeps = [row for row in rows(text) if row[:2] == ["`sweep`", "1: exponential"]]
    assert [row[-1] for row in sweeps] == ["75.00 %"]
    assert not [row for row in rows(text) if row[:2] == ["`sweep`", "test"]]
    assert "8 labelled images" in text


def test_a_label_that_no_image_has_is_missing_everywhere(tmp_path):
    text = card_of({"test": write(tmp_path / "test.h5", 0, 4, start_s=np.full(4, np.nan))})
    assert ["`start_s`", "test", "nan", "nan", "nan", "100.00 %"] in rows(text)


def test_planted_regions_have_their_share_of_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(datacard, "IMAGES_SAMPLED", 2)
    regions = np.ones((5, 32, 32, 1), dtype=np.uint8)
    regions[0, :8, :16] = 2  # an eighth of the first image, a quarter of the last
    regions[1:4] = 7  # not in a sample of two, which has both ends
    regions[4, :16, :16] = 2
    text = card_of({"test": write(tmp_path / "test.h5", 0, 5, regions=regions)})
    assert ["2", "chirp", "12.50 %", "18.75 %", "25.00 %"] in rows(text)
    assert ["7", "colour_bar", "0.00 %", "0.00 %", "0.00 %"] in rows(text)
    assert "measured on 2 images" in text


def test_odd_cases_are_counted(tmp_path):
    text = card_of({
        "test": write(
            tmp_path / "test.h5", 0, 4,
            start_hz=np.array([20, 99, 0.2, 0.2]), end_hz=np.array([0, 100, 30, 30.0]),
            sweep=np.array([1, 0, 1, 0]),
        )
    })  # fmt: skip
    shares = {row[0]: row[1] for row in rows(text) if len(row) == 2}
    assert shares["sweep ends at 0 Hz exactly"] == "25.00 %"
    assert shares["sweep ends at 100 Hz exactly"] == "25.00 %"
    assert shares["exponential sweep with an end below 0.39 Hz"] == "50.00 %"
    assert shares["sweep changes by less than one row (0.78 Hz)"] == "0.00 %"


def test_files_stand_with_numbers_and_digests(tmp_path):
    files = {
        "train": write(tmp_path / "train.h5", 0, 6),
        "test": write(tmp_path / "test.h5", 2000, 4),
    }
    text = card_of(files)
    assert ["`test.h5`", "test", "4", "2,000 to 2,003"] in [row[:4] for row in rows(text)]
    listed = dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", text, re.MULTILINE))
    assert listed == {
        hashlib.sha256(Path(path).read_bytes()).hexdigest(): Path(path).name
        for path in files.values()
    }
    assert "`c0de`" in text
    assert "`patchwork-images`, version 1" in text


def test_the_code_on_the_card_reads_the_file(tmp_path):
    write(tmp_path / "test.h5", 0, 3, FIGURES, start_s=np.array([7.25, 8.5, 9.75]))
    text = card_of({"test": str(tmp_path / "test.h5")})
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "start_s [7.25 8.5  9.75] s" in run.stdout
    assert "(3, 96, 96, 3) (3, 96, 96)" in run.stdout


def test_files_that_share_images_are_not_a_dataset(tmp_path):
    files = {"train": write(tmp_path / "a.h5", 0, 5), "test": write(tmp_path / "b.h5", 4, 5)}
    with pytest.raises(ValueError, match=r"b\.h5: images are 4 to 8; .*a\.h5, 0 to 4"):
        card_of(files)


def test_files_of_other_settings_are_not_a_dataset(tmp_path):
    files = {
        "train": write(tmp_path / "a.h5", 0, 2),
        "test": write(tmp_path / "b.h5", 4, 2, {**RIDGE, "sweeps": ["linear"]}),
    }
    with pytest.raises(ValueError, match=r"b\.h5: settings is .*allowed is that of .*a\.h5"):
        card_of(files)


@pytest.mark.parametrize("settings", [RIDGE, WAVEFORM, FIGURES])
def test_every_label_and_region_has_words(settings):
    words = datacard.about(settings)
    assert set(words.labels) == set(stimuli.LABELS["chirps"](settings))
    assert all(words.labels.values())
    batch = stimuli.GENERATORS["chirps"](settings, seed=1, indices=range(4))
    assert set(words.extras) == set(batch.extras)
    assert batch.extras["regions"].max() < len(words.extras["regions"])


def test_words_follow_the_settings():
    def text(settings: dict) -> str:
        words = datacard.about(settings)
        return "\n".join((*words.image, *words.limits))

    assert "title gives away the sweep" in text({**FIGURES, "titled": True})
    assert "gives away" not in text(FIGURES)
    assert "no title" in text(FIGURES)
    assert "short-time Fourier transform" in text(WAVEFORM)
    assert "short-time" not in text(RIDGE)
    assert "nan in a label means" in text(WAVEFORM)
    assert "here every image has one" in text(RIDGE)


def test_no_exponential_sweeps_no_case_of_them():
    assert not [case for case in datacard.about({**RIDGE, "sweeps": ["linear"]}).cases
                if "exponential" in case]  # fmt: skip
