"""When, from which code and on which machine a run was started, and what it was to make.

Beside each folder's results lie its starts (a line each), the jobs that each start planned, and the
configuration of the last one.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

FILE, JOBS, CONFIGURATION = "starts.jsonl", "jobs.jsonl", "configuration.json"
_PACKAGES = ("torch", "timm", "numpy", "scipy", "snakemake")


def record(project: Path, results: Path, seeds: Mapping[str, Sequence[int]]) -> None:
    """Add a line to the file of starts, one for each time that a run was begun or gone on with.

    Args:
        project: folder of the workflow, perhaps a git repository.
        results: folder of results; made if it is not there.
        seeds: study that runs to its seeds.
    """
    cpu = _first_lines(Path("/proc/cpuinfo"))
    line = {
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(project),
        "cpu": cpu.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "bf16": "bf16" in cpu.get("flags", ""),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "seeds": {name: list(values) for name, values in seeds.items()},
    }
    results.mkdir(parents=True, exist_ok=True)
    _append(results / FILE, [line])


def record_jobs(
    results: Path, jobs: Iterable[Mapping[str, Any]], configuration: Mapping[str, Any]
) -> None:
    """Add what a start plans to make, and keep the configuration of which.

    Args:
        results: folder of results; paths below it are kept relative to it.
        jobs: ``rule``, ``script``, ``code`` (digest), ``log``, ``inputs`` and ``outputs`` (lists).
        configuration: the whole, as it is used.
    """
    start = len(read(results)) - 1
    lines = [
        {
            **job,
            "log": _inside(job["log"], results),
            "inputs": [_inside(one, results) for one in job["inputs"]],
            "outputs": [_inside(one, results) for one in job["outputs"]],
            "start": start,
        }
        for job in jobs
    ]
    _append(results / JOBS, lines)
    text = json.dumps(configuration, indent=1, sort_keys=True)
    (results / CONFIGURATION).write_text(text + "\n", encoding="utf-8")


def read(results: Path) -> list[dict[str, Any]]:
    """The starts of a run, the first one first; none if they were not recorded."""
    return _lines(results / FILE)


def makers(results: Path) -> dict[str, dict[str, Any]]:
    """The job that made each result, by its path below the folder: the last one planned."""
    return {output: job for job in _lines(results / JOBS) for output in job["outputs"]}


def _append(file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    with file.open("a", encoding="utf-8") as opened:
        opened.writelines(json.dumps(line) + "\n" for line in lines)


def _lines(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):  # cut off by a kill or a full disk
            found.append(json.loads(line))
    return found


def _inside(path: str, results: Path) -> str:
    full = Path(path).resolve()
    return (
        full.relative_to(results.resolve()).as_posix()
        if full.is_relative_to(results.resolve())
        else str(path)
    )


def hardware() -> str:
    """Processor, cores that may be used, and the GPU if one is in use."""
    model = _first_lines(Path("/proc/cpuinfo")).get("model name", platform.machine())
    text = f"{model}, {len(os.sched_getaffinity(0))} cores"
    torch = sys.modules.get("torch")  # not imported for this alone
    if torch is not None and torch.cuda.is_initialized():
        text += f", {torch.cuda.get_device_name()}"
    return text


def _commit(project: Path) -> str | None:
    """The commit, with -dirty if files differ from it; None outside of a repository."""
    command = ["git", "-C", str(project), "describe", "--always", "--abbrev=40", "--exclude=*",
               "--dirty"]  # fmt: skip
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _first_lines(file: Path) -> dict[str, str]:
    """What the first processor is said to be, by key."""
    found: dict[str, str] = {}
    for line in file.read_text().splitlines() if file.is_file() else ():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return found
