"""The files that people expect, and that they agree with each other."""

import os
import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
VERSIONS = dict(re.findall(r"^([a-z0-9_.-]+)==([^\s;\\]+)", LOCK, re.MULTILINE))


def test_the_lock_has_hashes_and_no_addresses():
    assert "://" not in LOCK
    assert LOCK.count("--hash=sha256:") > len(VERSIONS)


def test_conda_environments_have_the_versions_of_the_lock():
    files = list((ROOT / "envs").glob("*.yaml"))
    assert files
    for path in files:
        pip = yaml.safe_load(path.read_text())["dependencies"][-1]["pip"]
        for name, version in (line.split("==") for line in pip):
            assert VERSIONS[name] == version, (path, name)


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


def test_expected_files_stand_where_people_look():
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "results/README.md"):
        assert (ROOT / name).stat().st_size > 300, name
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    questions = re.findall(r"^\d+\. .*\?$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert len(re.findall(r"^\d+\. ", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)) == 10
    assert len(questions) >= 8
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_make_builds_the_environment_first_and_ci_runs_make_test():
    for target in ("all", "test", "lint"):
        plan = subprocess.run(
            ["make", "-n", "-B", target], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        assert plan.index("-m venv") < plan.index(".venv/bin/")
        assert "--require-hashes -r requirements.lock" in plan
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()


def test_no_tracked_text_names_this_machine():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        path = ROOT / name
        if path.suffix in {".py", ".smk", ".yaml", ".md", ".toml", ".cff"} and path.is_file():
            found = re.findall(r"(?<![\w.])/(?:work|root|home)/\w+", path.read_text())
            assert not found, (name, found)
