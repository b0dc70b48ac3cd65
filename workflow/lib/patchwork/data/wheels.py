"""Packages of the registry as archives: fetched by their hash, never installed, run or imported."""

import email
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from patchwork.jobs.provenance import check_sha256

# The registry answers or it does not; retries for minutes hide a missing network.
_ANSWER = ("--timeout", "10", "--retries", "1")


def fetch(package: Mapping[str, str], folder: Path) -> Path:
    """A package's wheel; a source archive would have to be run to be opened.

    Args:
        package: ``name``, ``version`` and ``sha256`` of its wheel.
        folder: where it is put.

    Raises:
        ValueError: in one line, if it cannot be had or is another one than was meant.
    """
    pin = folder / "package.txt"
    pin.write_text(
        f"{package['name']}=={package['version']} --hash=sha256:{package['sha256'].lower()}\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--only-binary", ":all:", "--require-hashes", *_ANSWER,
         "--dest", str(folder), "--requirement", str(pin)],
        capture_output=True, text=True,
    )  # fmt: skip
    wheels = sorted(folder.glob("*.whl"))
    if run.returncode or len(wheels) != 1:
        said = [line.strip() for line in run.stderr.splitlines() if line.strip()]
        reason = next((one for one in said if one.startswith("ERROR")), "no wheel came")
        raise ValueError(f"package {package['name']} {package['version']} cannot be had ({reason})")
    check_sha256(wheels[0], package["sha256"])
    return wheels[0]


def stated(archive: zipfile.ZipFile) -> dict[str, str]:
    """``licence`` and ``summary`` in the package's own metadata."""
    name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
    known = email.message_from_bytes(archive.read(name))
    licence = known.get("License-Expression") or known.get("License") or "not stated"
    return {"licence": licence, "summary": known.get("Summary", "")}
