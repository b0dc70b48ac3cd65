"""The project without results, and one run of the tiny scale for all tests."""

import fcntl
import os

import pytest
from projects import Project, copy_to, run_tiny


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Project:
    """The project without results; tests leave it as it was."""
    return copy_to(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Project:
    """The project after a run of the tiny scale, with its report; shared, so leave it as it is."""
    base = tmp_path_factory.getbasetemp()
    # Workers that run tests side by side share the parent of their folders.
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny_run"
    shared.mkdir(exist_ok=True)
    with open(shared / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        message = shared / "message"
        if not message.exists():
            message.write_text(run_tiny(shared / "project"))
    assert message.read_text() == "", message.read_text()
    return Project(shared / "project")
