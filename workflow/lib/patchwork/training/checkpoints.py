"""Checkpoints of a training: one file, written whole or not at all, read without unpickling."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from patchwork.data.tensors import read_tensors, write_tensors
from patchwork.jobs.provenance import from_metadata

_NAME = "checkpoint.safetensors"


def write(folder: Path, tensors: dict[str, Tensor], record: dict[str, object]) -> None:
    """Replace the folder's checkpoint.

    Args:
        folder: made when missing.
        tensors: parameters, optimiser moments, logs.
        record: JSON-able state: step, schedule, early stopping.
    """
    write_tensors(tensors, record, folder / _NAME)


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, object]] | None:
    """The folder's checkpoint, or None if it has none.

    Raises:
        ValueError: if the file is damaged.
    """
    path = folder / _NAME
    if not path.exists():
        return None
    tensors, metadata = read_tensors(path)
    return tensors, from_metadata(metadata)


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
