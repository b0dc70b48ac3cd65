import logging
import re
import warnings

import pytest
from patchwork.jobs import log
from patchwork.jobs.log import LOGGER, Progress, job_log


def run(path, error=None, text=None):
    with job_log(path):
        if text:
            LOGGER.info(text)
        if error:
            raise error


def test_bad_input_is_one_line_on_screen_and_a_traceback_in_the_file(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        run(tmp_path / "deep" / "job.log", ValueError("n is 0;\n  allowed is\tmore"))
    assert left.value.code == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.endswith("error: n is 0; allowed is more\n")
    kept = (tmp_path / "deep" / "job.log").read_text()
    assert "Traceback (most recent call last)" in kept
    assert "in run" in kept
    assert "error: n is 0; allowed is more" in kept


@pytest.mark.parametrize("error", [KeyError("lost"), KeyboardInterrupt(), SystemExit(143)])
def test_any_other_exception_leaves_unchanged_with_its_traceback(tmp_path, error):
    with pytest.raises(type(error)) as left:
        run(tmp_path / "job.log", error)
    assert left.value is error
    assert "Traceback" in (tmp_path / "job.log").read_text()


def test_messages_and_warnings_go_to_both_places(tmp_path, capsys):
    with job_log(tmp_path / "job.log"):
        LOGGER.info("half done")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = log._log_warning
            warnings.warn("odd shape", UserWarning, stacklevel=1)
    shown, kept = capsys.readouterr().err, (tmp_path / "job.log").read_text()
    for text in (shown, kept):
        assert re.search(r"^\d\d:\d\d:\d\d half done$", text, re.MULTILINE)
        assert "UserWarning: odd shape (test_joblog.py:" in text


def test_nothing_stays_behind(tmp_path, capsys):
    handlers, shower = list(LOGGER.handlers), warnings.showwarning
    run(tmp_path / "one.log", text="first")
    run(tmp_path / "two.log", text="second")
    assert LOGGER.handlers == handlers
    assert warnings.showwarning is shower
    assert "first" not in (tmp_path / "two.log").read_text()
    assert capsys.readouterr().err.count("second") == 1


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test turns."""
    now = [100.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    return now


def test_progress_shows_share_and_time_left_from_what_was_done_here(clock, caplog):
    caplog.set_level(logging.INFO, LOGGER.name)
    progress = Progress("training", 200, done=100, every_s=15)
    for done in range(101, 126):
        clock[0] += 2.0
        progress.step(done, f"loss {done}")
    lines = [record.getMessage() for record in caplog.records]
    # One line in 15 s; 8 steps in 16 s since the start here: 92 further ones take 184 s.
    assert lines == [
        "training: 108/200 (54 %), 184 s left, loss 108",
        "training: 116/200 (58 %), 168 s left, loss 116",
        "training: 124/200 (62 %), 152 s left, loss 124",
    ]


def test_the_last_step_is_always_shown(clock, caplog):
    caplog.set_level(logging.INFO, LOGGER.name)
    progress = Progress("drawing", 2)
    progress.step(1)
    clock[0] += 1.0
    progress.step(2)
    assert [record.getMessage() for record in caplog.records] == ["drawing: 2/2 (100 %), 0 s left"]
