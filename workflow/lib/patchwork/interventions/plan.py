"""How a sweep is to run, and whether its fast path applies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from patchwork.interventions.batches import Batch, call, free_bytes, parameter_of
from patchwork.interventions.tail import Metric, Readout, Tail
from patchwork.sites import Anatomy

PATHS = ("auto", "plain")
# A quarter of what is free leaves room for the model's own activations and for other jobs.
_SHARE_OF_FREE = 0.25
_CHUNK_LIMIT = {"cpu": 8}
_CHUNK_LIMIT_ELSEWHERE = 256


@dataclass(frozen=True)
class Plan:
    """How a sweep runs.

    Args:
        chunk: examples at once; None takes what a quarter of the free memory holds.
        tail: from a final residual stream (m, t or 1, d) to the model's output; None asks the
            model itself.
        path: `auto` takes the fast path where its conditions hold; `plain` never does.

    Raises:
        ValueError: for an unknown path or chunk < 1.
    """

    chunk: int | None = None
    tail: Tail | None = None
    path: str = "auto"

    def __post_init__(self) -> None:
        if self.path not in PATHS:
            raise ValueError(f"path is {self.path!r}; allowed is {', '.join(PATHS)}")
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk is {self.chunk}; allowed is at least 1")


def stream_budget(model: nn.Module) -> int:
    """Bytes that residual streams may take together."""
    return int(_SHARE_OF_FREE * free_bytes(parameter_of(model).device))


def pick_chunk(model: nn.Module, plan: Plan, bytes_each: int) -> int:
    """Examples at once, from the plan or from free memory; at least 1."""
    if plan.chunk is not None:
        return plan.chunk
    device = parameter_of(model).device
    most = _CHUNK_LIMIT.get(device.type, _CHUNK_LIMIT_ELSEWHERE)
    return max(1, min(most, stream_budget(model) // max(bytes_each, 1)))


def padded(inputs: Any) -> bool:
    """Whether a mapping of inputs masks any token."""
    return isinstance(inputs, Mapping) and not bool(
        torch.as_tensor(inputs.get("attention_mask", 1)).all()
    )


def why_plain(model: nn.Module, inputs: Any, plan: Plan) -> str | None:
    """The reason for the plain path that can be known beforehand, or None."""
    if plan.path == "plain":
        return "asked for"
    if padded(inputs):
        return "padded inputs: the fast path knows no attention mask"
    if getattr(getattr(model, "config", None), "reorder_and_upcast_attn", False):
        return "attention in another precision than the model's (reorder_and_upcast_attn)"
    return None


def clean_deviation(
    model: nn.Module, readout: Readout, batch: Batch, rows: Tensor, final: Tensor
) -> tuple[float, bool]:
    """Difference of the fast path's metric from the model's own, and if it is only rounding.

    Whatever a model's forward does outside its blocks, norm and head shows here; the first
    example of a sweep is enough for that.
    """
    one = {k: v[:1] for k, v in batch.items()} if isinstance(batch, dict) else batch[:1]
    own, fast = readout.metric(call(model, one), rows[:1]), readout(final[:1], rows[:1])
    deviation = float((own - fast).abs().max())
    allowed = 1e3 * torch.finfo(own.dtype).eps * (1 + float(own.abs().max()))
    return deviation, deviation <= allowed


def describe(path: str, reason: str | None, chunk: int, **more: Any) -> dict[str, Any]:
    """Metadata that every sweep gives."""
    return {"path": path, "reason": reason or "its conditions hold", "chunk": chunk, **more}


def make_readout(
    model: nn.Module, anatomy: Anatomy, metric: Metric, batch: Batch, plan: Plan
) -> Readout:
    """The read-out of a sweep."""
    return Readout(model, anatomy, metric, batch, plan.tail)
