"""One workflow at a time in a folder of results, and none beside jobs that outlived theirs.

The kernel drops a lock when its holder dies, so that after a kill or a power cut nothing is left to
be unlocked by hand. On file systems without locks (some of clusters) nothing is refused.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

WORKFLOW, JOBS = ".workflow.lock", ".jobs.lock"
# Where jobs find the folder of results.
VARIABLE = "PATCHWORK_RESULTS"


def workflow(results: Path, wait_s: float = 600.0) -> IO[str]:
    """Hold a folder of results for one workflow.

    Args:
        results: the folder; made if it is not there.
        wait_s: for jobs of a workflow that was killed, which still write.

    Returns:
        A file that holds the lock for as long as it is open.

    Raises:
        ValueError: one line, if another workflow or its jobs are at work there, or if the folder
            cannot be written.
    """
    try:
        results.mkdir(parents=True, exist_ok=True)
        held = (results / WORKFLOW).open("a+")
        jobs = (results / JOBS).open("a+")
    except OSError as error:
        raise ValueError(
            f"{results}: cannot be written ({error.strerror}); allowed is a folder that can: make "
            "room or RESULTS=<another folder>"
        ) from None
    if not _taken(held, fcntl.LOCK_EX):
        held.seek(0)
        raise ValueError(
            f"{results}: another workflow is at work there ({held.read().strip()}); wait for its "
            "end, or end it, or choose RESULTS=<another folder>"
        )
    held.truncate(0)
    held.write(f"process {os.getpid()} on {os.uname().nodename}")
    held.flush()
    with jobs:
        until, told = time.monotonic() + wait_s, False
        while not _taken(jobs, fcntl.LOCK_EX):
            if not told:
                print(f"{results}: waiting for jobs of a run that was killed", flush=True)
                told = True
            if time.monotonic() > until:
                raise ValueError(
                    f"{results}: jobs of a run that was killed still write there; wait for their "
                    "end or end them"
                )
            time.sleep(0.2)
    return held


@contextmanager
def job() -> Iterator[None]:
    """Take part in the folder of results as a job, if the environment names one."""
    folder = os.environ.get(VARIABLE)
    with ExitStack() as stack:
        if folder:
            with suppress(OSError):  # a job that is run alone needs no such folder
                _taken(stack.enter_context((Path(folder) / JOBS).open("a+")), fcntl.LOCK_SH)
        yield


def _taken(file: IO[str], kind: int) -> bool:
    """Whether a lock is had; where there are no locks, always."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
