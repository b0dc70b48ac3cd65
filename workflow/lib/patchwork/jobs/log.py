"""A job's own log: logging, warnings and the traceback go to its file and to standard error."""

import errno
import io
import logging
import re
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, TypeVar

from patchwork.jobs import lock
from patchwork.jobs.starts import hardware

LOGGER = logging.getLogger("patchwork")
Part = TypeVar("Part", bound=Sized)


# What a disk says that is full, read-only, another's or broken.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


@contextmanager
def job_log(path: str | Path) -> Iterator[None]:
    """Send logging, warnings and an escaping exception to a file and to standard error.

    A ``ValueError`` (bad input) and a disk that cannot be written are shown as one line; any other
    exception with its traceback. The file holds the traceback in each case, and at its end what
    the process has used. A workflow does not start anew before the job ends, see `lock`.

    Args:
        path: the log file; its folder is made when missing.

    Raises:
        SystemExit: with status 1 in place of these, after the line was written.
        BaseException: any other exception, unchanged.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        raw = _Lossy(path, "w")
    except OSError as error:
        raise SystemExit(f"error: {_disk_line(error)}") from None
    with io.TextIOWrapper(raw, encoding="utf-8", line_buffering=True) as file, lock.job():
        handlers = [_handler(file), _handler(sys.stderr)]
        for handler in handlers:
            LOGGER.addHandler(handler)
        LOGGER.setLevel(logging.INFO)
        previous, began = warnings.showwarning, time.monotonic()
        warnings.showwarning = _log_warning
        try:
            yield
        except (ValueError, OSError) as error:
            file.write(traceback.format_exc())
            line = " ".join(str(error).split())
            if not isinstance(error, ValueError):
                if not _of_disk(error):
                    raise
                line = _disk_line(error)
            LOGGER.error("error: %s", line)
            raise SystemExit(1) from None
        except BaseException:
            file.write(traceback.format_exc())
            raise
        finally:
            used = [
                resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
            ]
            cpu = sum(one.ru_utime + one.ru_stime for one in used)
            memory = max(one.ru_maxrss for one in used) / 1024
            seconds = time.monotonic() - began
            file.write(f"{seconds:.1f} s, {cpu:.1f} s of CPU, {memory:.0f} MiB at most\n")
            file.write(f"on {hardware()}\n")
            warnings.showwarning = previous
            for handler in handlers:
                LOGGER.removeHandler(handler)


class _Lossy(io.FileIO):
    """A file that takes what fits: a full disk must not hide what a job has to say of it."""

    def write(self, data: Any) -> int:
        """Writes the data, or drops it."""
        with suppress(OSError):
            super().write(data)
        return len(data)


def _of_disk(error: BaseException | None) -> bool:
    """Whether a disk is at fault, seen also through errors raised from its own."""
    while error is not None:
        # Libraries in Rust say the number in words.
        said = re.search(r"\(os error (\d+)\)", str(error))
        if {getattr(error, "errno", None), int(said[1]) if said else None} & _DISK:
            return True
        error = error.__cause__
    return False


def _disk_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{text}; make room, or make the folder writable, then run again: what is done stays"


def _handler(stream: TextIO) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    return handler


def _log_warning(
    message: Any, category: type, filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    LOGGER.warning("%s: %s (%s:%d)", category.__name__, message, Path(filename).name, lineno)


class Progress:
    """A line with the share done and the time left, at most once in ``every_s`` seconds."""

    def __init__(self, name: str, total: int, *, done: int = 0, every_s: float = 15.0) -> None:
        self.name, self.total, self.every_s = name, total, every_s
        self.first, self.started = done, time.monotonic()
        self.last = self.started

    def step(self, done: int, text: str = "") -> None:
        """Report that ``done`` of ``total`` steps are finished; the last step is always shown."""
        now = time.monotonic()
        if done < self.total and now - self.last < self.every_s:
            return
        self.last = now
        fresh = max(done - self.first, 1)
        left = (now - self.started) / fresh * (self.total - done)
        share = 100 * done / max(self.total, 1)
        LOGGER.info(
            "%s: %d/%d (%.0f %%), %.0f s left%s",
            *(self.name, done, self.total, share, left, f", {text}" if text else ""),
        )


def counted(name: str, parts: Iterable[Part], total: int) -> Iterator[Part]:
    """The same parts one by one, with a line of progress now and then.

    Args:
        name: what is counted.
        parts: each holds as many as its length.
        total: how many all parts hold together.
    """
    progress, done = Progress(name, total), 0
    for part in parts:
        yield part
        done += len(part)
        progress.step(done)
