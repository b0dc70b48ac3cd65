"""The project without results, and one run of the tiny scale for all tests."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from projects import Project, copy_to


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Start the tiny run beside the other tests, and put the files that wait for it last.

    Files of this folder take longest, so the others of them come first: the last file of all runs
    while every other worker is idle.
    """
    waiting = {item.path for item in items if "tiny" in item.fixturenames}
    here = Path(__file__).parent
    items.sort(key=lambda item: (item.path in waiting, item.path.parent != here))
    if waiting and not config.option.collectonly:
        start_tiny(_shared(config._tmp_path_factory))


def pytest_sessionfinish(session, exitstatus):
    """Another worker may still wait for the run; after an interruption nobody does."""
    stopped = exitstatus > pytest.ExitCode.TESTS_FAILED or session.shouldfail or session.shouldstop
    for process in _STARTED:
        if stopped:
            process.terminate()
        process.wait()


_STARTED: list[subprocess.Popen] = []


def _shared(factory) -> Path:
    """One folder for all workers: they share the parent of their own folders."""
    base = factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny_run"
    shared.mkdir(exist_ok=True)
    return shared


def start_tiny(shared: Path) -> None:
    """Start the run in a process that holds the lock until it ends; one worker does."""
    with open(shared / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        if (shared / "message").exists():
            return
        command = [sys.executable, Path(__file__).with_name("projects.py"), shared]
        # The process inherits the open file and with it the lock.
        _STARTED.append(subprocess.Popen(command, pass_fds=[lock.fileno()]))


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Project:
    """The project without results; tests leave it as it was."""
    return copy_to(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Project:
    """The project after a run of the tiny scale, with its report; shared, so leave it as it is."""
    shared = _shared(tmp_path_factory)
    with open(shared / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    message = shared / "message"
    assert message.exists(), "the tiny run ended before its time"
    assert message.read_text() == "", message.read_text()
    return Project(shared / "project")
