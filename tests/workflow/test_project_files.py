"""The files that people expect, and that they agree with each other."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
PAPERS = ("2212.09641", "2503.18762", "2503.22713", "2504.02976", "2504.09393")
PIN = re.compile(r"^([a-z0-9_.-]+==[^\\\n]+)", re.MULTILINE)
PINS = [Requirement(line) for line in PIN.findall(LOCK)]


def versions(python: str) -> dict[str, str]:
    """What the lock gives to one Python on Linux: some packages differ from Python to Python."""
    machine = {"python_version": python, "python_full_version": f"{python}.0",
               "sys_platform": "linux"}  # fmt: skip
    wanted = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(machine)]
    return {pin.name: str(pin.specifier).removeprefix("==") for pin in wanted}


def test_the_locks_have_hashes_and_no_addresses_and_agree():
    tested = (ROOT / "requirements-test.lock").read_text()
    for lock in (LOCK, tested):
        assert "://" not in lock
        assert lock.count("--hash=sha256:") > len(PINS)
    own, theirs = (
        {pin.split(";")[0].strip() for pin in PIN.findall(lock)} for lock in (LOCK, tested)
    )
    assert own < theirs


def test_the_workflow_imports_nothing_that_its_own_lock_lacks():
    own = {path.stem for path in (ROOT / "workflow/scripts").glob("*.py")}
    own |= {path.name for path in (ROOT / "workflow/lib").iterdir()}
    wanted = set()
    for path in (ROOT / "workflow").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            wanted |= {name.split(".")[0] for name in names}
    wanted -= own | sys.stdlib_module_names | {"_typeshed"}
    assert {"torch", "numpy", "mne"} <= wanted
    given, locked = packages_distributions(), {canonicalize_name(pin.name) for pin in PINS}
    for name in wanted:
        assert locked & {canonicalize_name(one) for one in given[name]}, name


def test_conda_environments_have_the_versions_of_the_lock():
    files = list((ROOT / "envs").glob("*.yaml"))
    assert files
    for path in files:
        wanted = yaml.safe_load(path.read_text())["dependencies"]
        python = next(one.split("=")[1] for one in wanted if str(one).startswith("python="))
        locked = versions(python)
        for name, version in (line.split("==") for line in wanted[-1]["pip"]):
            assert locked[name] == version, (path, name)


def test_pythons_get_different_versions_from_the_lock():
    assert versions("3.11")["numpy"] != versions("3.12")["numpy"]


def test_conda_environments_hold_what_the_library_needs():
    needed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    for path in (ROOT / "envs").glob("*.yaml"):
        pip = yaml.safe_load(path.read_text())["dependencies"][-1]["pip"]
        assert {line.split("==")[0] for line in pip} >= needed, path


def test_every_rule_names_an_environment_that_exists():
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        for name in re.findall(r'"\.\./\.\./envs/(\w+\.yaml)"', path.read_text()):
            assert (ROOT / "envs" / name).is_file(), (path, name)


def test_the_citation_can_be_read():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{cited["version"]}"' in project
    assert all({"title", "authors", "type"} <= set(one) for one in cited["references"])
    papers = {one["identifiers"][0]["value"] for one in cited["references"]}
    assert papers == {f"arXiv:{number}" for number in PAPERS}


def test_expected_files_stand_where_people_look():
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "results/README.md"):
        assert (ROOT / name).stat().st_size > 300, name
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_make_builds_the_environment_first_and_ci_runs_make_test():
    for target in ("all", "test", "lint"):
        plan = subprocess.run(
            ["make", "-n", "-B", target], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        assert plan.index("-m venv") < plan.index(".venv/bin/")
        assert "--require-hashes -r requirements.lock" in plan
        # Users of the workflow alone get no tools of tests.
        assert ("-r requirements-test.lock" in plan) == (target != "all")
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with the real Makefile and programs that only write down how they were called."""
    for name in ("Makefile", "requirements.lock", "requirements-test.lock", "pyproject.toml"):
        shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name in ("snakemake", "python", "pip"):
        program = tmp_path / ".venv/bin" / name
        program.write_text(f'#!/bin/sh\necho "{name} $@" >> called\n')
        program.chmod(0o755)
    (tmp_path / ".venv/.ready").touch()
    (tmp_path / "results/lines/figures").mkdir(parents=True)
    for name in ("results/claims.csv", "results/lines/figures/one.svg"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000, 1000))
    return tmp_path


def made(folder: Path, *arguments: str) -> str:
    """Programs called by one `make`, one a line; a pip or venv only says that it was planned."""
    (folder / "called").unlink(missing_ok=True)
    # These tests run inside `make test`, whose flags must not reach the inner one.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    run = subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    called = folder / "called"
    return called.read_text() if called.exists() else run.stdout


def test_a_second_make_builds_nothing(folder):
    (folder / "results/report.html").touch()
    called = made(folder, "PYTHON=.venv/bin/python").splitlines()
    assert [line.split()[:3] for line in called] == [
        ["snakemake", "--logger", "patchwork"],
        ["python", "-m", "patchwork.show"],
    ]


@pytest.mark.parametrize(
    ("given", "studies", "results"),
    [
        ([], "", "evidence"),
        (["STUDIES=stability lines", "RESULTS=other"], " run=[stability,lines]", "other"),
    ],
)
def test_make_evidence_goes_on_with_the_studies_asked_for(folder, given, studies, results):
    called = made(folder, "evidence", "CORES=3", *given).splitlines()
    own = f'--config pathvars={{results: "{results}"}}{studies}'
    scale = "--configfile config/scales/evidence.yaml"
    assert " ".join(called[0].split()) == f"snakemake --logger patchwork --cores 3 {scale} {own}"
    assert f"quiet all {scale} {own} --report {results}/report.html" in called[1]
    assert called[2] == f"python -m patchwork.show {results} --summary"


def test_make_compares_verdicts_of_seeds_and_threads(folder):
    called = made(folder, "stability-of-verdicts", "STUDIES=lines", "CORES=3").splitlines()
    assert len(called) == 4
    assert all("run=[lines]" in line for line in called[:3])
    assert "--configfile config/scales/other_seeds.yaml" in called[1]
    assert "--set-threads" in called[2]
    folders = [re.search('results: "(.*?)"', line)[1] for line in called[:3]]
    assert called[3] == f"python -m patchwork.show {folders[0]} --against {' '.join(folders[1:])}"


def test_results_go_where_make_is_told(folder):
    called = made(folder, "all", "RESULTS=other", "CORES=3").splitlines()
    own = '--config pathvars={results: "other"}'
    assert " ".join(called[0].split()) == f"snakemake --logger patchwork --cores 3 {own}"
    assert " ".join(called[1].split()).endswith(f"all {own} --report other/report.html")
    assert called[2] == "python -m patchwork.show other --summary"


@pytest.mark.parametrize("file", ["requirements.lock", "pyproject.toml"])
def test_a_newer_lock_makes_the_environment_stale(folder, file):
    assert "pip" not in made(folder, "PYTHON=.venv/bin/python")
    os.utime(folder / ".venv/.ready", (1000, 1000))
    other = {"requirements.lock": "pyproject.toml", "pyproject.toml": "requirements.lock"}[file]
    called = made(folder, "PYTHON=.venv/bin/python", f"--assume-old={other}")
    assert "pip install --quiet --disable-pip-version-check --no-compile --require-hashes" in called
    assert called.index("pip") < called.index("snakemake")


@pytest.mark.parametrize("newer", ["results/claims.csv", "results/lines/figures/one.svg"])
def test_the_report_is_written_when_a_result_is_newer(folder, newer):
    report = folder / "results/report.html"
    assert "--report results/report.html" in made(folder, "report")
    report.touch()
    assert "--report" not in made(folder, "report")
    os.utime(report, (2000, 2000))
    assert "--report" not in made(folder, "report")
    os.utime(folder / newer, (3000, 3000))
    assert "--report" in made(folder, "report")


def test_clean_leaves_the_page_that_says_what_lies_there(folder):
    for page in ("results/README.md", "results/lines/README.md"):
        (folder / page).write_text("what lies here")
    made(folder, "clean")
    assert [path.name for path in (folder / "results").iterdir()] == ["README.md"]


def test_help_lists_every_target(folder):
    listed = made(folder, "help")
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    for target in phony:
        assert f"{target}:" in listed, target


def test_profiles_say_how_they_take_effect():
    # With --profile alone the default profile is read too, and it takes the GPU away.
    for name in ("gpu", "slurm"):
        head = (ROOT / f"profiles/{name}/config.yaml").read_text().splitlines()[0]
        assert f"--workflow-profile profiles/{name}" in head


def test_no_tracked_text_names_this_machine():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        path = ROOT / name
        if path.suffix in {".py", ".smk", ".yaml", ".md", ".toml", ".cff"} and path.is_file():
            found = re.findall(r"(?<![\w.])/(?:work|root|home)/\w+", path.read_text())
            assert not found, (name, found)
