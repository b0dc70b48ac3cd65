"""Number format of passes that need not be exact, and what a processor makes of it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

PRECISIONS = ("no", "bf16", "auto")


def resolve(precision: str, device: torch.device) -> str:
    """The precision that passes have on a device.

    Args:
        precision: ``no`` (fp32), ``bf16``, or ``auto``: bf16 where the device multiplies in it.
        device: where the network is.

    Raises:
        ValueError: for another word.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"mixed_precision is {precision!r}; allowed is {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    return "bf16" if _multiplies_in_bf16(device) else "no"


def _multiplies_in_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for it; emulated products are slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


@contextmanager
def suited_attention(network: nn.Module, precision: str) -> Iterator[None]:
    """Let attention avoid the fused kernel where that is slow: bf16 on a CPU.

    There its backward pass took half of a training step. The products one by one are the same
    function.

    Args:
        network: whose timm attention modules choose their kernel by an attribute.
        precision: as resolved.
    """
    slow = precision == "bf16" and next(network.parameters()).device.type == "cpu"
    modules: list[Any] = [m for m in network.modules() if slow and hasattr(m, "fused_attn")]
    before = [module.fused_attn for module in modules]
    try:
        for module in modules:
            module.fused_attn = False
        yield
    finally:
        for module, fused in zip(modules, before, strict=True):
            module.fused_attn = fused


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Let a GPU sum gradients in the same order each time, for as long as the context lasts.

    A resumed training could not end with the same bits otherwise: attention adds them up as they
    come. Products need ``CUBLAS_WORKSPACE_CONFIG`` for it, which a lease of a GPU sets.

    Args:
        device: where the training runs; a CPU has nothing to change.
    """
    if device.type != "cuda":
        yield
        return
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing here reads memory that was not written, so filling it first is time lost.
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filled


@contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Products in the precision, on any network; attention not fused where that is slow.

    Args:
        device: where the network is.
        precision: as resolved.
    """
    with ExitStack() as stack:
        if precision == "bf16":
            stack.enter_context(torch.autocast(device.type, torch.bfloat16))
            if device.type == "cpu":
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield
