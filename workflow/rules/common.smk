# What the stages share: runs, conditions, and paths made from them.
import os
import sys
import tempfile

SCRIPTS = Path(workflow.basedir) / "workflow/scripts"
# For the jobs: glibc would give memory back after each step and map it anew for the next, which
# takes a tenth of a training step and of importing torch. Other C libraries do not look here.
KEPT = "mmap_threshold=33554432 trim_threshold=4294967296 hugetlb=1"
os.environ.setdefault(
    "GLIBC_TUNABLES", ":".join(f"glibc.malloc.{one}" for one in KEPT.split())
)

from patchwork.jobs import lock, preload, settings, starts
from patchwork.jobs.provenance import code_digest

RESULTS = Path(config.get("pathvars", {}).get("results", "results"))
# Every job, here or on a cluster, takes part in the lock of this folder.
os.environ[lock.VARIABLE] = str(RESULTS.resolve())


def hold_results() -> None:
    """Stops, in one line, if another workflow is at work in this folder, or if it has no room."""
    global HELD  # locked for as long as this process lives
    try:
        HELD = lock.workflow(RESULTS)
        # Python would go on elsewhere, but Snakemake's scheduler writes where TMPDIR says.
        with tempfile.TemporaryFile(dir=os.environ.get("TMPDIR")) as file:
            file.write(bytes(2**20))
    except OSError as error:
        raise ConfigurationError(
            f"folder of temporary files: {error.strerror}; make room in it, or set TMPDIR to another"
        ) from None
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def start_jobs_without_limit() -> None:
    """Lifts the limit of jobs that start in a second, except on a cluster.

    Under Snakemake's default limit every finished job leaves a timer that has the scheduler look
    again each second to the end: 8 minutes of CPU in a run of 22.
    """
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


# With fewer jobs to run than this, each imports its libraries itself.
FEW_JOBS = 8


def share_imports() -> None:
    """Runs the scripts of this machine in copies of one process that has imported the libraries."""
    n_jobs = sum(1 for _ in workflow.dag.needrun_jobs())
    if workflow.local_exec and n_jobs >= FEW_JOBS and hasattr(os, "pidfd_open"):
        global SERVER  # its standard input stays open as long as this process lives
        try:
            python, SERVER = preload.start(tempfile.mkdtemp(prefix="patchwork-"))
        except OSError as error:
            print(
                f"no folder for temporary files ({error.strerror}): jobs start slower",
                file=sys.stderr,
            )
            return
        sys.executable = str(python)


def record_start() -> None:
    """Adds when, from which commit and on which machine the run begins, and what it is to make."""
    seeds = {name: config["studies"][name]["seeds"] for name in config["run"]}
    starts.record(Path(workflow.basedir), RESULTS, seeds)
    jobs = [
        {
            "rule": job.rule.name,
            "script": str(job.rule.script),
            "code": job.params.code,
            "log": str(job.log[0]),
            "inputs": [str(one) for one in job.input],
            "outputs": [str(one) for one in job.output],
        }
        for job in workflow.dag.needrun_jobs()
        if "code" in job.params.keys()
    ]
    starts.record_jobs(RESULTS, jobs, config)


def code_of(script: str) -> str:
    """Digest of a script and of the library's modules that it imports."""
    return code_digest(SCRIPTS / script)


def megabytes(n: int):
    """Resources function: `n` MB of memory, twice that on the second try after a job that failed."""
    return lambda wildcards, attempt: n * attempt


def study_of(wildcards) -> dict:
    """The configuration of a job's study."""
    return config["studies"][wildcards.study]


def from_config(keys: str):
    """Params function: one value of the configuration, such as `studies/{study}/analyses`.

    Snakemake's `lookup` walks through the whole configuration for every value of every job.
    """

    def value(wildcards):
        found = config
        for key in keys.format(**dict(wildcards.items())).split("/"):
            found = found[key]
        return found

    return value


def of_study(function, *names: str):
    """Params function: what `function` finds in a study, given the values of these wildcards."""
    return lambda wildcards: function(
        study_of(wildcards), *(getattr(wildcards, name) for name in names)
    )


def planted_effects(wildcards) -> dict[str, dict]:
    """Params function: the positive controls of a study, by quantity."""
    claims = [
        one for one in config["claims"].values() if one["study"] == wildcards.study
    ]
    return settings.planted(study_of(wildcards), claims)


# Params function: repetitions of a study.
seeds = from_config("studies/{study}/seeds")


def conditions(part: str | None = None):
    """Params function: every condition of a study, or of a part of its interventions."""
    return lambda wildcards: settings.conditions(study_of(wildcards), part)


def runs(part: str | None = None):
    """Params function: every run of a study, or of a part of its interventions."""
    return lambda wildcards: settings.runs(study_of(wildcards), part)


def path(pattern: str, wildcards, **values) -> str:
    """A path from path variables such as <results>, a job's wildcards and further values.

    Snakemake fills patterns by itself wherever a job's wildcards are enough.
    """
    return workflow.pathvars.apply(pattern).format(**(dict(wildcards.items()) | values))


def path_of(pattern: str):
    """Params function: a path that is neither input nor output, such as that of checkpoints."""
    return lambda wildcards: path(pattern, wildcards)


def for_each(rows, pattern: str):
    """Input function: one file for each row of wildcards that `rows` gives, in their order."""
    return lambda wildcards: [
        path(pattern, wildcards, **row) for row in rows(wildcards)
    ]


def in_report(file: str, name: str, caption: str = "figure", category: str = "{study}"):
    """Output that the report shows under this name, with a caption of workflow/report."""
    caption = f"../report/{caption}.rst"
    return report(file, caption=caption, category=category, labels={"figure": name})


wildcard_constraints:
    study="[a-z][a-z0-9_]*",
    dataset="[a-z][a-z0-9_]*",
    backbone="[a-z][a-z0-9_]*",
    protocol="[a-z][a-z0-9_]*",
    split="train|validation|test",
    seed=r"\d+",
    recording="[A-Za-z0-9][A-Za-z0-9_-]*",


settings.leave_out(config)
check_configuration()
settings.share_seeds(config)
