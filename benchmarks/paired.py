"""Alternating timings of several ways to the same numbers, with equality and operations."""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode


@dataclass
class Contender:
    """One way to a result: a function, its times and its last result."""

    name: str
    run: Callable[[], np.ndarray]
    seconds: list[float] = field(default_factory=list)
    result: np.ndarray | None = None


def machine() -> str:
    """The machine, in words."""
    model = platform.processor() or platform.machine()
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.split(":")[1].strip()
                break
    threads, cores = torch.get_num_threads(), os.cpu_count()
    return f"{model}, {threads} of {cores} cores used, torch {torch.__version__}"


def matrix_rate(size: int = 1536, repeats: int = 5) -> float:
    """Best measured fp32 matrix product of this machine now, in FLOP/s."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def alternate(contenders: list[Contender], rounds: int) -> None:
    """Run all contenders in turn, `rounds` times, in an order that turns round each time."""
    for i in range(rounds):
        for contender in contenders if i % 2 == 0 else contenders[::-1]:
            started = time.perf_counter()
            contender.result = contender.run()
            contender.seconds.append(time.perf_counter() - started)


def _packed_flops(x, *_, out_shape=None, **__) -> int:
    return 2 * math.prod(x) * out_shape[-1]


def operations(run: Callable[[], np.ndarray]) -> int:
    """Floating-point operations that torch counts in matrix products and attention."""
    packed = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    mapping = {packed: _packed_flops} if packed is not None else {}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        run()
    return counter.get_total_flops()


def report(title: str, ours: Contender, others: list[Contender], flops: dict[str, int]) -> None:
    """Print one table: ratio of paired times, deviation, operations, share of the matrix rate."""
    rate = matrix_rate()
    assert ours.result is not None
    print(f"\n## {title}\n{machine()}; matrix rate {rate / 1e9:.0f} GFLOP/s\n")
    print("| against | ratio (median of paired) | range | max deviation | GFLOP | share of rate |")
    print("|---|---|---|---|---|---|")
    for other in [*others, ours]:
        ratios = [b / a for a, b in zip(ours.seconds, other.seconds, strict=True)]
        deviation = (
            "-"
            if other.result is None or other.result.shape != ours.result.shape
            else (f"{np.abs(other.result - ours.result).max():.1e}")
        )
        count = flops.get(other.name)
        share = "-" if not count else f"{count / statistics.median(other.seconds) / rate:.2f}"
        shown = "-" if not count else f"{count / 1e9:.0f}"
        print(
            f"| {other.name} | {statistics.median(ratios):.2f} | "
            f"{min(ratios):.2f}-{max(ratios):.2f} | {deviation} | {shown} | {share} |",
            flush=True,
        )
