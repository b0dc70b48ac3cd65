"""Every command of docs/yours.md, in the order of the page, in a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from edfio import Edf, EdfSignal
from PIL import Image
from projects import ROOT, Project, copy_to

PAGE = (ROOT / "docs/yours.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Project:
    """The project with an environment that is this one, a recording and pictures."""
    made = copy_to(tmp_path_factory.mktemp("yours"))
    for name, call in (("python", ""), ("snakemake", "-m snakemake ")):
        made.write(f".venv/bin/{name}", f'#!/bin/sh\nexec {sys.executable} {call}"$@"\n')
        (made.folder / f".venv/bin/{name}").chmod(0o755)
    made.write(".venv/.ready", "")
    noise = np.random.default_rng(0)
    Edf([EdfSignal(noise.normal(size=256 * 70), 256, label="EEG Cz")]).write(
        made.folder / "my_recording.edf"
    )
    for i in range(4):
        path = made.folder / f"my_pictures/class{i % 2}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    return made


def shell(project: Project, script: str) -> str:
    """Run lines as a reader would, with the environment activated; stop at the first failure."""
    # These tests run inside `make test`, whose flags must not reach the inner one.
    inner = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "PYTEST"))}
    path = f"{project.folder}/.venv/bin:{os.environ['PATH']}"
    run = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=project.folder,
        env=inner | {"PATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, f"{script}\n{run.stdout[-3000:]}"
    return run.stdout


def followed(project: Project, section: str) -> str:
    """Write the files of a section, run its commands, and give back what they said."""
    said = ""
    for language, text in BLOCK.findall(SECTIONS[section]):
        if language == "yaml":
            project.write(text.splitlines()[0].removeprefix("# "), text)
        elif language == "python":
            project.write("script.py", text)
            said += shell(project, "python script.py")
        else:
            assert language == "sh"
            said += shell(project, text)
    return said


def test_every_section_is_tested():
    tested = re.findall(r'followed\(copy, "(.+?)"', Path(__file__).read_text())
    assert set(tested) == set(SECTIONS)


def test_your_model(copy):
    said = followed(copy, "Your model")
    assert (copy.folder / "results/lines/backbones/pretrained/seed0.safetensors").is_file()
    assert re.search(r"^fine_tune +\d+", said, re.MULTILINE)
    assert not re.search(r"^train_graph_attention +\d+", said, re.MULTILINE)


def test_your_pictures(copy):
    said = followed(copy, "Your pictures")
    assert "gather_pictures" in said
    assert str(copy.folder / "my_pictures") in said


def test_your_recording(copy):
    assert "localise_recording" in followed(copy, "Your recording")


def test_your_claim(copy, tiny):
    # What the tiny run has made of this study does not have to be made again.
    shutil.copytree(tiny.folder / "results/stability", copy.folder / "results/stability")
    said = followed(copy, "Your claim")
    table = pd.read_csv(copy.folder / "results/claims.csv").set_index("claim")
    assert np.isfinite(
        table.loc["X1", ["estimate", "ci_low", "control_estimate"]].astype(float)
    ).all()
    assert "X1  Nodes with strong edges" in said
    assert table.loc["A7", "verdict"] == "not_run"


def test_your_study(copy):
    said = followed(copy, "Your study")
    counts = dict(re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE))
    assert counts["fine_tune"] == "3"  # a training per seed
    assert (copy.folder / "results/mine/figures/samples.png").stat().st_size > 5000
