"""Files damaged at random, each read in a process that may not write, call programs or grow."""

import multiprocessing
import os
import re
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CONTEXT = multiprocessing.get_context("fork")
MEMORY = 1 << 30  # bytes that reading may take beside what is there
DISK = 1 << 20  # bytes of a file that reading may write
SECONDS = 5  # of CPU for one file
# What reading has no business with, by the name of Python's audit event.
FORBIDDEN = {
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "subprocess.Popen",
    "pickle.find_class", "socket.connect", "socket.getaddrinfo", "ctypes.dlopen", "shutil.rmtree",
}  # fmt: skip


class ForbiddenError(BaseException):
    """Reading a file did what no reader may do; no handler of errors catches it."""


def flip(data: bytearray, rng: np.random.Generator) -> None:
    for place in rng.integers(len(data), size=rng.integers(1, 9)):
        data[place] ^= 1 << int(rng.integers(8))


def cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[rng.integers(len(data)) :]


def fill(data: bytearray, rng: np.random.Generator) -> None:
    first, n = rng.integers(len(data)), int(rng.integers(1, 33))
    kinds = [b"\0" * n, b"\xff" * n, b" " * n, rng.bytes(n)]
    data[first : first + n] = kinds[rng.integers(4)][: len(data) - first]


def take_out(data: bytearray, rng: np.random.Generator) -> None:
    first = rng.integers(len(data))
    del data[first : first + rng.integers(1, 65)]


def repeat(data: bytearray, rng: np.random.Generator) -> None:
    first = rng.integers(len(data))
    data[first:first] = data[first : first + rng.integers(1, 65)] * int(rng.integers(1, 9))


def swap(data: bytearray, rng: np.random.Generator) -> None:
    n = int(rng.choice([1, 4, 8, 16]))
    if len(data) >= 2 * n:
        one, other = (rng.integers(len(data) // n, size=2) * n).tolist()
        data[one : one + n], data[other : other + n] = (
            data[other : other + n], data[one : one + n],
        )  # fmt: skip


def number(data: bytearray, rng: np.random.Generator) -> None:
    """Another number where digits stand."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data[:65536]))
    if found:
        words = [b"0", b"-1", b"nan", b"1e9", b"99999999", b"4294967296", b"1" * 5000, b"", b"x"]
        place = found[rng.integers(len(found))]
        data[place.start() : place.end()] = words[rng.integers(len(words))]


WAYS = (flip, cut, fill, take_out, repeat, swap, number)


def damaged(content: bytes, rng: np.random.Generator, head: int) -> bytes:
    """One or two ways of damage; half of all cases only in the first `head` bytes."""
    front = bytearray(content)
    back = b""
    if rng.integers(2) and head < len(content):
        front, back = bytearray(content[:head]), content[head:]
    for _ in range(rng.integers(1, 3)):
        if front:
            WAYS[rng.integers(len(WAYS))](front, rng)
    return bytes(front) + back


@dataclass
class Tally:
    """What became of the files."""

    read: int = 0
    refused: int = 0
    wrong: tuple[str, ...] = ()


def fuzz(
    path: Path, read: Callable[[Path], object], n: int, *, head: int = 1024, named: str = ""
) -> Tally:
    """Damage a file in n ways and read each; the file is whole again afterwards.

    Args:
        path: a file that can be read.
        read: reads it, or raises a ValueError that names it.
        n: ways.
        head: bytes of its header.
        named: what a message must name; the file by default.
    """
    content, tally, first = path.read_bytes(), Tally(), 0
    read(path)  # what is imported late is there then
    while first < n and len(tally.wrong) < 20:
        queue = CONTEXT.SimpleQueue()
        child = CONTEXT.Process(
            target=_cases, args=(path, content, read, range(first, n), head, named, queue)
        )
        child.start()
        done = first
        while True:
            while child.is_alive() and queue.empty():
                child.join(0.02)
            if queue.empty():
                break
            case, outcome = queue.get()
            done = case + 1
            tally.read += outcome == "read"
            tally.refused += outcome == "refused"
            if outcome not in ("read", "refused"):
                tally.wrong += (f"case {case}: {outcome}",)
        child.join()
        if child.exitcode:
            tally.wrong += (f"case {done}: the process ended with {child.exitcode}",)
        first = done + (child.exitcode != 0)
    path.write_bytes(content)
    return tally


def case_of(path: Path, case: int, head: int = 1024) -> bytes:
    """The content of one case, to look at it again."""
    return damaged(path.read_bytes(), np.random.Generator(np.random.Philox(case)), head)


def _cases(path, content, read, cases, head, named, queue):
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.addaudithook(_watch)
    warnings.simplefilter("ignore")
    for case in cases:
        path.write_bytes(damaged(content, np.random.Generator(np.random.Philox(case)), head))
        resource.setrlimit(resource.RLIMIT_FSIZE, (DISK, resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            read(path)
            outcome = "read"
        except ValueError as error:
            text = str(error)
            outcome = "refused" if (named or path.name) in text else f"names no file: {text[:200]}"
        except (Exception, ForbiddenError) as error:
            outcome = f"{type(error).__name__}: {str(error)[:200]}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        queue.put((case, outcome))


def _watch(event: str, arguments: tuple) -> None:
    if event in FORBIDDEN:
        raise ForbiddenError(f"{event} {str(arguments)[:80]}")
