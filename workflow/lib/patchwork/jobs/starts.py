"""When, from which code and on which machine a run was started: its provenance."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

FILE = "starts.jsonl"
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
    with (results / FILE).open("a") as file:
        file.write(json.dumps(line) + "\n")


def read(results: Path) -> list[dict[str, Any]]:
    """The starts of a run, the first one first; none if they were not recorded."""
    file = results / FILE
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


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
