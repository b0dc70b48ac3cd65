"""One workflow in a folder of results; nothing to unlock after a kill."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from patchwork.jobs import lock
from patchwork.jobs.log import job_log

CONTEXT = multiprocessing.get_context("fork")


def hold(folder, begun):
    held = lock.workflow(folder)
    begun.set()
    time.sleep(60)
    held.close()


def work(path, begun, seconds):
    with job_log(path):
        begun.set()
        time.sleep(seconds)


def started(target, *arguments):
    begun = CONTEXT.Event()
    process = CONTEXT.Process(target=target, args=(arguments[0], begun, *arguments[1:]))
    process.start()
    assert begun.wait(10)
    return process


def test_a_second_workflow_is_refused_and_a_killed_one_leaves_nothing(tmp_path):
    first = started(hold, tmp_path)
    with pytest.raises(
        ValueError, match=rf"another workflow is .*process {first.pid} on .*RESULTS="
    ):
        lock.workflow(tmp_path)
    other = lock.workflow(tmp_path / "other")
    other.close()
    first.kill()
    first.join()
    lock.workflow(tmp_path).close()


def test_a_workflow_waits_for_jobs_that_outlived_another(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(lock.VARIABLE, str(tmp_path))
    job = started(work, tmp_path / "job.log", 1.0)
    began = time.monotonic()
    with pytest.raises(ValueError, match="jobs of a run that was killed still write there"):
        lock.workflow(tmp_path, wait_s=0.1)
    lock.workflow(tmp_path).close()
    assert time.monotonic() - began > 0.5
    assert capsys.readouterr().out.count("waiting for jobs") == 2
    job.join()
    job = started(work, tmp_path / "job.log", 60)
    os.kill(job.pid, signal.SIGKILL)
    job.join()
    lock.workflow(tmp_path, wait_s=0).close()


def test_jobs_run_beside_each_other_and_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(lock.VARIABLE, str(tmp_path))
    held = lock.workflow(tmp_path)
    with job_log(tmp_path / "a.log"), job_log(tmp_path / "b.log"):
        pass
    held.close()
    monkeypatch.setenv(lock.VARIABLE, str(tmp_path / "absent"))
    with job_log(tmp_path / "a.log"):
        pass


def test_a_folder_that_cannot_be_written_is_one_line():
    with pytest.raises(ValueError, match=r"/proc/results: cannot be written \(No such file"):
        lock.workflow(Path("/proc/results"))
