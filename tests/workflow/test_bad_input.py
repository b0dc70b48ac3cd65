"""Bad input: one clear line, an exit code that is not zero, nothing half-written, nothing lost."""

import re

import pytest
import torch
import yaml
from projects import TINY

CASES = {
    "schema": (
        {"training": {"epoch": 3}},
        "bad.yaml: studies.lines.training has the unknown key 'epoch'; allowed is epochs",
    ),
    "generator": (
        {"stimuli": {"common": {"length_px": {"min": 14, "max": 400}}}},
        "length_px.max is 400; allowed is at most 31 for a 64 px image",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_configuration_stops_before_the_first_job(project, case):
    change, words = CASES[case]
    project.write("bad.yaml", yaml.safe_dump({"studies": {"lines": change}}))
    run = project.snakemake("-n", "--configfile", "bad.yaml")
    assert run.returncode != 0
    lines = [line for line in run.stdout.splitlines() if words in line]
    assert len(lines) == 1, run.stdout[-2000:]
    assert "Traceback" not in run.stdout
    assert "rule " not in run.stdout
    assert run.stdout.rstrip().endswith(lines[0])  # no place in the rules behind it


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; allowed are keys with values"),
        ("- 1\n", "is list; allowed are keys with values"),
        ("studies:\n\tchirps: {}\n", "line 2 is no YAML (found character that cannot start any"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(project, text, words):
    file = "config/studies/chirps.yaml"
    kept = project.read(file)
    project.write(file, text)
    try:
        run = project.snakemake("-n")
    finally:
        project.write(file, kept)
    assert run.returncode != 0
    assert run.stdout.splitlines()[-1].startswith(f"{file}: {words}")


def backbone(project, change: dict, *more: str):
    """Ask for one random backbone with a changed configuration."""
    project.write("bad.yaml", yaml.safe_dump({"studies": {"lines": {"backbones": change}}}))
    path = "results/lines/backbones/random/seed0.safetensors"
    run = project.snakemake("--cores", "1", *TINY, "bad.yaml", *more, "--", path)
    return run, project.folder / path


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_named(project):
    needed = ("--resources", "gpu=1", "--set-resources", "prepare_backbone:gpu=1")
    run, path = backbone(project, {}, *needed)
    assert run.returncode != 0
    assert "resources: gpu is 1; this machine shows 0" in run.stdout
    assert not path.exists()


def test_a_wrong_checksum_is_named_and_nothing_is_written(project):
    file = project.folder / "weights.safetensors"
    file.write_bytes(b"other weights")
    local = {"source": "local", "path": str(file), "sha256": "0" * 64}
    run, path = backbone(project, {"random": local})
    assert run.returncode != 0
    assert re.search(r"error: .*weights.safetensors: SHA-256 is [0-9a-f]{64}; the conf", run.stdout)
    assert not path.exists()


def test_a_foreign_dataset_is_named_and_earlier_results_stay(project):
    folder = project.folder / "results/lines/angle/data"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "kept.txt"
    kept.write_text("earlier")
    for split in ("train", "validation"):
        (folder / f"{split}.h5").write_bytes(b"no dataset at all")
    run = project.snakemake(
        "--cores", "1", *TINY, "--rerun-triggers", "mtime", "--",
        "results/lines/angle/random/corrected/seed0/model.safetensors",
    )  # fmt: skip
    for split in ("train", "validation"):
        (folder / f"{split}.h5").unlink()
    assert run.returncode != 0
    assert re.search(r"error: results/lines/angle/data/train.h5: ", run.stdout), run.stdout[-2000:]
    assert not (folder.parent / "random/corrected/seed0/model.safetensors").exists()
    assert kept.read_text() == "earlier"
