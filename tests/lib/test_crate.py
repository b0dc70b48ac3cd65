"""Crates: what is in them, what the official validator says, what a check finds."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from patchwork import claims, tables
from patchwork.jobs import crate, starts

ROOT = Path(__file__).resolve().parents[2]
VALIDATOR = shutil.which("rocrate-validator") or ""
ADDRESS = {"quantity": "rho", "dataset": "actuator", "backbone": None, "protocol": None}
CLAIMS = {
    name: {
        "study": "stability", "statement": f"Statement {name}", "paper": "arXiv 1", "published": "",
        "decisions": [{**ADDRESS, "claimed": region}],
    }
    for name, region in (("S1", [0.5, 1]), ("S2", [-1, 0]))
}  # fmt: skip


def finding(**values):
    row = dict.fromkeys(tables.FINDINGS)
    return pd.DataFrame([row | values])


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A finished run of one claim's study, as its jobs would leave it."""
    folder = tmp_path_factory.mktemp("run") / "results"
    (folder / "stability/actuator").mkdir(parents=True)
    (folder / "logs").mkdir()
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/kept.safetensors").write_text("not exported")
    frame = finding(
        quantity="rho", dataset="actuator", estimate=0.8, ci_low=0.7, ci_high=0.9, n=8, seeds=3
    )
    tables.write(frame, folder / "stability/actuator/findings.csv")
    seeds = {"stability": [0, 1, 2]}
    frame = tables.read(folder / "stability/actuator/findings.csv")
    decided = claims.decide(CLAIMS, frame.assign(study="stability"), (), seeds)
    tables.write(decided, folder / "claims.csv")
    log = "12:00:00 read\n12.5 s, 3.5 s of CPU, 210 MiB at most\non A processor, 2 cores\n"
    (folder / "logs/decide_claims.log").write_text(log)
    starts.record(ROOT, folder, seeds)
    job = {
        "rule": "decide_claims", "script": "../scripts/decide_claims.py", "code": "0123456789abc",
        "log": str(folder / "logs/decide_claims.log"),
        "inputs": [str(folder / "stability/actuator/findings.csv")],
        "outputs": [str(folder / "claims.csv")],
    }  # fmt: skip
    configuration = {
        "run": ["stability"], "claims": CLAIMS, "studies": {"stability": {"seeds": [0, 1, 2]}},
    }  # fmt: skip
    starts.record_jobs(folder, [job], configuration)
    return folder


@pytest.fixture
def made(results, tmp_path) -> Path:
    project = tmp_path / "project"
    for name in ("Snakefile", "LICENSE", "config/config.yaml", "workflow/scripts/decide_claims.py"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    lines = crate.export(results, project, tmp_path / "crate")
    assert len(lines) == 1
    return tmp_path / "crate"


def graph(made):
    described = json.loads((made / "ro-crate-metadata.json").read_text())["@graph"]
    assert len({one["@id"] for one in described}) == len(described)
    return {one["@id"]: one for one in described}


def properties(found, entity):
    own = [found[one["@id"]] for one in entity["additionalProperty"]]
    return {one["name"]: one["value"] for one in own}


def test_each_result_carries_where_it_comes_from(made):
    found = graph(made)
    (job,) = [
        one for one in found.values()
        if one["@type"] == "CreateAction" and {"@id": "results/claims.csv"} in one["result"]
        and one["@id"] != "#run"
    ]  # fmt: skip
    own = properties(found, job)
    assert own == {
        "code digest": "0123456789abc", "start": "0", "duration (s)": "12.5",
        "CPU time (s)": "3.5", "memory (MiB)": "210", "hardware": "A processor, 2 cores",
    }  # fmt: skip
    assert job["instrument"] == {"@id": "workflow/scripts/decide_claims.py"}
    about = properties(found, found["#run"])
    assert {"utc", "commit", "cpu", "cores", "python", "packages", "seeds"} <= set(about)
    assert json.loads(about["seeds"]) == {"stability": [0, 1, 2]}
    assert json.loads(about["packages"])["torch"]
    names = {one["@id"] for one in found["./"]["hasPart"]}
    assert "results/claims.csv" in names
    assert not any("kept.safetensors" in one or "/." in one for one in names)
    on_disk = {p.relative_to(made).as_posix() for p in made.rglob("*") if p.is_file()}
    assert names == on_disk - {"ro-crate-metadata.json"}


def test_folder_and_archive_are_verified_and_claims_decided_again(made):
    for path in (made, made.with_name("crate.zip")):
        lines = crate.verify(path)
        assert lines[0].startswith(f"{path}: ")
        assert lines[0].endswith("files have their checksums")
        assert [line.split(":")[0] for line in lines[1:]] == ["claim S1", "claim S2"]
    (line,) = crate.verify(made, "S2")[1:]
    assert line == "claim S2: all undetermined, decided again from its tables"
    with pytest.raises(ValueError, match="CLAIM is 'X9'; allowed is S1, S2"):
        crate.verify(made, "X9")


def change(path):
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda p: change(p / "results/claims.csv"), "1 files are not as they were, first res"),
        (lambda p: (p / "results/claims.csv").unlink(), "lacks 1 files, first results/claims.csv"),
        (lambda p: (p / "more").write_text("x"), "lists no checksum of 1 files, first more"),
        (lambda p: (p / "link").symlink_to("/etc/passwd"), "link: is no plain file"),
        (lambda p: (p / "ro-crate-metadata.json").write_text("[1]"), "is no readable crate"),
        (lambda p: (p / "ro-crate-metadata.json").unlink(), "lacks ro-crate-metadata.json"),
    ],
)  # fmt: skip
def test_what_was_changed_is_named(made, damage, line):
    damage(made)
    with pytest.raises(ValueError, match=line) as caught:
        crate.verify(made)
    assert "\n" not in str(caught.value)


def test_a_verdict_that_its_tables_do_not_give_is_found(made):
    """Also where somebody made the checksums fit."""
    table = made / "results/claims.csv"
    frame = pd.read_csv(table, dtype=str)
    frame["estimate"] = "0.95"
    frame.to_csv(table, index=False)
    described = json.loads((made / "ro-crate-metadata.json").read_text())
    for one in described["@graph"]:
        if one["@id"] == "results/claims.csv":
            one.update(crate._file("results/claims.csv", table))
    (made / "ro-crate-metadata.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="claim S1: its stored tables give"):
        crate.verify(made)


def test_an_archive_is_never_unpacked_and_cannot_grow(made, tmp_path):
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(made.with_name("crate.zip")) as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            large = name == "results/claims.csv"
            new.writestr(name, bytes(300_000_000) if large else old.read(name))
        new.writestr("../outside", "x")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"lists no checksum of 1 files, first \.\./outside"):
        crate.verify(path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.zip", "w") as new:
        for name in old.namelist()[:-1]:
            new.writestr(name, old.read(name), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="not as they were"):
        crate.verify(tmp_path / "b.zip")
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "b.zip"}


def test_what_is_no_crate_or_no_run_is_one_line(results, made, tmp_path, capsys):
    (tmp_path / "text").write_text("x")
    for arguments, said in (
        (("verify", str(tmp_path / "text")), "is no crate"),
        (("verify", str(tmp_path / "absent")), "is no crate"),
        (("export", str(tmp_path), str(tmp_path / "new")), "holds no run"),
        (("export", str(results), str(made)), "is there already"),
        (("copy", "a"), "allowed is export RESULTS FOLDER, or verify CRATE"),
    ):
        assert crate.main(*arguments) == 1
        shown = capsys.readouterr().err
        assert said in shown
        assert shown.count("\n") == 1


@pytest.mark.skipif(not VALIDATOR, reason="rocrate-validator is not there: make test-crate")
def test_the_official_validator_finds_nothing_wrong(made):
    command = [
        VALIDATOR, "--no-interactive", "--disable-color", "validate",
        "--requirement-severity", "REQUIRED", "-p", "workflow-run-crate", str(made),
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if "URLError" in run.stdout or "Max retries" in run.stdout:
        pytest.skip("rocrate-validator cannot fetch the contexts of RO-Crate: no network")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
