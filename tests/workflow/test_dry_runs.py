"""Every profile and scale can be planned; plain uses of Snakemake work."""

import logging
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from projects import TINY, plan
from snakemake_executor_plugin_slurm.partitions import get_best_partition, read_partition_file

TARGET = "results/lines/angle/pretrained/described/predictions.parquet"
# Without an argument Snakemake finds profiles/default itself.
PLANS = {
    "default": ([], 0),
    "gpu": (["--workflow-profile", "profiles/gpu"], 1),
    "slurm": (["--workflow-profile", "profiles/slurm"], 1),
    "tiny": (TINY, 0),
    "other_seeds": (["--configfile", "config/scales/other_seeds.yaml"], 0),
    "real": (["--configfile", "config/scales/real.yaml"], 0),
    "evidence": (["--configfile", "config/scales/evidence.yaml"], 0),
    "paper": (["--configfile", "config/scales/paper.yaml"], 0),
}


@pytest.mark.parametrize("name", PLANS)
def test_every_profile_and_scale_is_planned_and_gives_jobs_their_gpu(project, name):
    arguments, gpu = PLANS[name]
    said = plan(project, *arguments)
    assert "fine_tune" in said
    assert "decide_claims" in said
    assert f"gpu={gpu}" in said
    assert f"gpu={1 - gpu}" not in said


def test_the_default_profile_is_found(project):
    assert "profiles/default" in plan(project)


# One at a time: the profile takes the GPU away twice, and each of these lifts one of the two.
@pytest.mark.parametrize(
    "own", [("--set-resources", "fine_tune:mem_mb=9000"), ("--resources", "mem_mb=16000")]
)
def test_resources_of_your_own_ask_for_no_gpu(project, own):
    assert "gpu=1" not in plan(project, *own, "--", TARGET)


def test_a_cluster_without_gpus_needs_none(project):
    said = plan(project, "--profile", "profiles/slurm", TARGET)
    assert "gpu=0" in said
    assert "gpu=1" not in said


def test_another_queue_is_asked_for_what_a_rule_needs(project, tmp_path, monkeypatch):
    assert "gpu=1" in plan(project, "--workflow-profile", "profiles/generic", TARGET)
    # A queue of one file: it writes down what it is asked for and runs the job at once.
    queue = tmp_path / "qsub"
    queue.write_text(
        '#!/bin/sh\necho "$@" > "$(dirname "$0")/asked"\nfor job; do :; done\n"$job" >&2\necho 7\n'
    )
    queue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    jobs = Path(__file__).with_name("cluster_jobs.smk")
    profile = project.folder / "profiles/generic"
    run = project.snakemake(
        "--workflow-profile", str(profile), "--snakefile", str(jobs),
        "--directory", str(tmp_path), "--", "jobs/said.txt",
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:]
    asked = (tmp_path / "asked").read_text()
    for wanted in ("-pe smp 3 ", "h_vmem=700M", "h_rt=0:90:0", "gpu=0 ", "-N patchwork.say"):
        assert wanted in asked


def test_the_default_profile_takes_the_gpu_from_every_rule_that_has_one(project):
    profile = yaml.safe_load(project.read("profiles/default/config.yaml"))
    wanted = set()
    for path in (project.folder / "workflow/rules").glob("*.smk"):
        for block in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            if re.search(r"^ +gpu=[1-9]", block, re.MULTILINE):
                wanted.add(block.split(":")[0])
    assert profile["set-resources"] == {name: {"gpu": 0} for name in wanted}


def test_another_folder_of_results_holds_every_file(project):
    elsewhere = ["--config", "pathvars={results: elsewhere}"]
    said = plan(project, *elsewhere, "--", "all")
    for path in ("claims.csv", "logs/"):
        assert f"elsewhere/{path}" in said
    assert not re.findall(r"\S*\bresults/\S*", said)


@pytest.mark.slow
def test_a_training_writes_only_to_another_folder_of_results(project):
    before = set(project.folder.rglob("*"))
    run = project.snakemake(
        "--cores", "1", *TINY, "--config", "pathvars={results: elsewhere}", "--",
        "elsewhere/lines/angle/random/full/seed0/model.safetensors",
    )  # fmt: skip
    new = {path.relative_to(project.folder) for path in set(project.folder.rglob("*")) - before}
    shutil.rmtree(project.folder / "elsewhere", ignore_errors=True)
    assert run.returncode == 0, run.stdout[-3000:]
    assert {path.parts[0] for path in new} <= {"elsewhere", ".snakemake", "workflow"}
    assert {path.parts[1] for path in new if path.parts[1:] and path.parts[0] == "elsewhere"} == {
        "lines", "logs", "tensorboard", "checkpoints", "starts.jsonl", "jobs.jsonl",
        "configuration.json", ".workflow.lock", ".jobs.lock",
    }  # fmt: skip


@pytest.mark.parametrize(("gpu", "partition"), [(0, "cpu"), (1, "gpu"), (4, "gpu")])
def test_partitions_follow_what_a_rule_needs(project, gpu, partition):
    profile = yaml.safe_load(project.read("profiles/slurm/config.yaml"))
    listed = read_partition_file(project.folder / profile["slurm-partition-config"])
    resources = {"gpu": gpu, "mem_mb": 4000, "runtime": 720}
    job = SimpleNamespace(name="fine_tune", threads=1, resources=resources)
    assert get_best_partition(listed, job, logging.getLogger()) == partition


def test_one_figure_needs_only_its_own_runs(project):
    said = plan(project, "results/lines/figures/samples.svg")
    assert "fine_tune" not in said
    assert "plot_samples" in said


def test_the_benchmark_is_drawn_and_described_and_nothing_else(project):
    scale = ["--configfile", "config/scales/benchmark.yaml", "--set-scatter", "shards=8", "--"]
    said = plan(project, *scale, "results/chirps/benchmark/data/README.md")
    counts = dict(re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE))
    drawn = {"synthesise_shard": "24", "synthesise_dataset": "3", "describe_dataset": "1"}
    assert counts == drawn | {"total": "28"}


def test_splits_of_the_benchmark_hold_100000_images_of_their_own(project):
    scale = yaml.safe_load(project.read("config/scales/benchmark.yaml"))
    (study,) = scale["studies"].values()
    splits = study["stimuli"]["splits"].values()
    numbers = [range(one["first_index"], one["first_index"] + one["n"]) for one in splits]
    assert len(set().union(*numbers)) == sum(map(len, numbers)) == 100_000


def test_heads_on_a_network_that_others_trained_share_its_features(project):
    said = plan(project, "--configfile", "config/scales/real.yaml")
    counts = dict(re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE))
    assert (counts["extract_features"], counts["fine_tune"]) == ("3", "33")
    assert counts["prepare_backbone"] == "3"  # one of each kind, whatever the number of seeds
    assert (counts["ablate_groups"], "ablate_heads" in counts) == ("3", False)
    assert "real/lines/tables/bias_by_depth.csv" in said
    assert "extract_features" not in plan(project)
