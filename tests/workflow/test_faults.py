"""What breaks while a workflow runs: a rerun ends with the same bits, or one line says what to do.

Run by `make test-faults`; what was tried stands in tests/README.md.
"""

import os
import shutil
import subprocess
import time

import pytest
from fault_tools import (
    descendants,
    draws,
    finish,
    kill,
    kill_all,
    mounts,
    results,
    said,
    small_project,
    start,
)  # fmt: skip
from projects import ROOT, Project

pytestmark = pytest.mark.faults
SAME = "rerun ended with the same bits"
N_KILLS = 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Project:
    """The small run, undisturbed."""
    made = small_project(tmp_path_factory.mktemp("whole") / "project")
    began = time.monotonic()
    finish(made)
    made.write("seconds", str(time.monotonic() - began))
    assert len(results(made)) > 15
    return made


@pytest.fixture
def fresh(tmp_path) -> Project:
    return small_project(tmp_path / "project")


@pytest.fixture
def partly(whole, tmp_path) -> Project:
    """A run that has made a part of its results: what stands behind the findings is left."""
    shutil.copytree(whole.folder, tmp_path / "project", symlinks=True)
    made = Project(tmp_path / "project")
    for path in (made.folder / "results").rglob("*"):
        if path.name in ("findings.csv", "claims.csv", "claims.html") or path.suffix == ".svg":
            path.unlink()
    return made


def one_line(project: Project, words: str) -> str:
    """The only line that says this; nothing around it is a traceback."""
    text = said(project)
    lines = [line for line in text.splitlines() if words in line]
    assert lines, text[-3000:]
    assert "Traceback" not in text, text[-6000:]
    return lines[-1].strip()


@pytest.mark.parametrize("how", ["the workflow", "the workflow and its jobs (power cut)"])
def test_kills_of_the_workflow_at_random_moments(whole, tmp_path, how, tried):
    # Half of the kills with jobs that are copies of one process.
    fresh = small_project(tmp_path / "project", shared_imports="power" not in how)
    rng, span = draws(len(how)), float(whole.read("seconds"))
    end = kill_all if "power" in how else lambda process: (kill(process.pid), process.wait())
    done = 0
    for _ in range(N_KILLS // 2):
        process = start(fresh)
        try:
            process.wait(rng.uniform(1, 0.8 * span))
        except subprocess.TimeoutExpired:
            end(process)
            done += 1
        else:
            assert process.returncode == 0, said(fresh)[-3000:]
            shutil.rmtree(fresh.folder / "results")
    finish(fresh)
    assert results(fresh) == results(whole)
    tried(f"SIGKILL of {how} at {done} random moments", SAME)


def test_kills_of_single_jobs_at_random_moments(whole, fresh, tried):
    rng, done = draws(7), 0
    until = time.monotonic() + 420
    while done < N_KILLS and time.monotonic() < until:
        process = start(fresh)
        time.sleep(3)
        while process.poll() is None and done < N_KILLS:
            time.sleep(rng.uniform(0.2, 2.0))
            jobs = descendants(process.pid)
            if jobs:
                kill(int(rng.choice(jobs)))
                done += 1
        if process.wait() == 0:
            shutil.rmtree(fresh.folder / "results")
    finish(fresh)
    assert results(fresh) == results(whole)
    assert done == N_KILLS
    tried(f"SIGKILL of single jobs at {done} random moments", f"{SAME}; the others went on")


@pytest.fixture(scope="module")
def own_mounts():
    found = mounts()
    if not found:
        pytest.skip("needs mounts of its own: root, or user namespaces")
    return found


def in_mounts(project: Project, own_mounts, script: str, **environment: str) -> subprocess.Popen:
    """The small run after some shell commands in mounts of its own."""
    text = f'{script}\nexec "$@"'
    return start(project, prefix=(*own_mounts, "sh", "-ec", text, "sh"), **environment)


def test_a_disk_that_is_full_at_every_stage(whole, tmp_path, own_mounts, tried):
    """One disk that grows from run to run, so that each run comes a little farther."""
    made = small_project(tmp_path / "project")
    total = sum(p.stat().st_size for p in (whole.folder / "results").rglob("*") if p.is_file())
    folder = made.folder / "results"
    folder.mkdir(exist_ok=True)
    shares = (0.01, 0.05, 0.2, 0.4, 0.6, 0.9)
    # All runs in one namespace: the disk with what was written on it must stay.
    script = [f"mount -t tmpfs -o size=4k none {folder}"]
    for i, share in enumerate(shares):
        script += [
            f"mount -o remount,size={max(8, int(total * share / 1024))}k {folder}",
            f'if "$@" > said{i}.txt 2>&1; then echo ended > ended{i}; fi',
        ]
    script += [
        f"mount -o remount,size={4 * total // 1024}k {folder}", '"$@"',
        f"cp -r {folder} {made.folder}/kept", "exit",
    ]  # fmt: skip
    process = in_mounts(made, own_mounts, "\n".join(script))
    assert process.wait(900) == 0, said(made)[-3000:]
    lines = []
    for i in range(len(shares)):
        text = made.read(f"said{i}.txt")
        if not (made.folder / f"ended{i}").exists():
            assert "Traceback" not in text, text[-6000:]
            lines += [line for line in text.splitlines() if "No space left on device" in line]
    assert len(lines) >= 3
    assert results(made, "kept") == results(whole)
    tried(
        f"Full disk below the results, at {len(shares)} stages of a run",
        f"one line each time (make room and run again); {SAME}",
    )


def test_results_that_are_read_only(whole, partly, own_mounts, tried):
    folder = partly.folder / "results"
    process = in_mounts(
        partly, own_mounts, f"mount --bind {folder} {folder}; mount -o remount,bind,ro {folder}"
    )
    assert process.wait(120) == 1
    line = one_line(partly, "Write-protected output files")
    finish(partly)
    assert results(partly) == results(whole)
    tried("Read-only results", f"`{line}`, said by Snakemake with the files; then {SAME}")


def test_a_full_folder_of_temporary_files(whole, partly, own_mounts, tried, tmp_path_factory):
    # The project may lie in /tmp itself, so another folder stands for it.
    folder = tmp_path_factory.mktemp("temporary")
    script = f"mount -t tmpfs -o size=16k none {folder}; cat /dev/zero > {folder}/full || true"
    process = in_mounts(partly, own_mounts, script + " 2> /dev/null", TMPDIR=str(folder))
    assert process.wait(600) == 1
    line = one_line(partly, "folder of temporary files: No space left on device; make room in it")
    finish(partly)
    assert results(partly) == results(whole)
    tried("Full folder of temporary files", f"`{line}`; then {SAME}")


def test_a_home_that_cannot_be_written(whole, partly, tried):
    # Not even root can make a folder there. What make sets then is taken from make itself.
    home = {"HOME": "/proc/nobody"}
    asked = ["make", "-pn", "help"]
    said = subprocess.run(asked, cwd=ROOT, env=os.environ | home, capture_output=True, text=True)
    assert f"XDG_CACHE_HOME := {ROOT}/.snakemake/cache" in said.stdout
    finish(partly, **home, XDG_CACHE_HOME=str(partly.folder / ".snakemake/cache"))
    assert results(partly) == results(whole)
    tried("Home that cannot be written", f"make keeps the cache in .snakemake; {SAME}")


def test_two_workflows_at_once(whole, fresh, tmp_path, tried):
    first = start(fresh)
    while not (fresh.folder / "results/starts.jsonl").exists():
        assert first.poll() is None, said(fresh)[-3000:]
        time.sleep(0.1)
    shutil.move(fresh.folder / "said.txt", fresh.folder / "first.txt")
    second = start(fresh)
    # Another copy of the project, which Snakemake's own lock does not know of.
    other = small_project(tmp_path / "other")
    third = start(other, "--config", f"pathvars={{results: {fresh.folder}/results}}")
    assert (second.wait(120), third.wait(120)) == (1, 1)
    line = one_line(fresh, "another workflow is at work there")
    assert one_line(other, "another workflow is at work there")
    assert first.wait(600) == 0
    assert results(fresh) == results(whole)
    plain = line.replace(str(fresh.folder), "").split(" (")[0]
    tried("Two workflows at once on one folder", f"`{plain}`; the first ended with the same bits")


def test_a_clock_that_jumps_back(whole, partly, tried):
    """A day: what there is seems to come from the future."""
    future = time.time() + 86400
    for path in (partly.folder / "results").rglob("*"):
        os.utime(path, (future, future))
    finish(partly)
    assert results(partly) == results(whole)
    tried("Clock that jumps back by a day", SAME)


@pytest.mark.parametrize(
    ("file", "rule"),
    [
        ("stability/actuator/signings.parquet", "associate_attention"),
        ("stability/actuator/findings.csv", "decide_claims"),
        ("stability/actuator/walks.csv", "plot_networks"),
    ],
)
def test_a_table_that_was_cut_off(whole, tmp_path, file, rule, tried):
    made = Project(shutil.copytree(whole.folder, tmp_path / "project", symlinks=True))
    path = made.folder / "results" / file
    path.write_bytes(path.read_bytes()[: 40 if path.suffix == ".parquet" else 0])
    process = start(made)
    assert process.wait(300) == 1
    line = one_line(made, "not a readable table")
    assert file in line
    assert "remove it and run again" in line
    path.unlink()
    finish(made)
    assert results(made) == results(whole)
    tried(f"Table that was cut off, read by {rule} ({path.suffix})", f"one line; then {SAME}")
