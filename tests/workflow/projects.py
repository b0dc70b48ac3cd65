"""A copy of the project to run Snakemake in; as a program, the run of the tiny scale."""

import functools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# One shard: two of so few images only take another process.
TINY = ["--set-scatter", "shards=1", "--configfile", "config/scales/tiny.yaml"]


@dataclass(frozen=True)
class Project:
    """A folder with the project's files."""

    folder: Path

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run Snakemake in the folder; both outputs come back as ``stdout``."""
        environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env=environment | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
        )

    def read(self, path: str) -> str:
        return (self.folder / path).read_text()

    def write(self, path: str, text: str) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)


@functools.cache
def plan(project: Project, *arguments: str) -> str:
    """What a dry run says; equal arguments in a project that stays as it is plan once."""
    run = project.snakemake("-n", *arguments)
    assert run.returncode == 0, run.stdout[-3000:]
    return run.stdout


def copy_to(folder: Path) -> Project:
    """Copy what git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith(("tests/", "benchmarks/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return Project(folder)


def run_tiny(folder: Path) -> str:
    """Run the workflow and its report; empty text, or the end of what went wrong."""
    made = copy_to(folder)
    for arguments in (["--cores", "2"], ["--cores", "1", "--report", "results/report.html"]):
        run = made.snakemake(*TINY, *arguments)
        if run.returncode:
            return run.stdout[-6000:]
    return ""


if __name__ == "__main__":
    shared = Path(sys.argv[1])
    (shared / "message").write_text(run_tiny(shared / "project"))
