"""Where a run comes from."""

import subprocess

from patchwork.jobs import starts


def git(folder, *arguments):
    given = ("-c", "user.name=a", "-c", "user.email=a@b")
    run = ["git", "-C", str(folder), *given, *arguments]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()


def test_each_start_is_a_line_with_commit_machine_and_seeds(tmp_path):
    project, results = tmp_path / "project", tmp_path / "results"
    project.mkdir()
    assert starts.read(results) == []
    starts.record(project, results, {"lines": range(2)})
    git(project, "init", "-q")
    (project / "code").write_text("1")
    git(project, "add", "code")
    git(project, "commit", "-qm", "first")
    starts.record(project, results, {"lines": [0, 1], "chirps": [3]})
    (project / "code").write_text("2")
    starts.record(project, results, {"lines": [0, 1]})
    first, second, third = starts.read(results)
    head = git(project, "rev-parse", "HEAD")
    assert [one["commit"] for one in (first, second, third)] == [None, head, f"{head}-dirty"]
    assert first["seeds"] == {"lines": [0, 1]}
    assert second["seeds"] == {"lines": [0, 1], "chirps": [3]}
    assert first["utc"] <= second["utc"]
    assert first["cores"] >= 1
    assert first["cpu"]
    assert first["packages"]["torch"]
