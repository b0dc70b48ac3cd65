"""The view that `make` shows of a run, on a workflow of a few rules that do nothing."""

import json
import os
import pty
import random
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from rich.console import Console
from snakemake_logger_plugin_patchwork import view
from snakemake_logger_plugin_patchwork.run import Job, Run, command_for, earlier_means

SNAKEFILE = """
configfile: "config.yaml"
if config["stop"]:
    raise WorkflowError(config["stop"])
rule all:
    input: expand("results/sums/{k}.txt", k=range(3))
rule make_numbers:
    output: "results/numbers/{k}.txt"
    log: "results/logs/numbers/{k}.log"
    shell: "echo number {wildcards.k} comes | tee {log} >&2; sleep {config[sleep]}; touch {output}"
rule add:
    input: "results/numbers/{k}.txt"
    output: "results/sums/{k}.txt"
    log: "results/logs/sums/{k}.log"
    shell:
        "printf 'a line\\n\\nerror: no sum of {wildcards.k}\\n' > {log}; "
        "test {wildcards.k} != {config[bad]}; touch {output}"
"""
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going"]
VIEW = [*SNAKEMAKE, "--logger", "patchwork", "--logger-patchwork-every", "0.2"]
SLEEP = 1.0
COLOUR = r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7])[;m]"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def written(folder: Path, *, stop: str = "", sleep: float = SLEEP) -> Path:
    """The workflow in a folder."""
    (folder / "Snakefile").write_text(SNAKEFILE)
    config = {"bad": "none", "stop": stop, "sleep": sleep}
    (folder / "config.yaml").write_text(json.dumps(config))
    (folder / "bad.yaml").write_text("{bad: 1}")
    return folder


def environment(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"} | more


def run(folder: Path, *arguments: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*VIEW, *arguments], cwd=folder, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=120, **kwargs,
    )  # fmt: skip


def run_in_terminal(folder: Path, *arguments: str, stop_at: str = "", **more: str):
    """Run in a pseudo-terminal of 80 columns, perhaps interrupted when a text has appeared."""
    main, other = pty.openpty()
    os.set_blocking(main, False)
    termios.tcsetwinsize(other, (24, 80))
    process = subprocess.Popen(
        [*VIEW, *arguments], cwd=folder, env=environment(TERM="xterm-256color", **more),
        stdin=other, stdout=other, stderr=other, start_new_session=True,
    )  # fmt: skip
    os.close(other)
    text, deadline = "", time.monotonic() + 120
    while time.monotonic() < deadline:
        ready, _, _ = select.select([main], [], [], 0.2)
        try:
            text += os.read(main, 65536).decode() if ready else ""
        except OSError:  # the other end is closed
            break
        if stop_at and stop_at in text:
            os.killpg(process.pid, signal.SIGINT)
            stop_at = ""
    os.close(main)
    return process.wait(timeout=60), text


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    folder = written(tmp_path_factory.mktemp("toy"))
    return folder, run(folder, "--configfile", "bad.yaml")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = written(tmp_path_factory.mktemp("toy"))
    return folder, *run_in_terminal(folder)


def test_without_a_terminal_there_is_a_plain_line_now_and_then(failed):
    lines = failed[1].stdout.splitlines()
    plain = [line for line in lines if re.match(r"\d\d:\d\d \d of 7 jobs", line)]
    assert len(plain) >= 3
    assert any("; now make_numbers (2); results " in line for line in plain)
    assert all(re.search(r"results [\d.]+ k?B, [\d.]+ [GT]B free$", line) for line in plain)
    assert "\x1b" not in failed[1].stdout
    assert "rule make_numbers:" not in failed[1].stdout
    assert not any(line.startswith("number") for line in lines)


def test_a_failed_job_ends_with_its_name_log_and_command(failed):
    folder, ended = failed
    assert ended.returncode != 0
    lines = ended.stdout.splitlines()
    assert lines.count("failed: add (k=1)") == 2  # at once and at the end
    end = lines[len(lines) - lines[::-1].index("failed: add (k=1)") :]
    assert end[:3] == ["  log: results/logs/sums/1.log", "    a line", "    error: no sum of 1"]
    assert end[-2].startswith("5 of 7 jobs done, 1 failed, 1 not done, in ")
    command = shlex.split(end[3].removeprefix("  run it again: "))
    again = subprocess.run(
        [*SNAKEMAKE[:3], *command[1:]],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert "Error in rule add:" in again.stderr
    assert "k=1" in again.stderr


def test_the_full_text_lies_in_the_file_that_is_named(failed):
    folder, ended = failed
    named = re.findall(r"full text: (\S+)", ended.stdout)
    assert len(set(named)) == 1
    assert ended.stdout.splitlines()[-1] == f"full text: {named[0]}"
    text = (folder / named[0]).read_text()
    assert "rule make_numbers:" in text
    assert "Error in rule add:" in text
    assert sorted(re.findall(r"^number (\d) comes$", text, re.MULTILINE)) == ["0", "1", "2"]


def test_a_terminal_shows_a_bar_per_stage_and_what_runs(finished):
    _, code, text = finished
    assert code == 0
    plain = ESCAPES.sub("", text).replace("\r", "\n").splitlines()
    assert any(re.match(r"make_numbers [━╸╺]+ \d/3", line) for line in plain)
    assert any(re.match(r"add +[━╸╺]+ \d/3", line) for line in plain)
    assert any(re.match(r"  make_numbers \d for \d+ s", line) for line in plain)
    assert any(re.match(r"    number \d comes", line) for line in plain)
    assert max(map(len, plain)) <= 80
    assert re.search(r"7 of 7 jobs done in \d+ s", text)
    # What comes last is visible, and so is the cursor.
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)
    assert re.search(COLOUR, text)


def test_afterwards_there_is_nothing_to_do_and_a_dry_run_says_what_there_would_be(finished):
    folder, *_ = finished
    assert run(folder).stdout.splitlines()[-1].startswith("Nothing to be done")
    assert "rule make_numbers:" in run(folder, "-n", "--forceall").stdout


def test_an_interrupt_leaves_a_cursor_and_blames_no_job(tmp_path):
    toy = written(tmp_path, sleep=60)
    code, text = run_in_terminal(toy, stop_at="comes", NO_COLOR="1")
    assert code != 0
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)
    assert "failed" not in text
    assert "0 of 7 jobs done, 7 not done" in text
    assert not re.search(COLOUR, text)


def test_a_bad_configuration_is_one_line_in_full(tmp_path):
    long = "config/x.yaml: " + "many words " * 20 + "end"
    code, text = run_in_terminal(written(tmp_path, stop=long))
    assert code != 0
    assert long in text.splitlines()


def test_earlier_durations_are_those_of_snakemake(failed, tmp_path):
    metadata = tmp_path / "metadata"
    assert earlier_means(metadata) == {}
    shutil.copytree(failed[0] / ".snakemake/metadata", metadata)
    found = earlier_means(metadata)
    assert set(found) == {"make_numbers", "add"}
    assert found["make_numbers"] >= SLEEP
    (metadata / "other").write_text("not a record")
    (metadata / "more").write_text(json.dumps({"rule": "add", "endtime": None}))
    assert earlier_means(metadata) == found


def test_without_a_timed_job_nothing_is_said_of_the_time_left():
    fresh = Run({"a": 2, "all": 1}, capacity={"_cores": 2})
    fresh.start(0, Job("a"))
    assert fresh.left_s(5.0) is None
    assert view.counts(fresh, 5.0) == "0 of 3 jobs"


def test_the_time_left_follows_planted_durations():
    planned = Run({"a": 3, "b": 2, "all": 1}, {"b": 30.0}, {"_cores": 2, "gpu": 1})
    planned.start(0, Job("a", started=0.0))
    planned.finish(0, 10.0)
    # Two jobs of 10 s, two of 30 s, on two cores.
    assert planned.left_s(10.0) == (40.0, True)
    planned.start(1, Job("a", started=10.0))
    assert planned.left_s(14.0) == (38.0, True)
    planned.start(2, Job("a", started=14.0))
    for number in (1, 2):
        planned.finish(number, 20.0)
    # b takes the one GPU: one after the other. The first has run for 12 of 30 s.
    planned.start(3, Job("b", started=20.0, takes={"_cores": 1, "gpu": 1}))
    assert planned.left_s(32.0) == (48.0, True)
    # An earlier run counts as two jobs: (2 * 30 + 60) / 3.
    planned.finish(3, 80.0)
    assert planned.left_s(80.0) == (40.0, True)
    planned.start(4, Job("b", started=80.0))
    assert planned.left_s(500.0) is None  # longer than expected: it is not known how long


def test_a_stage_never_timed_makes_it_a_lower_bound():
    partly = Run({"a": 4, "b": 1}, {"a": 200.0}, {"_cores": 2})
    assert view.counts(partly, 0.0) == "0 of 5 jobs, at least 7 min left"


@pytest.mark.parametrize("seed", range(20))
def test_the_estimate_holds_for_jobs_that_do_not_wait_for_each_other(seed):
    draw = random.Random(seed)
    cores = draw.randint(1, 8)
    means = {f"rule{i}": draw.expovariate(0.1) for i in range(draw.randint(1, 6))}
    counts = {rule: draw.randint(1, 9) for rule in means}
    left, complete = Run(counts, means, {"_cores": cores}).left_s(0.0)
    free = [0.0] * cores
    for rule, n in counts.items():
        for _ in range(n):
            free[free.index(min(free))] += means[rule]
    assert complete
    # Graham 1966: a list schedule takes at most twice the larger of both bounds.
    assert left <= max(free) + 1e-9 <= 2 * left + 1e-8


def test_a_job_that_is_tried_again_does_not_stay_failed():
    retried = Run({"a": 1})
    retried.start(0, Job("a"))
    retried.fail(0, Job("a"))
    assert view.counts(retried, 0.0) == "0 of 1 jobs, 1 failed"
    retried.start(0, Job("a"))
    retried.finish(0, 2.0)
    assert view.ending(retried, 2.0) == "1 of 1 jobs done in 2 s"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("--cores 4 -k --logger patchwork", ""),
        ("--configfile a.yaml b.yaml --cores 4 target", "--configfile a.yaml b.yaml "),
        ("--configfile=a.yaml -- target", "--configfile=a.yaml "),
        ("-s other/Snakefile target", "-s other/Snakefile "),
        ("--config 'x={y: 1}' --set-scatter n=8 -q", "--config 'x={y: 1}' --set-scatter n=8 "),
        ("--workflow-profile profiles/gpu target", "--workflow-profile profiles/gpu "),
        ("--profile=profiles/slurm target", "--profile=profiles/slurm "),
    ],
)  # fmt: skip
def test_the_command_of_a_failed_job_keeps_the_configuration(given, kept):
    job = Job("a", output=["results/one file.csv", "other"])
    command = command_for(job, "snakemake", shlex.split(given))
    assert command == f"snakemake {kept}--cores 1 'results/one file.csv'"
    assert command_for(Job("a"), "snakemake", ()) == "snakemake --cores 1 a"


def test_many_failed_jobs_are_named_and_three_are_shown(tmp_path):
    log = tmp_path / "one.log"
    log.write_text("\n".join(f"line {i}" for i in range(50)))
    many = Run({"a": 5})
    for number in range(5):
        many.fail(number, Job("a", {"k": str(number)}, log=[str(log), str(tmp_path / "absent")]))
    text = view.failures(many, [f"command {i}" for i in range(5)])
    assert [line for line in text if line.startswith("failed")] == [
        f"failed: a (k={i})" for i in range(5)
    ]
    assert text.count("    line 40") == text.count("    line 49") == 3
    assert "    line 39" not in text
    assert [line for line in text if "again" in line][-1] == "  run it again: command 4"


@pytest.mark.parametrize("rows", [10, 24, 50])
def test_a_screen_fits_into_its_terminal(rows, tmp_path):
    full = Run({f"stage_number_{i}": 3 for i in range(40)} | {"all": 1}, {"stage_number_3": 9.0})
    for number in range(60):
        full.start(number, Job(f"stage_number_{number // 3}", {"k": "x" * 100}))
    for number in range(30):
        full.finish(number, 1.0)
    console = Console(width=80, height=rows, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(view.screen(full, 2.0, 0.0, view.Disk(tmp_path), 80, rows))
    lines = console.export_text().splitlines()
    assert len(lines) < rows
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("stage_number_10 ") for line in lines)


def test_durations_and_sizes_are_said_as_people_do():
    said = [view.duration(s) for s in (0.4, 40, 99, 100, 720, 5969, 5970, 36000)]
    assert said == ["0 s", "40 s", "99 s", "2 min", "12 min", "99 min", "1.7 h", "10.0 h"]
    said = [view.size(n) for n in (0, 999, 1234, 999_600, 7.31e10, 2e12, 3e15)]
    assert said == ["0 B", "999 B", "1.23 kB", "1 MB", "73.1 GB", "2 TB", "3e+03 TB"]
