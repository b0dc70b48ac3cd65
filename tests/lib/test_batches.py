"""Memory of sweeps: freed blocks are handed out again."""

import ctypes
import os
import subprocess
import sys

import pytest

# Alone in its process: elsewhere, whatever was freed before decides what is mapped.
MAPPED = """
import ctypes
import torch
from patchwork.interventions import batches

class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo

def newly_mapped():
    before = mallinfo().hblks
    held.append(torch.empty(20 << 20, dtype=torch.uint8))
    return mallinfo().hblks - before

held = []
print(newly_mapped())
batches.keep_blocks()
print(newly_mapped())
"""


@pytest.mark.slow  # three processes that import torch
def test_blocks_of_a_sweep_are_not_mapped_one_by_one():
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("another allocator than glibc's")
    unset = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    run = subprocess.run(
        [sys.executable, "-c", MAPPED], env=unset, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["1", "0"]
