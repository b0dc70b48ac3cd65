"""How a sweep is to run."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from patchwork.interventions.batches import free_bytes, parameter_of

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
        path: `auto` takes the fast path where its conditions hold; `plain` never does.

    Raises:
        ValueError: for an unknown path or chunk < 1.
    """

    chunk: int | None = None
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


def describe(path: str, reason: str | None, chunk: int, **more: Any) -> dict[str, Any]:
    """Metadata that every sweep gives."""
    return {"path": path, "reason": reason or "its conditions hold", "chunk": chunk, **more}
