"""The workflow on a real Slurm of one machine (`make test-cluster`); its GPUs are emulated."""

import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from projects import Project, copy_to

pytestmark = pytest.mark.cluster

HERE = Path(__file__).parent
SLURM = HERE / "slurm.sh"
STUDIES = os.environ.get("STUDIES", "stability").split()
JOBS = ("--snakefile", str(HERE / "cluster_jobs.smk"))
# A training long enough to be ended in its middle, and the states that it keeps every second.
TRAINING = "results/lines/angle/pretrained/corrected/seed0/model.safetensors"
LONGER = """
studies:
  lines:
    training: {early_stopping_patience: null, checkpoint_every_s: 1}
    protocols: {corrected: {training: {epochs: 400}}}
"""
DEADLINE_S = 300


@pytest.fixture(scope="module")
def slurm():
    subprocess.run([SLURM, "up"], check=True)
    yield
    subprocess.run([SLURM, "down"], check=True)


@pytest.fixture
def cluster(slurm, tmp_path) -> Project:
    """The project with the profile of a cluster, which asks sooner how its jobs are."""
    made = copy_to(tmp_path)
    profile = yaml.safe_load(made.read("profiles/slurm/config.yaml"))
    profile |= {"slurm-init-seconds-before-status-checks": 3, "latency-wait": 10}
    made.write("profiles/slurm/config.yaml", yaml.safe_dump(profile))
    (tmp_path / "jobs").mkdir()
    return made


def start(project: Project, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm", *arguments],
        cwd=project.folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=(project.folder / "said.txt").open("a"),
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(run: subprocess.Popen, project: Project) -> str:
    run.wait(timeout=3600)
    said = project.read("said.txt")
    assert run.returncode == 0, said[-3000:]
    return said


def on_cluster(project: Project, *arguments: str) -> str:
    return finish(start(project, *arguments), project)


def queue(state: str = "R") -> list[str]:
    """Numbers of the jobs in this state; R is running, PD waiting."""
    asked = ["squeue", "-h", "-t", state, "-o", "%A"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()


def wait_for(what, message: str):
    """What the function returns, once it is true."""
    for _ in range(DEADLINE_S * 5):
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{message} within {DEADLINE_S} s")


def digests(folder: Path) -> dict[str, str]:
    """Of the tables, which hold neither times nor places."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("tables/*.csv"))
    }


def test_studies_run_through_the_queue_with_the_numbers_of_one_machine(cluster, tmp_path_factory):
    scale = (
        "--configfile", "config/scales/tiny.yaml", "--set-scatter", "shards=1",
        "--config", f"run=[{','.join(STUDIES)}]",
    )  # fmt: skip
    said = on_cluster(cluster, *scale)
    alone = copy_to(tmp_path_factory.mktemp("alone"))
    run = alone.snakemake("--cores", "2", *scale)
    assert run.returncode == 0, run.stdout[-3000:]
    assert "external jobid" in said or "SLURM jobid" in said
    expected = digests(alone.folder / "results")
    assert expected
    assert digests(cluster.folder / "results") == expected


def test_jobs_hold_the_gpu_alone_and_wait_for_it(cluster):
    run = start(cluster, *JOBS, "jobs/gpu_1.txt", "jobs/gpu_2.txt", "jobs/sleep_1.txt")
    wait_for(lambda: queue("PD") and len(queue()) == 2, "one job waits while two run")
    finish(run, cluster)
    first, second = sorted(cluster.read(f"jobs/gpu_{n}.txt").split() for n in (1, 2))
    assert first[0] == second[0] == "0"
    starts_and_ends = sorted((float(one[1]), float(one[2])) for one in (first, second))
    assert starts_and_ends[0][1] <= starts_and_ends[1][0]


def test_a_cancelled_job_is_tried_again(cluster):
    run = start(cluster, *JOBS, "jobs/sleep_1.txt")
    tries = cluster.folder / "jobs/tries_1.txt"
    wait_for(tries.exists, "the job starts")
    subprocess.run(["scancel", *queue()], check=True)
    finish(run, cluster)
    assert tries.read_text() == "slept\nslept\n"


def test_a_job_that_runs_out_of_memory_gets_more(cluster):
    on_cluster(cluster, *JOBS, "jobs/hungry.txt")
    assert cluster.read("jobs/hungry.txt") == "1200\n"


def test_the_controller_may_be_restarted_during_a_run(cluster):
    run = start(cluster, *JOBS, "jobs/sleep_1.txt", "jobs/sleep_2.txt")
    wait_for(lambda: len(queue()) == 2, "both jobs run")
    subprocess.run([SLURM, "restart"], check=True)
    finish(run, cluster)
    assert cluster.read("jobs/tries_1.txt") == cluster.read("jobs/tries_2.txt") == "slept\n"


def test_a_second_submission_is_refused_while_the_first_runs(cluster):
    run = start(cluster, *JOBS, "jobs/sleep_1.txt")
    wait_for(queue, "the job runs")
    # The profile of one machine leaves it to the lock that the workflow's own rules take.
    alone = ("--workflow-profile", "none", "--cores", "1")
    second = cluster.snakemake(*alone, *JOBS, "jobs/sleep_1.txt")
    assert second.returncode
    assert "cannot be locked" in second.stdout
    finish(run, cluster)
    assert cluster.read("jobs/tries_1.txt") == "slept\n"


def test_a_pre_empted_training_resumes_to_the_same_bits(cluster, tmp_path_factory):
    scale = (
        "--configfile", "config/scales/tiny.yaml", "config/longer.yaml",
        "--set-scatter", "shards=1",
    )  # fmt: skip
    alone = copy_to(tmp_path_factory.mktemp("alone"))
    for one in (alone, cluster):
        one.write("config/longer.yaml", LONGER)
    run = alone.snakemake("--cores", "2", *scale, "--", TRAINING)
    assert run.returncode == 0, run.stdout[-3000:]

    tried = start(cluster, *scale, "--", TRAINING)
    states = cluster.folder / "results/checkpoints"
    wait_for(lambda: list(states.rglob("*.safetensors")), "the training keeps a state")
    subprocess.run(["scancel", "--signal=TERM", "--full", *queue()], check=True)
    time.sleep(2)
    subprocess.run(["scancel", "--signal=KILL", "--full", *queue()], check=False)
    finish(tried, cluster)
    log = cluster.read("results/logs/lines/angle/pretrained/corrected/seed0/fine_tune.log")
    assert re.search(r"resum|continu", log), log
    assert (cluster.folder / TRAINING).read_bytes() == (alone.folder / TRAINING).read_bytes()
