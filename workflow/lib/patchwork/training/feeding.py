"""Batches on the device that computes; for a GPU copied while the step before them runs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

Labels = Mapping[str, np.ndarray]
Fed = tuple[Tensor, dict[str, Tensor]]


def on_device(
    batches: Iterable[tuple[Tensor, Labels]],
    encode: Callable[[Labels], dict[str, Tensor]],
    device: torch.device,
) -> Iterator[Fed]:
    """Inputs and encoded labels of each batch on a device, in their order.

    For a GPU a thread draws and encodes the next batch and copies it from pinned memory on a stream
    of its own, so that neither reading nor copying holds up a step. A plain copy would wait for all
    the work that the GPU was given before.

    Args:
        batches: inputs with label columns.
        encode: from label columns to tensors.
        device: where they are wanted.
    """
    if device.type != "cuda":
        for inputs, labels in batches:
            yield inputs.to(device), {k: v.to(device) for k, v in encode(labels).items()}
        return
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
    drawn = iter(batches)

    def copied() -> tuple[Fed, torch.cuda.Event] | None:
        batch = next(drawn, None)
        if batch is None:
            return None
        inputs, encoded = batch[0], encode(batch[1])
        with torch.cuda.stream(stream):
            there = {name: _copied(value, device) for name, value in encoded.items()}
            return (_copied(inputs, device), there), stream.record_event()

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(copied)
        while (found := ahead.result()) is not None:
            ahead = pool.submit(copied)
            (inputs, encoded), arrived = found
            current = torch.cuda.current_stream(device)
            current.wait_event(arrived)
            for tensor in (inputs, *encoded.values()):
                # Else its memory would be handed out again before the step has read it.
                tensor.record_stream(current)
            yield inputs, encoded


def _copied(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True)


def numbers(values: Tensor) -> Callable[[], list[float]]:
    """Start to fetch a few numbers; the function that is returned waits for them alone.

    What the device was given after them goes on meanwhile.
    """
    values = values.double()
    if values.device.type != "cuda":
        return values.tolist
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    arrived = torch.cuda.current_stream(values.device).record_event()

    def fetch() -> list[float]:
        arrived.synchronize()
        return host.tolist()

    return fetch
