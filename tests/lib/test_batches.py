"""Memory of sweeps: freed blocks are handed out again."""

import ctypes

import pytest
import torch
from patchwork.interventions import batches


class Mallinfo(ctypes.Structure):
    """What glibc's mallinfo2 returns."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        ]
    ]  # fmt: skip


def mapped_blocks():
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        pytest.skip("another allocator than glibc's")
    ask.restype = Mallinfo
    return ask().hblks


def test_blocks_of_a_sweep_are_not_mapped_one_by_one():
    batches.keep_blocks()
    before = mapped_blocks()
    block = torch.empty(20 << 20, dtype=torch.uint8)
    assert mapped_blocks() == before
    larger = torch.empty(40 << 20, dtype=torch.uint8)  # beyond any limit
    assert mapped_blocks() == before + 1
    del block, larger
