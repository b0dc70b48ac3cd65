"""Exactly the jobs run again whose code, numbers or inputs changed."""

import re
import shutil
from contextlib import contextmanager

import pytest
from projects import TINY, Project

LIBRARY = "workflow/lib/patchwork"


@pytest.fixture(scope="module")
def tiny(tiny, tmp_path_factory) -> Project:
    """A copy of the finished run, to be edited."""
    folder = tmp_path_factory.mktemp("edited") / "project"
    shutil.copytree(tiny.folder, folder, symlinks=True)
    return Project(folder)


def planned(tiny) -> set[str]:
    """Rules that a dry run would run, without `all`."""
    run = tiny.snakemake("-n", "--cores", "2", *TINY)
    assert run.returncode == 0, run.stdout[-3000:]
    table = re.search(r"Job stats:\njob +count\n-+ +-+\n(.*?)\ntotal", run.stdout, re.DOTALL)
    return {line.split()[0] for line in table[1].splitlines()} - {"all"} if table else set()


REMARK = ("", "\n# a remark\n")  # nothing to replace: the text goes to the end
TRAINER = f"{LIBRARY}/training/trainer.py"
ORIENTATION = f"{LIBRARY}/analysis/biases/orientation.py"


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1) if old else text + new


@contextmanager
def edited(tiny, edits):
    """Files with one text replaced by another, for a while."""
    before = {path: tiny.read(path) for path in edits}
    try:
        for path, (old, new) in edits.items():
            tiny.write(path, changed(before[path], old, new))
        yield
    finally:
        for path, text in before.items():
            tiny.write(path, text)


def test_a_finished_run_has_nothing_to_do(tiny):
    run = tiny.snakemake("--cores", "2", *TINY)
    assert run.returncode == 0
    assert "Nothing to be done" in run.stdout


def test_comments_docstrings_and_modules_that_nothing_uses_rerun_nothing(tiny):
    edits = {
        ORIENTATION: REMARK,
        f"{LIBRARY}/data/store.py": REMARK,
        TRAINER: ('"""The one training loop', '"""One loop for every training'),
    }
    tiny.write(f"{LIBRARY}/unused.py", "VALUE = 1\n")
    with edited(tiny, edits):
        assert planned(tiny) == set()
    (tiny.folder / LIBRARY / "unused.py").unlink()


def test_an_analysis_reruns_with_what_follows_from_it(tiny):
    with edited(tiny, {ORIENTATION: ("_BORDER_DEG = 22.5", "_BORDER_DEG = 22.0")}):
        rules = planned(tiny)
    assert {"analyse_orientation", "decide_claims"} <= rules
    assert not rules & {"fine_tune", "evaluate", "prepare_backbone", "synthesise_dataset",
                        "describe_networks", "detect_transitions"}  # fmt: skip


def test_the_training_loop_reruns_trainings_and_no_images(tiny):
    with edited(tiny, {TRAINER: ("_DIVERGED = 1000.0", "_DIVERGED = 2000.0")}):
        rules = planned(tiny)
    assert {"prepare_backbone", "fine_tune", "evaluate", "score_predictions"} <= rules
    assert not rules & {"synthesise_shard", "synthesise_dataset", "describe_networks"}


def test_a_figure_and_a_claims_bound_rerun_no_analysis(tiny):
    edits = {
        f"{LIBRARY}/figures/biases/training.py": ("Loss (no unit)", "Loss (unitless)"),
        "config/claims.yaml": ("claimed: [0, 22.5]", "claimed: [0, 22.4]"),
    }
    with edited(tiny, edits):
        assert planned(tiny) - {"plot_figure"} == {"decide_claims", "plot_claims"}


def test_numbers_of_a_study_and_of_a_dataset_rerun_these_alone(tiny):
    edits = {
        "config/studies/stability.yaml": ("strengthening: 0.1", "strengthening: 0.2"),
        "config/studies/lines.yaml": (
            "palette: hue_circle", "palette: hue_circle, rasteriser: antialiased"
        ),
    }  # fmt: skip
    with edited(tiny, edits):
        said = tiny.snakemake("-n", "--cores", "2", *TINY).stdout
    assert re.search("^ *rule describe_networks:", said, re.MULTILINE)
    for rule in ("synthesise_shard", "fine_tune", "evaluate"):
        drawn = re.findall(rf"rule {rule}:.*?study=(\w+), dataset=(\w+)", said, re.DOTALL)
        assert set(drawn) == {("lines", "hue")}, rule
