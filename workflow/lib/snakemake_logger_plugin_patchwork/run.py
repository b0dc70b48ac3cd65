"""A run as its events tell it: which jobs wait, run, are done or failed, and how long is left."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# By convention the rule that only collects: it takes no time.
_TARGET = "all"
# An earlier run's mean weighs as much as two jobs of this run: enough against a first job that is
# not typical, too little to hide that this run is larger or slower.
_EARLIER_JOBS = 2
# Until a job of a stage has started, it is taken to need this.
_LEAST = {"_cores": 1, "_nodes": 1}
_ONE, _MANY = 1, 2
# Options without which the same command would make something else, and how many values they take.
_KEPT_OPTIONS = {
    **dict.fromkeys(("-s", "--snakefile", "-d", "--directory"), _ONE),
    **dict.fromkeys(("--profile", "--workflow-profile"), _ONE),
    **dict.fromkeys(("--configfile", "--configfiles", "-C", "--config"), _MANY),
    **dict.fromkeys(("--resources", "--res", "--set-resources", "--set-scatter"), _MANY),
}


@dataclass(frozen=True)
class Job:
    """A job that has started.

    Attributes:
        rule: its rule, the stage that it belongs to.
        wildcards: their values by name.
        output: paths.
        log: paths.
        takes: amounts of resources that it takes, by Snakemake's names.
        started: seconds on the caller's clock.
    """

    rule: str
    wildcards: Mapping[str, str] = field(default_factory=dict)
    output: Sequence[str] = ()
    log: Sequence[str] = ()
    takes: Mapping[str, float] = field(default_factory=lambda: _LEAST)
    started: float = 0.0


@dataclass
class Stage:
    """Jobs of one rule.

    Attributes:
        total: jobs in this run.
        done: jobs that have ended well.
        failed: jobs that have failed.
        seconds: what jobs that have ended well took together.
        takes: resources of its last started job.
        begun: place among the stages in the order of their first jobs; infinite before that.
    """

    total: int
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    takes: Mapping[str, float] = field(default_factory=lambda: _LEAST)
    begun: float = math.inf


class Run:
    """All stages of a run.

    Args:
        counts: jobs of each rule.
        earlier: mean seconds of a job of each rule in earlier runs.
        capacity: amounts of resources that jobs which run at once may take together, by
            Snakemake's names; without it everything may run at once.
    """

    def __init__(
        self,
        counts: Mapping[str, int],
        earlier: Mapping[str, float] | None = None,
        capacity: Mapping[str, float] | None = None,
    ) -> None:
        self.stages = {rule: Stage(n) for rule, n in counts.items()}
        self.running: dict[int, Job] = {}
        self.failed: dict[int, Job] = {}
        self.earlier = {_TARGET: 0.0, **(earlier or {})}
        self.capacity = {name: n for name, n in (capacity or {}).items() if n}

    def start(self, number: int, job: Job) -> None:
        """A job has started, perhaps once more after it failed."""
        stage = self.stages.setdefault(job.rule, Stage(0))
        if number in self.failed:
            del self.failed[number]
            stage.failed -= 1
        if math.isinf(stage.begun):
            stage.begun = sum(math.isfinite(other.begun) for other in self.stages.values())
        self.running[number] = job
        stage.takes = job.takes
        here = stage.done + stage.failed + len(self._running(job.rule))
        stage.total = max(stage.total, here)

    def finish(self, number: int, now: float) -> None:
        """A job has ended well; a job that never started is not counted."""
        job = self.running.pop(number, None)
        if job is not None:
            self.stages[job.rule].done += 1
            self.stages[job.rule].seconds += now - job.started

    def fail(self, number: int, job: Job) -> None:
        """A job has failed."""
        self.running.pop(number, None)
        if number not in self.failed:
            self.stages.setdefault(job.rule, Stage(1)).failed += 1
        self.failed[number] = job

    @property
    def done(self) -> int:
        """Jobs that have ended well."""
        return sum(stage.done for stage in self.stages.values())

    @property
    def total(self) -> int:
        """All jobs of the run."""
        return sum(stage.total for stage in self.stages.values())

    def waiting(self, rule: str) -> int:
        """Jobs of a rule that have not started."""
        stage = self.stages[rule]
        return stage.total - stage.done - stage.failed - len(self._running(rule))

    def mean_s(self, rule: str) -> float | None:
        """Seconds that a job of a rule takes, from this run and earlier ones; None: never timed."""
        stage, before = self.stages[rule], self.earlier.get(rule)
        if before is None:
            return stage.seconds / stage.done if stage.done else None
        return (stage.seconds + _EARLIER_JOBS * before) / (stage.done + _EARLIER_JOBS)

    def left_s(self, now: float) -> tuple[float, bool] | None:
        """Seconds until the run ends, and whether every job that is left has been timed.

        The work that is left, spread over the scarcest resource, but not less than its longest job
        takes. How jobs wait for each other is not known here.

        Returns:
            None without a ground: no job that is left was timed, or all should have ended by now.
        """
        jobs = []
        for rule, stage in self.stages.items():
            mean = self.mean_s(rule)
            ages = [now - job.started for job in self._running(rule)]
            left = [None if mean is None else max(mean - age, 0.0) for age in ages]
            left += [mean] * self.waiting(rule)
            jobs += [(seconds, stage.takes) for seconds in left if rule != _TARGET]
        known = [(seconds, takes) for seconds, takes in jobs if seconds is not None]
        spread = (
            sum(seconds * min(takes.get(name, 0), n) for seconds, takes in known) / n
            for name, n in self.capacity.items()
        )
        rest = max((*spread, *(seconds for seconds, _ in known)), default=0.0)
        return (rest, len(known) == len(jobs)) if rest >= 1 else None

    def _running(self, rule: str) -> list[Job]:
        return [job for job in self.running.values() if job.rule == rule]


def earlier_means(metadata: Path) -> dict[str, float]:
    """Mean seconds of a job of each rule, from what Snakemake keeps about the files it made.

    Benchmark files would need a list of which belong to which rule. Records that cannot be read
    are left out: their format is Snakemake's own.

    Args:
        metadata: the folder ``.snakemake/metadata``; it need not exist.
    """
    times: dict[str, list[float]] = {}
    for path in metadata.rglob("*"):
        try:
            record = json.loads(path.read_bytes())
            seconds = float(record["endtime"]) - float(record["starttime"])
            times.setdefault(str(record["rule"]), []).append(max(seconds, 0.0))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {rule: sum(seconds) / len(seconds) for rule, seconds in times.items()}


def command_for(job: Job, program: str, arguments: Sequence[str]) -> str:
    """The command that runs a failed job again, with the configuration of the run it failed in.

    Args:
        job: one of its outputs, or its rule if it has none, becomes the target.
        program: how Snakemake was called.
        arguments: what Snakemake was called with, without the program.
    """
    kept: list[str] = []
    take = 0
    for argument in arguments:
        if argument.startswith("-"):
            name, has_value, _ = argument.partition("=")
            take = _KEPT_OPTIONS.get(name, 0)
            kept += [argument] if take else []
            take -= bool(has_value and take == _ONE)
        elif take:
            kept.append(argument)
            take -= take == _ONE
    target = job.output[0] if job.output else job.rule
    return shlex.join([program, *kept, "--cores", "1", target])
