"""What `make` shows of a run: ``snakemake --logger patchwork``.

In a terminal a bar per stage, what runs now, how long is left and the disk; elsewhere a line a
minute. Snakemake's own text and what jobs print go to Snakemake's log file.
"""

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

from snakemake_logger_plugin_patchwork import view
from snakemake_logger_plugin_patchwork.run import Job, Run, command_for, earlier_means

# Of Snakemake's messages without an event, those that tell a reader what it does instead of jobs.
_STOPPED = "Terminating processes"
_ENDINGS = (_STOPPED, "Will exit after")
_SHOWN = ("Building DAG", "Nothing to be done", "Trying to restart", *_ENDINGS)


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Options on the command line, each with the prefix ``--logger-patchwork-``."""

    results: Path = field(
        default=Path("results"), metadata={"help": "Folder whose size is shown.", "type": Path}
    )
    every: float = field(
        default=60.0,
        metadata={"help": "Seconds between two lines without a terminal.", "type": float},
    )


class LogHandler(LogHandlerBase):
    """The view of one run; its events arrive one after the other, in a thread of their own."""

    writes_to_stream = True
    writes_to_file = False
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        stream = sys.stdout if self.common_settings.stdout else sys.stderr
        # A copy: the original leads to the log file while jobs, which inherit it, run.
        self._terminal = os.fdopen(
            os.dup(stream.fileno()), "w", buffering=1, encoding=stream.encoding, errors="replace"
        )
        self._disk = view.Disk(getattr(self.settings, "results", Path("results")))
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._run: Run | None = None
        self._capacity: dict[str, int] = {}
        self._log: Path | None = None
        self._live: Any = None
        self._originals: list[int] = []
        self._errors: list[str] = []
        self._begun = 0.0
        self._ending = ""
        self._ticker: threading.Thread | None = None

    @property
    def has_filter(self) -> bool:
        """A dry run, and a run that is to be quiet, show what Snakemake shows without a plugin."""
        quiet = {one.name for one in self.common_settings.quiet or ()}
        return not self.common_settings.dryrun and "ALL" not in quiet

    def emit(self, record: logging.LogRecord) -> None:
        """Take up one event, and show what has to be shown at once."""
        try:
            if self.has_filter:
                self._take(record)
            elif text := self.format(record):
                self._say(text)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """End the view; leave the terminal as it was, with failed jobs and counts at its end."""
        if self._terminal.closed:
            return
        self._ended.set()
        if self._ticker is not None:
            self._ticker.join()
        if self._live is not None:
            self._live.stop()
            self._live = None
        for number, original in enumerate(self._originals, 1):
            os.dup2(original, number)
            os.close(original)
        if self._run is not None:
            self._end(self._run)
        self._terminal.close()
        super().close()

    def _take(self, record: logging.LogRecord) -> None:
        event, facts, run = getattr(record, "event", None), record.__dict__, self._run
        if event in (None, LogEvent.ERROR):
            self._message(record)
        elif event == LogEvent.RESOURCES_INFO:
            counted = {f"_{key}": facts[key] for key in ("cores", "nodes") if key in facts}
            self._capacity |= _amounts({**counted, **facts.get("provided_resources", {})})
        elif event == LogEvent.RUN_INFO and run is None:
            self._begin({rule: n for rule, n in facts["stats"].items() if rule != "total"})
        elif event == LogEvent.JOB_INFO and run is not None:
            with self._lock:
                run.start(facts["jobid"], _job(facts))
        elif event == LogEvent.JOB_FINISHED and run is not None:
            with self._lock:
                run.finish(facts["job_id"], time.monotonic())
        elif event == LogEvent.JOB_ERROR and run is not None:
            self._fail(run, facts)
        elif event == LogEvent.GROUP_ERROR and run is not None:
            for one in facts["job_error_info"]:
                self._fail(run, {**one, "log": [*one["log"], *facts["aux_logs"]]})

    def _message(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.ERROR and self._run is not None:
            # A failed job brings some too. They are shown if it was something else that failed.
            self._errors.append(text)
        elif record.levelno >= logging.WARNING or text.startswith(_SHOWN):
            if text != self._ending:  # said again at every event to the end
                self._say(text)
            self._ending = text if text.startswith(_ENDINGS) else self._ending

    def _begin(self, counts: Mapping[str, int]) -> None:
        """Show the run from here on; what jobs print goes to Snakemake's log file."""
        handlers = logging.getLogger("snakemake.logging").handlers
        files = [one.baseFilename for one in handlers if isinstance(one, logging.FileHandler)]
        if files:
            self._log = Path(os.path.relpath(files[0]))
            self._redirect(files[0])
        self._begun = time.monotonic()
        self._run = Run(counts, earlier_means(Path(".snakemake/metadata")), self._capacity)
        self._say(f"{self._run.total} jobs" + (f"; full text: {self._log}" if self._log else ""))
        if self._terminal.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            self._show(self._run)
        else:
            self._ticker = threading.Thread(target=self._lines, args=(self._run,), daemon=True)
            self._ticker.start()

    def _redirect(self, file: str) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._originals = [os.dup(1), os.dup(2)]
        target = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(target)

    def _show(self, run: Run) -> None:
        # Not at the head of the file: every call of Snakemake imports this module.
        from rich.console import Console, ConsoleDimensions
        from rich.live import Live

        console = Console(
            file=self._terminal, no_color=True if self.common_settings.nocolor else None
        )

        def draw() -> Any:
            columns, rows = (n or m for n, m in zip(
                os.get_terminal_size(self._terminal.fileno()), (80, 24), strict=True))  # fmt: skip
            # The console would measure the streams that now lead to the log file.
            console.size = ConsoleDimensions(columns, rows)
            with self._lock:
                return view.screen(run, time.monotonic(), self._begun, self._disk, columns, rows)

        self._live = Live(console=console, get_renderable=draw, refresh_per_second=2,
                          transient=True, redirect_stdout=False, redirect_stderr=False)  # fmt: skip
        self._live.start()

    def _lines(self, run: Run) -> None:
        while not self._ended.wait(getattr(self.settings, "every", 60.0)):
            with self._lock:
                text = view.line(run, time.monotonic(), self._disk)
            self._say(f"{time.strftime('%H:%M')} {text}")

    def _fail(self, run: Run, facts: Mapping[str, Any]) -> None:
        if self._ending.startswith(_STOPPED):  # by the user: no job fails by itself any more
            return
        started = run.running.get(facts["jobid"])
        # The event of an error has no wildcards; on a cluster it has more logs.
        job = replace(started, log=facts["log"]) if started else _job(facts)
        with self._lock:
            run.fail(facts["jobid"], job)
        self._say(f"failed: {view.name(job)}")

    def _end(self, run: Run) -> None:
        program = os.path.abspath(sys.argv[0])
        if program == shutil.which("snakemake"):
            program = "snakemake"
        elif Path(program).is_relative_to(Path.cwd()):
            program = os.path.relpath(program)
        commands = [command_for(job, program, sys.argv[1:]) for job in run.failed.values()]
        others = [] if self._ending else self._errors
        text = view.failures(run, commands) if run.failed else others
        text = [*text, *([""] if text else []), view.ending(run, time.monotonic() - self._begun)]
        for one in [*text, *([f"full text: {self._log}"] if self._log else [])]:
            self._say(one)

    def _say(self, text: str) -> None:
        if self._live is None:
            print(text, file=self._terminal, flush=True)
        else:
            from rich.text import Text

            self._live.console.print(Text(text), soft_wrap=True)


def _amounts(resources: Mapping[str, Any]) -> dict[str, int]:
    """Resources that are limited whole numbers, which Snakemake may have wrapped."""
    plain = {key: getattr(n, "value", n) for key, n in resources.items()}
    return {key: n for key, n in plain.items() if isinstance(n, int) and n < sys.maxsize}


def _job(facts: Mapping[str, Any]) -> Job:
    """A job from the event of its start or failure."""
    return Job(
        rule=facts["rule_name"],
        wildcards={key: str(value) for key, value in facts.get("wildcards", {}).items()},
        output=[str(path) for path in facts["output"]],
        log=[str(path) for path in facts["log"]],
        takes=_amounts(facts.get("resources", {})),
        started=time.monotonic(),
    )
