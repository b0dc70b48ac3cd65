"""Which processor a job computes on, and the lease that keeps two jobs off one GPU."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch


@contextmanager
def lease(n_gpus: int, folder: Path | None = None) -> Iterator[str]:
    """Hold this number of GPUs alone for as long as the block runs.

    One lock file per device; the kernel drops the lock when the holder dies, so a killed job
    leaves nothing behind. A ``CUDA_VISIBLE_DEVICES`` set by a cluster is honoured unchanged.
    Call it before anything touches CUDA in this process.

    Args:
        n_gpus: GPUs wanted, >= 0.
        folder: where the lock files lie; a shared temporary folder by default.

    Yields:
        ``"cuda"`` or, for no GPU, ``"cpu"``.

    Raises:
        ValueError: if fewer GPUs are there or free.
    """
    if n_gpus == 0:
        yield "cpu"
        return
    # Read when CUDA starts: without it torch refuses to promise that a product gives equal bits.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The count through NVML leaves CUDA untouched, so that the mask below still has effect.
    present = torch.cuda.device_count()
    if present < n_gpus:
        raise ValueError(
            f"resources: gpu is {n_gpus}; this machine shows {present}: "
            "use profiles/default (CPU) or a machine with a GPU"
        )
    if os.environ.get("CUDA_VISIBLE_DEVICES"):
        yield "cuda"
        return
    with ExitStack() as stack:
        held = _lock_free(n_gpus, present, folder or _lock_folder(), stack)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, held))
        stack.callback(os.environ.pop, "CUDA_VISIBLE_DEVICES", None)
        yield "cuda"


def _lock_folder() -> Path:
    return Path(tempfile.gettempdir()) / "patchwork-gpu-leases"


def _lock_free(wanted: int, present: int, folder: Path, stack: ExitStack) -> list[int]:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        # Every user of the machine takes part, so each may add the locks that are missing.
        folder.chmod(0o777)
    held: list[int] = []
    for device in range(present):
        lock = os.open(folder / f"gpu{device}.lock", os.O_RDONLY | os.O_CREAT, 0o644)
        handle = stack.enter_context(os.fdopen(lock))
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        held.append(device)
        if len(held) == wanted:
            return held
    raise ValueError(
        f"resources: gpu is {wanted}; {len(held)} of {present} are free: lower --jobs or cap gpu "
        "in the profile"
    )
