"""Damaged files of each kind are read or refused in one line; nothing runs, nothing fills up."""

import io
import shutil
from functools import cache
from pathlib import Path

import fuzzing
import language_corpus
import numpy as np
import pandas as pd
import planted
import pytest
from configuration_files import Configuration
from patchwork.data import annotated, pictures, store
from patchwork.language import facts
from patchwork.models import backbones, fine_tuned
from patchwork.recordings import readers
from patchwork.stimuli.common.batch import Batch, LabelAttributes
from PIL import Image
from small_networks import LORA, RANDOM, TARGETS, network

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    "picture": "file", "start_s": "from", "end_s": "to", "low_hz": "low", "high_hz": "high",
}  # fmt: skip


def dataset(folder):
    rng = np.random.Generator(np.random.Philox(1))
    labels = {"a": rng.normal(size=6), "b": rng.integers(0, 2, 6)}
    batch = Batch(rng.integers(0, 9, (6, 8, 8, 3), dtype=np.uint8), labels)
    store.write(
        folder / "data.h5", [batch], n=6,
        attributes={"seed": 1, "settings": {"x": [1, 2]}, "first_index": 0},
        label_attributes={
            "a": LabelAttributes("deg", -9, 9), "b": LabelAttributes("index", 0, 1, ("x", "y")),
        },
    )  # fmt: skip
    return folder / "data.h5"


def recording(ending):
    def write(folder):
        noise = {
            n: (128.0, planted.eeg(128, 20, {n: []}, i)[0]) for i, n in enumerate(("Cz", "O1"))
        }
        return planted.write_edf(folder / f"a.{ending}", noise)

    return write


def searched(path):
    found = readers.open_recording(path)
    readers.check_signal(found, 60.0)
    return [values.sum() for _, values in found.read(0.0, 60.0)]


def spectrogram(folder):
    (folder / "npy").mkdir()
    np.save(
        folder / "npy" / "Cz.npy", np.random.Generator(np.random.Philox(2)).normal(size=(128, 40))
    )
    return folder / "npy" / "Cz.npy"


def of_folder(path):
    found = readers.open_recording(path.parent)
    return [values.sum() for _, values in found.read(0.0, 60.0)]


def question_file(folder):
    language_corpus.facts().to_csv(folder / "facts.csv", index=False)
    return folder / "facts.csv"


def backbone(folder):
    backbones.save(backbones.prepare(RANDOM, 16, seed=0), folder / "backbone.safetensors")
    return folder / "backbone.safetensors"


def model(folder):
    file, made = backbone(folder), network()
    record = {
        "settings": {"readout": "cls", "head_hidden": [8], "adapter": LORA},
        "targets": TARGETS, "image_px": 16, "seed": 0,
        "backbone": backbones.load(file).provenance,
    }  # fmt: skip
    fine_tuned.save(made, record, folder / "model.safetensors")
    return folder / "model.safetensors"


def rebuilt(path):
    return fine_tuned.load(path, path.with_name("backbone.safetensors"))


def picture(ending):
    def write(folder):
        rng = np.random.Generator(np.random.Philox(4))
        for name in ("ape/0", "ape/1", "cat/0", "cat/1"):
            path = folder / "pictures" / f"{name}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (18, 20, 3), dtype=np.uint8)).save(path)
        return path

    return write


def found_pictures(path):
    source = {"kind": "folder", "path": str(path.parents[1])}
    found = pictures.find(source, side_px=16, colour=True)
    return [batch.images.sum() for batch in found.batches()]


def table(ending):
    def write(folder):
        rows = [(f"{i}_a.png", i, i + 1.5, 2, 30) for i in range(8)]
        frame = pd.DataFrame(rows, columns=list(NAMES.values()))
        path = folder / f"boxes.{ending}"
        if ending == "csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_excel(path, index=False)
        return path

    return write


def boxes(path):
    return annotated.read_boxes(path.read_bytes(), path.name, NAMES)


def study(folder):
    return Path(shutil.copy(ROOT / "config/studies/stability.yaml", folder / "stability.yaml"))


@cache
def configuration(path):
    return Configuration(path, "config/studies/stability.yaml", ["stability"])


def checked_configuration(path):
    configuration(path).check()


# Kind of file: what writes one, what reads it, bytes of its header.
KINDS = {
    "HDF5 data set": (dataset, store.read, 4096),
    "EDF recording": (recording("edf"), searched, 1024),
    "BDF recording": (recording("bdf"), searched, 1024),
    "spectrogram (.npy)": (spectrogram, of_folder, 128),
    "YAML configuration": (study, checked_configuration, 8192),
    "question file (.csv)": (question_file, facts.read, 2048),
    "backbone (.safetensors)": (backbone, backbones.load, 1024),
    "fine-tuned model (.safetensors)": (model, rebuilt, 1024),
    "folder of pictures (.png)": (picture("png"), found_pictures, 64),
    "folder of pictures (.jpg)": (picture("jpg"), found_pictures, 640),
    "folder of pictures (.tif)": (picture("tif"), found_pictures, 64),
    "table of boxes (.csv)": (table("csv"), boxes, 64),
    "table of boxes (.xlsx)": (table("xlsx"), boxes, 2048),
}


@pytest.mark.parametrize("n", [24, pytest.param(1000, marks=pytest.mark.faults)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, kind, n, tried):
    write, read, head = KINDS[kind]
    # What is wrong in a study may be said of what runs.
    named = "stability" if "YAML" in kind else ""
    tally = fuzzing.fuzz(write(tmp_path), read, n, head=head, named=named)
    assert not tally.wrong, "\n".join(tally.wrong)
    assert tally.read + tally.refused == n
    assert tally.refused
    tried(f"{n:,} damaged files: {kind}", f"{tally.refused:,} refused in one line, rest read")


def test_the_harness_sees_what_it_is_for(tmp_path):
    """Each thing that must not happen is planted and found."""
    path = tmp_path / "file"
    path.write_bytes(b"12345678" * 40)

    def planted_in(bad):
        def read(file):
            if file.read_bytes() != b"12345678" * 40:
                bad(file)

        return fuzzing.fuzz(path, read, 3).wrong

    def grow(_):
        return bytearray(1 << 33)

    def write(file):
        file.with_name("big").write_bytes(bytes(1 << 21))

    def crash(_):
        import ctypes

        ctypes.string_at(0)

    def call(_):
        import subprocess

        subprocess.run(["true"], check=True)

    def unpickle(_):
        import pickle

        pickle.loads(pickle.dumps(Path))

    def unnamed(_):
        raise ValueError("something is wrong")

    for bad, said in (
        (grow, "MemoryError"), (write, "OSError"), (crash, "ended with -11"),
        (call, "ForbiddenError: subprocess.Popen"), (unpickle, "ForbiddenError: pickle.find_class"),
        (unnamed, "names no file"),
    ):  # fmt: skip
        wrong = planted_in(bad)
        assert wrong, bad
        assert said in wrong[0]


def bomb(side):
    """A PNG of one colour: small on disk, large in memory."""
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG", optimize=True)
    return file.getvalue()


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path):
    path = picture("png")(tmp_path)
    path.write_bytes(bomb(12_000))
    with pytest.raises(ValueError, match="have more than 100 million pixels"):
        found_pictures(path)


def test_a_picture_that_is_a_program_is_never_run(tmp_path):
    path = picture("png")(tmp_path)
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 18\n%%EndComments\nshowpage\n"
    )
    before = path.read_bytes()
    tally = fuzzing.fuzz(path, lambda p: found_pictures(p) if p.read_bytes() != before else 0, 0)
    assert not tally.wrong
    with pytest.raises(ValueError, match="1 cannot be read"):
        found_pictures(path)
