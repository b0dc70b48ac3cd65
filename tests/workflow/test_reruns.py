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


@contextmanager
def edited(tiny, path, change):
    before = tiny.read(path)
    after = change(before)
    assert after != before
    tiny.write(path, after)
    try:
        yield
    finally:
        tiny.write(path, before)


def test_a_finished_run_has_nothing_to_do(tiny):
    run = tiny.snakemake("--cores", "2", *TINY)
    assert run.returncode == 0
    assert "Nothing to be done" in run.stdout


@pytest.mark.parametrize(
    "file", ["analysis/biases/orientation.py", "training/trainer.py", "data/store.py"]
)
def test_a_comment_reruns_nothing(tiny, file):
    with edited(tiny, f"{LIBRARY}/{file}", lambda text: text + "\n\n# a remark\n"):
        assert planned(tiny) == set()


def test_a_docstring_reruns_nothing(tiny):
    def reword(text):
        return text.replace('"""The one training loop', '"""One loop for every training', 1)

    with edited(tiny, f"{LIBRARY}/training/trainer.py", reword):
        assert planned(tiny) == set()


def test_a_module_that_nothing_uses_reruns_nothing(tiny):
    tiny.write(f"{LIBRARY}/unused.py", "VALUE = 1\n")
    assert planned(tiny) == set()
    (tiny.folder / LIBRARY / "unused.py").unlink()


def test_an_analysis_reruns_with_what_follows_from_it(tiny):
    def change(text):
        return text.replace("_GRID_DEG = 0.25", "_GRID_DEG = 0.5")

    with edited(tiny, f"{LIBRARY}/analysis/biases/orientation.py", change):
        rules = planned(tiny)
    assert "analyse_orientation" in rules
    assert "decide_claims" in rules
    assert not rules & {"fine_tune", "evaluate", "prepare_backbone", "synthesise_dataset",
                        "describe_networks", "detect_transitions"}  # fmt: skip


def test_the_training_loop_reruns_trainings_and_no_images(tiny):
    def change(text):
        return text.replace("_DIVERGED = 1000.0", "_DIVERGED = 2000.0")

    with edited(tiny, f"{LIBRARY}/training/trainer.py", change):
        rules = planned(tiny)
    assert {"prepare_backbone", "fine_tune", "evaluate", "score_predictions"} <= rules
    assert not rules & {"synthesise_shard", "synthesise_dataset", "describe_networks"}


def test_a_figure_reruns_alone(tiny):
    def change(text):
        return text.replace("Loss (no unit)", "Loss (unitless)")

    with edited(tiny, f"{LIBRARY}/figures/biases/training.py", change):
        assert planned(tiny) <= {"plot_figure"}


def test_one_studys_number_reruns_that_study_alone(tiny):
    def change(text):
        return text.replace("strengthening: 0.1", "strengthening: 0.2")

    with edited(tiny, "config/studies/stability.yaml", change):
        rules = planned(tiny)
    assert "describe_networks" in rules
    assert not rules & {"fine_tune", "evaluate", "synthesise_shard", "analyse_orientation"}


def test_one_datasets_number_reruns_that_dataset_alone(tiny):
    def change(text):
        return text.replace(
            "palette: equal_energy", "palette: equal_energy, rasteriser: antialiased"
        )

    with edited(tiny, "config/studies/lines.yaml", change):
        run = tiny.snakemake("-n", "--cores", "2", *TINY)
    trained = set(re.findall(r"rule fine_tune:.*?dataset=(\w+)", run.stdout, re.DOTALL))
    assert trained == {"color_equal"}


def test_a_claims_bound_reruns_no_analysis(tiny):
    def change(text):
        return text.replace("claimed: [1.5, 2.5]", "claimed: [1.4, 2.5]")

    with edited(tiny, "config/claims.yaml", change):
        assert planned(tiny) == {"decide_claims", "plot_claims"}
