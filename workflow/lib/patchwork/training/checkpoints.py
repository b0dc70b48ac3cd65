"""Checkpoints of a training, written whole or not at all, read without unpickling.

The one before the last is kept: a damaged file costs the steps between them, not the training.
"""

import json
import os
import signal
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

from patchwork.data.tensors import read_tensors, write_tensors
from patchwork.jobs.log import LOGGER
from patchwork.jobs.provenance import from_metadata

_NAME, _BEFORE = "checkpoint.safetensors", "checkpoint-before.safetensors"
_CHECKSUM = "crc32"


def write(folder: Path, tensors: dict[str, Tensor], record: dict[str, object]) -> None:
    """Write the folder's checkpoint; the last one becomes the one before.

    Args:
        folder: made when missing.
        tensors: parameters, optimiser moments, logs.
        record: JSON-able state: step, schedule, early stopping.
    """
    path = folder / _NAME
    if path.exists():
        os.replace(path, folder / _BEFORE)
    write_tensors(tensors, {**record, _CHECKSUM: _checksum(tensors, record)}, path)


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, object]] | None:
    """The folder's last checkpoint that is whole, or None if it has none.

    A damaged one is set aside, with a line in the log that says so.
    """
    for path in (folder / _NAME, folder / _BEFORE):
        if not path.exists():
            continue
        try:
            return _checked(path)
        except ValueError as error:
            with suppress(FileNotFoundError):  # another process of this training did it
                os.replace(path, path.with_suffix(".damaged"))
            older = path.name == _NAME and (folder / _BEFORE).exists()
            then = "the checkpoint before it is taken" if older else "training starts anew"
            LOGGER.warning("%s: %s", error, then)
    return None


def _checked(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    tensors, metadata = read_tensors(path)
    try:
        record = from_metadata(metadata)
        whole = record.pop(_CHECKSUM) == _checksum(tensors, record)
    except (ValueError, KeyError):
        whole = False
    if not whole:
        raise ValueError(f"{path}: damaged: its contents do not have its checksum")
    return tensors, record


def _checksum(tensors: Mapping[str, Tensor], record: Mapping[str, object]) -> int:
    """Of names, bytes and record: safetensors itself sees only a file that is cut short."""
    found = zlib.crc32(json.dumps(record, sort_keys=True).encode())
    for name in sorted(tensors):
        plain = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        found = zlib.crc32(plain.numpy().data, zlib.crc32(name.encode(), found))
    return found


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and step counts of AdamW, named by position."""
    state = optimiser.state_dict()["state"]
    return {f"optimiser.{i}.{key}": value for i, one in state.items() for key, value in one.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimiser the moments that :func:`optimiser_tensors` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, i, key = name.split(".")
            state.setdefault(int(i), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


class StopRequest:
    """The signal to stop that came: SIGTERM, or SIGUSR1 before a cluster's time limit; else 0."""

    signal = 0


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turn SIGTERM and SIGUSR1 into a request that the loop fulfils after its checkpoint."""
    request = StopRequest()

    def note(number: int, _frame: object) -> None:
        request.signal = number

    kept = {}
    try:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            kept[number] = signal.signal(number, note)
    except ValueError:
        # Only the main thread may set handlers; elsewhere the time-based checkpoints remain.
        pass
    try:
        yield request
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
