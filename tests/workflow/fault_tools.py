"""A small study to disturb: started, killed, put on disks that are full or read-only, compared."""

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from projects import Project, copy_to

# Every kind of job that a study of networks has, in seconds.
SMALL = {
    "datasets": {
        "actuator": {
            "source": {"kind": "actuator"},
            "n_released_seeds": 2, "n_trained_seeds": 1, "n_signings": 10,
            "perturbation_factors": [1, 2],
        }
    },
    "figures": ["walks"],
    "graph_free_epochs": 20,
}  # fmt: skip
ARGUMENTS = ("--cores", "2")
# Written by every start or with the time of day.
NO_RESULT = re.compile(r"(^|/)(logs|starts\.jsonl|jobs\.jsonl|README\.md|\..*\.lock)")


def small_project(folder: Path, *, shared_imports: bool = False) -> Project:
    """The project with one small study.

    Args:
        folder: where it will be.
        shared_imports: whether jobs run in copies of one process, as in larger studies.
    """
    made = copy_to(folder)
    study = yaml.safe_load(made.read("config/studies/stability.yaml"))
    networks = study["studies"]["stability"]["networks"]
    networks |= SMALL
    networks["analysis"] |= {"power": {"least": 0.1, "n_draws": 3}, "pseudospectrum_points": 11}
    networks["training"]["n_steps"] = 10
    made.write("config/studies/stability.yaml", yaml.safe_dump(study))
    made.write("config/config.yaml", yaml.safe_dump({"run": ["stability"], "seeds": [0, 1]}))
    rules = made.read("workflow/rules/common.smk")
    few = f"FEW_JOBS = {2 if shared_imports else 1000}"
    made.write("workflow/rules/common.smk", rules.replace("FEW_JOBS = 8", few))
    return made


def start(project: Project, *arguments: str, prefix=(), **environment: str) -> subprocess.Popen:
    """Start the small run; what it says goes to `said.txt` in the folder."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    with open(project.folder / "said.txt", "w") as said:
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "snakemake", *ARGUMENTS, *arguments],
            cwd=project.folder, env={**kept, "OMP_NUM_THREADS": "1", **environment},
            stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def said(project: Project) -> str:
    return project.read("said.txt")


def finish(project: Project, *arguments: str, **options) -> None:
    process = start(project, *arguments, **options)
    assert process.wait(600) == 0, said(project)[-3000:]


def results(project: Project, folder: str = "results") -> dict[str, str]:
    """SHA-256 of every result by its path."""
    root = project.folder / folder
    files = sorted(p for p in root.rglob("*") if p.is_file())
    found = {p.relative_to(root).as_posix(): p.read_bytes() for p in files}
    return {k: hashlib.sha256(v).hexdigest() for k, v in found.items() if not NO_RESULT.search(k)}


def descendants(pid: int) -> list[int]:
    """Processes below one, the nearest first."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(entry.parent.name)] = int(fields[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_all(process: subprocess.Popen) -> None:
    """What a power cut does: the workflow and all of its jobs end at once."""
    for pid in [process.pid, *descendants(process.pid)]:
        kill(pid)
    process.wait()


def draws(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def mounts() -> tuple[str, ...]:
    """What gives a process mounts of its own, which end with it; empty where nothing does."""
    for command in (("unshare", "-m"), ("unshare", "-rm")):
        try:
            run = subprocess.run(
                [*command, "sh", "-c", "mount -t tmpfs -o size=64k none /mnt"], capture_output=True
            )
        except OSError:
            return ()
        if run.returncode == 0:
            return command
    return ()
