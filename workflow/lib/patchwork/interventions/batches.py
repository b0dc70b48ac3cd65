"""Feeding a model piece by piece: batches of any sliceable or iterable input, sized to memory."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Batch = Tensor | dict[str, Tensor]

# Row numbers of the examples that the library runs the model on; None in a run of the user's own.
_ROWS: ContextVar[Tensor | None] = ContextVar("rows", default=None)


def parameter_of(model: nn.Module) -> Tensor:
    """A parameter of the model, for its device and floating type."""
    return next(p for p in model.parameters() if p.is_floating_point())


def free_bytes(device: torch.device) -> int:
    """Memory that a new allocation can use on a device, in bytes."""
    if device.type == "cuda":
        # What torch keeps of freed blocks is not free to others, but to a new allocation.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def keep_blocks() -> None:
    """Let the C library hand freed blocks out again instead of mapping each anew.

    glibc sets its limits by the largest mapped block, of at most 32 MiB, that was ever freed. From
    its own start it gave a sweep's memory back after every layer, and mapping it again cost about
    a tenth of the first sweep of a process. The block here is never touched, so it costs nothing.
    """
    torch.empty((32 << 20) - (64 << 10), dtype=torch.uint8)


def batches(inputs: Any, chunk: int, model: nn.Module) -> Iterator[tuple[Tensor, Batch]]:
    """Cut inputs into pieces on the model's device.

    Args:
        inputs: a tensor, array or open HDF5 dataset of n examples along its first axis; a mapping
            of such (the model is then called with keywords); or an iterable of batches, which are
            passed on as they come.
        chunk: examples a piece, at least 1.
        model: whose device and floating type the pieces get.

    Yields:
        Row numbers of the piece, int64 (m,), and the piece.

    Raises:
        ValueError: if chunk < 1 or the members of a mapping differ in length.
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; allowed is at least 1")
    like, start = parameter_of(model), 0
    for piece in _pieces(inputs, chunk):
        batch = to_model(piece, like)
        rows = torch.arange(start, start + n_rows(batch), device=like.device)
        start += len(rows)
        yield rows, batch


def _pieces(inputs: Any, chunk: int) -> Iterator[Any]:
    if isinstance(inputs, Mapping):
        n = n_rows(inputs)
        for i in range(0, n, chunk):
            yield {name: value[i : i + chunk] for name, value in inputs.items()}
    elif hasattr(inputs, "shape"):
        for i in range(0, inputs.shape[0], chunk):
            yield inputs[i : i + chunk]
    else:
        yield from inputs


def n_rows(inputs: Any) -> int:
    """Number of examples in a batch.

    Raises:
        ValueError: if the members of a mapping differ in length or have none.
    """
    if not isinstance(inputs, Mapping):
        return inputs.shape[0]
    single = [name for name, value in inputs.items() if not getattr(value, "shape", ())]
    if single:
        raise ValueError(
            f"inputs: {single[0]} is no array with one row for each example; allowed is such, or a "
            "module of your own that hands it to the model"
        )
    lengths = {name: value.shape[0] for name, value in inputs.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"inputs: lengths {lengths}; allowed is one length for all")
    return next(iter(lengths.values()))


def first_rows(inputs: Any, n: int) -> Any:
    """The first n examples of a batch or of sliceable inputs."""
    if isinstance(inputs, Mapping):
        return {name: value[:n] for name, value in inputs.items()}
    return inputs[:n]


def to_model(piece: Any, like: Tensor) -> Batch:
    """Move one batch to the device of `like`; floating numbers take its type, integers stay."""
    if isinstance(piece, Mapping):
        return {name: _tensor(value, like) for name, value in piece.items()}
    return _tensor(piece, like)


def _tensor(value: Any, like: Tensor) -> Tensor:
    if isinstance(value, tuple | list) and any(hasattr(part, "shape") for part in value):
        raise ValueError(
            f"inputs: a batch is a {type(value).__name__} of {len(value)}; allowed is a tensor, "
            "an array or a mapping (of a loader of pairs: [x for x, y in loader])"
        )
    tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.asarray(value))
    return tensor.to(like.device, like.dtype if tensor.is_floating_point() else None)


def call(model: nn.Module, batch: Batch, rows: Tensor | None = None) -> Any:
    """Call the model with one batch: a mapping as keywords, anything else as the one argument.

    Args:
        model: any.
        batch: m examples.
        rows: their numbers, int64 (m,), which the edits of enclosing blocks are told; None counts
            from 0.
    """
    if rows is None:
        first = next(iter(batch.values())) if isinstance(batch, Mapping) else batch
        rows = torch.arange(len(first))
    token = _ROWS.set(rows)
    try:
        with eager(model):
            return model(**batch) if isinstance(batch, Mapping) else model(batch)
    finally:
        _ROWS.reset(token)


def eager(model: nn.Module) -> AbstractContextManager[Any]:
    """Run `torch.compile`d parts as they were written: compiled code skips hooks or keeps them."""
    if any(
        type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None
        for module in model.modules()
    ):
        return torch.compiler.set_stance("force_eager")
    return nullcontext()


def given_rows() -> Tensor | None:
    """Row numbers that `call` was given, within a run of the library's own; else None."""
    return _ROWS.get()


def rewindable(inputs: Iterable | None, name: str) -> None:
    """Refuse inputs that can be read only once.

    Raises:
        ValueError: if `inputs` is an iterator.
    """
    if isinstance(inputs, Iterator):
        raise ValueError(f"{name} is a one-pass iterator; allowed is an array, tensor or list")
