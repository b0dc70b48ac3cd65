"""A run in words and, in a terminal, in bars."""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_logger_plugin_patchwork.run import Job, Run

if TYPE_CHECKING:
    from rich.console import Group

_DISK_EVERY_S = 60.0
_LOG_LINES = 10
_FULL_FAILURES = 3


class Disk:
    """Size of a folder and room on its disk, measured again after a minute.

    Args:
        folder: it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._measured, self._text = float("-inf"), ""

    def text(self) -> str:
        """Both as words."""
        if time.monotonic() - self._measured > _DISK_EVERY_S:
            used = sum(_bytes(Path(top, name)) for top, _, names in os.walk(self.folder)
                       for name in names)  # fmt: skip
            free = shutil.disk_usage(self.folder if self.folder.is_dir() else ".").free
            self._text = f"{self.folder} {size(used)}, {size(free)} free"
            self._measured = time.monotonic()
        return self._text


def duration(seconds: float) -> str:
    """Seconds as people say them: 40 s, 12 min, 3.2 h."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def size(n_bytes: float) -> str:
    """Bytes in decimal units, three digits: 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def last_lines(path: Path, n: int) -> list[str]:
    """The last lines of a text file that are not empty; none if it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 8192, 0))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-n:]


def name(job: Job) -> str:
    """Rule and wildcards of a job."""
    values = ", ".join(f"{key}={value}" for key, value in job.wildcards.items())
    return f"{job.rule} ({values})" if values else job.rule


def counts(run: Run, now: float) -> str:
    """How many jobs are done and have failed, and how long is left if there is a ground for it."""
    failed = f", {len(run.failed)} failed" if run.failed else ""
    left = run.left_s(now)
    known = f", {'about' if left[1] else 'at least'} {duration(left[0])} left" if left else ""
    return f"{run.done} of {run.total} jobs{failed}{known}"


def line(run: Run, now: float, disk: Disk) -> str:
    """A run as one line."""
    rules = [job.rule for job in run.running.values()]
    active = ", ".join(f"{rule} ({rules.count(rule)})" for rule in dict.fromkeys(rules))
    return f"{counts(run, now)}; now {active or 'nothing'}; {disk.text()}"


def failures(run: Run, commands: Sequence[str]) -> list[str]:
    """Every failed job: its name, the last lines of its log, the command that runs it again.

    From the fourth job on, the log is only named.

    Args:
        run: at its end.
        commands: one for each failed job.
    """
    text = []
    for i, (job, command) in enumerate(zip(run.failed.values(), commands, strict=True)):
        text += ["", f"failed: {name(job)}"]
        for log in job.log:
            shown = last_lines(Path(log), _LOG_LINES) if i < _FULL_FAILURES else []
            text += [f"  log: {log}", *(f"    {one}" for one in shown)]
        text.append(f"  run it again: {command}")
    return text


def ending(run: Run, seconds: float) -> str:
    """The last line on the jobs of a run."""
    if run.done == run.total:
        return f"{run.done} of {run.total} jobs done in {duration(seconds)}"
    failed = f"{len(run.failed)} failed, " if run.failed else ""
    others = run.total - run.done - len(run.failed)
    return f"{run.done} of {run.total} jobs done, {failed}{others} not done, in {duration(seconds)}"


def screen(run: Run, now: float, begun: float, disk: Disk, columns: int, rows: int) -> "Group":
    """A run as bars, one for each stage, as far as the terminal has room for them.

    What runs now and stages at work come first, then stages that wait, then those that are done.

    Args:
        run: at any time.
        now: seconds on the clock of the jobs.
        begun: when the run started, on the same clock.
        disk: what it says of the results.
        columns: of the terminal.
        rows: of the terminal.
    """
    # Not at the head of the file: every call of Snakemake imports this module.
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def text(words: str, style: str = "") -> Text:
        return Text(words, style, no_wrap=True, overflow="ellipsis")

    # A head of two lines, a title and two lines per running job, two lines of rest.
    room = rows - 6
    running = sorted(run.running.values(), key=lambda job: job.started)
    jobs = running[: max(room // 4, 1)]
    stages = {rule: stage for rule, stage in run.stages.items() if rule != "all"}

    def rank(rule: str) -> tuple[int, float]:
        working = any(job.rule == rule for job in running)
        return (0 if working else 1 if run.waiting(rule) else 2), stages[rule].begun

    shown = sorted(stages, key=rank)[: max(room - 2 * len(jobs) - 1, 1)]
    table = Table.grid(padding=(0, 1))
    for rule in sorted(shown, key=lambda rule: stages[rule].begun):
        stage = stages[rule]
        ended = stage.done + stage.failed
        style = "red" if stage.failed else "green"
        failed = f"{stage.failed} failed" if stage.failed else ""
        table.add_row(
            text(rule),
            ProgressBar(max(stage.total, 1), ended, width=max(columns - 52, 8),
                        complete_style=style, finished_style=style),
            text(f"{stage.done}/{stage.total}"),
            text(failed, "red"),
        )  # fmt: skip
    hidden = [rule for rule in stages if rule not in shown]
    n_done = sum(rank(rule)[0] == 2 for rule in hidden)
    rest = [f"{n} more stages {what}" for n, what in
            ((n_done, "done"), (len(hidden) - n_done, "to come")) if n]  # fmt: skip
    lines: list[Text | Table] = [
        text(f"{counts(run, now)}, {duration(now - begun)} so far", "bold"),
        text(disk.text()),
        table,
        *([text(", ".join(rest), "dim")] if rest else []),
    ]
    more = f" (the first {len(jobs)} of {len(running)})" if len(jobs) < len(running) else ""
    lines += [text(f"now{more}:", "bold")] if jobs else []
    for job in jobs:
        place = "/".join(job.wildcards.values())
        lines.append(text(f"  {job.rule} {place} for {duration(now - job.started)}"))
        said = [end for log in job.log for end in last_lines(Path(log), 1)]
        lines += [text(f"    {said[-1]}", "dim")] if said else []
    return Group(*lines)


def _bytes(path: Path) -> int:
    """Size of a file that may be gone by now."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0
