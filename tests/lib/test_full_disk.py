"""A disk that takes no more: one line says so, nothing is left half-written, older files stay."""

import multiprocessing
import os
import resource
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from patchwork import tables
from patchwork.data import store, tensors
from patchwork.figures import theme
from patchwork.jobs.log import LOGGER, job_log
from patchwork.stimuli.common.batch import Batch, LabelAttributes
from patchwork.training import checkpoints

CONTEXT = multiprocessing.get_context("fork")
MOST = 2000  # bytes that fit


def dataset(folder, n=20):
    rng = np.random.Generator(np.random.Philox(1))
    batch = Batch(rng.integers(0, 256, (n, 24, 24, 3), dtype=np.uint8), {"a": np.zeros(n)})
    label = {"a": LabelAttributes("deg", 0, 1)}
    store.write(folder / "data.h5", [batch], n=n, attributes={"seed": 1}, label_attributes=label)


def named_tensors(folder):
    tensors.write_tensors({"a": torch.zeros(2000)}, {}, folder / "model.safetensors")


def checkpoint(folder):
    checkpoints.write(folder, {"a": torch.zeros(2000)}, {"step": 1})


def csv(folder):
    columns = tables.schemas()["seed*/validation.csv"].columns
    (folder / "seed0").mkdir()
    tables.write(pd.DataFrame(dict.fromkeys(columns, range(2000))), folder / "seed0/validation.csv")


def parquet(folder):
    columns = tables.schemas()["training_log.parquet"].columns
    values = np.random.Generator(np.random.Philox(2)).normal(size=4000)
    tables.write(pd.DataFrame(dict.fromkeys(columns, values)), folder / "training_log.parquet")


def figure(folder):
    from matplotlib.figure import Figure

    drawn = Figure()
    drawn.subplots().plot(np.random.Generator(np.random.Philox(3)).normal(size=500))
    theme.save(drawn, folder / "figure")


WHOLE = {dataset: "data.h5", named_tensors: "model.safetensors"}
WRITERS = [dataset, named_tensors, checkpoint, csv, parquet, figure]


def on_a_full_disk(write, folder):
    """In a process whose files may not grow, which gives an OSError as a full disk does."""

    told, tells = CONTEXT.Pipe(duplex=False)

    def job():
        resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, MOST))
        sys.stderr = os.fdopen(os.dup(tells.fileno()), "w", buffering=1)
        with job_log(folder.parent / "job.log"):
            write(folder)

    process = CONTEXT.Process(target=job)
    process.start()
    process.join(60)
    tells.close()
    with os.fdopen(os.dup(told.fileno())) as shown:
        return process.exitcode, shown.read()


@pytest.mark.parametrize("write", WRITERS, ids=lambda one: one.__name__)
def test_each_writer_says_it_in_one_line(tmp_path, write):
    folder = tmp_path / "results"
    folder.mkdir()
    before = {}
    if write in WHOLE:
        write(folder)
        before = {path: path.read_bytes() for path in folder.iterdir()}
    status, shown = on_a_full_disk(write, folder)
    assert status == 1, shown
    assert shown.count("\n") == 1, shown
    assert "error: " in shown
    assert "make room, or make the folder writable, then run again" in shown
    if write in WHOLE or write is checkpoint:
        assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_checkpoint_that_finds_no_room_leaves_the_one_before(tmp_path):
    folder = tmp_path / "results"
    checkpoints.write(folder, {"a": torch.zeros(10)}, {"step": 1})
    assert on_a_full_disk(checkpoint, folder)[0] == 1
    assert checkpoints.read(folder)[1] == {"step": 1}


def test_a_log_that_finds_no_room_hides_nothing(tmp_path):
    def write(folder):
        LOGGER.info("x" * MOST)
        (folder / "other").write_bytes(bytes(MOST + 1))

    folder = tmp_path / "results"
    folder.mkdir()
    status, shown = on_a_full_disk(write, folder)
    assert status == 1
    assert shown.count("\n") == 2
    assert "run again" in shown.splitlines()[1]
    assert len((tmp_path / "job.log").read_text()) <= MOST


def test_a_folder_that_cannot_be_written_is_one_line():
    line = r"error: .*/proc/logs.*; make room, or make the folder"
    with pytest.raises(SystemExit, match=line), job_log("/proc/logs/job.log"):
        pass
