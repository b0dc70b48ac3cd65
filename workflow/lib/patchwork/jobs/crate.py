"""Results as a Workflow Run RO-Crate with checksums, and the check of one.

``python -m patchwork.jobs.crate export RESULTS FOLDER`` writes the folder and FOLDER.zip;
``python -m patchwork.jobs.crate verify CRATE [CLAIM]`` compares checksums and decides claims again
from the stored tables.

Source: RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) and the profile Workflow Run Crate 0.5
(https://w3id.org/ro/wfrun/workflow/0.5).
"""

import hashlib
import json
import os
import re
import shutil
import stat
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

import pandas as pd

from patchwork import claims, tables
from patchwork.jobs import starts

METADATA = "ro-crate-metadata.json"
RESULTS = "results"
# What a rerun needs of the project.
_PROJECT = (
    "Snakefile", "LICENSE", "CITATION.cff", "README.md", "pyproject.toml", "requirements.lock",
    "config/**/*.yaml", "profiles/**/*.yaml", "workflow/**/*.*",
)  # fmt: skip
# Of results: what only a run that goes on needs, and locks.
_LEFT_OUT = re.compile(r"^(checkpoints|tensorboard)/|(^|/)\.")
_MOST_METADATA = 200_000_000  # bytes
_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
_CONTEXT = ["https://w3id.org/ro/crate/1.1/context",
            "https://w3id.org/ro/terms/workflow-run/context"]  # fmt: skip
_LANGUAGE = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
_USED = re.compile(r"([\d.]+) s, ([\d.]+) s of CPU, (\d+) MiB at most\n(?:on (.+)\n)?\Z")
_MEDIA = {
    ".cff": "application/yaml", ".csv": "text/csv", ".h5": "application/x-hdf5",
    ".html": "text/html", ".json": "application/json", ".log": "text/plain",
    ".md": "text/markdown", ".parquet": "application/vnd.apache.parquet", ".png": "image/png",
    ".py": "text/x-python", ".smk": "text/x-python", ".svg": "image/svg+xml",
    ".toml": "application/toml", ".txt": "text/plain", ".yaml": "application/yaml",
}  # fmt: skip

Entity = dict[str, Any]


# Writing ------------------------------------------------------------------------------------------


def export(results: Path, project: Path, folder: Path) -> list[str]:
    """Write results with the code that made them as a crate, and the same as a ZIP archive.

    Args:
        results: folder of a run.
        project: folder of the workflow.
        folder: the crate, which must not be there yet; the archive gets its name and ``.zip``.

    Returns:
        Lines that say what was written.

    Raises:
        ValueError: one line, if nothing was run there, or if the crate is there already.
    """
    began = starts.read(results)
    if not began or not (results / starts.CONFIGURATION).is_file():
        raise ValueError(f"{results}: holds no run; allowed is a folder of results of a workflow")
    archive = folder.with_name(f"{folder.name}.zip")
    for path in (folder, archive):
        if path.exists():
            raise ValueError(f"{path}: is there already; remove it or choose another FOLDER")
    names = _contents(results, project)
    entities = [_file(name, path) for name, path in names.items()]
    described = _crate(results, began, entities)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name, path in names.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, partial / name)
    text = json.dumps({"@context": _CONTEXT, "@graph": described}, indent=1)
    (partial / METADATA).write_text(text + "\n", encoding="utf-8")
    os.replace(partial, folder)
    with zipfile.ZipFile(archive, "x", zipfile.ZIP_DEFLATED) as opened:
        for name in [METADATA, *names]:
            opened.write(folder / name, name)
    size = sum(int(one["contentSize"]) for one in entities) / 1e6
    return [f"{folder}, {archive}: {len(names)} files, {size:.1f} MB"]


def _contents(results: Path, project: Path) -> dict[str, Path]:
    """Every file by its name in the crate."""
    found: dict[str, Path] = {}
    for pattern in _PROJECT:
        for path in sorted(project.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                found[path.relative_to(project).as_posix()] = path
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results).as_posix()
        if path.is_file() and not _LEFT_OUT.search(name):
            found[f"{RESULTS}/{name}"] = path
    return found


def _file(name: str, path: Path) -> Entity:
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    kind = ["File", "SoftwareSourceCode"] if path.suffix in (".py", ".smk") else "File"
    media = _MEDIA.get(path.suffix)
    return {
        "@id": name, "@type": kind, "name": name, "sha256": digest,
        "contentSize": str(path.stat().st_size), **({"encodingFormat": media} if media else {}),
    }  # fmt: skip


def _crate(results: Path, began: list[dict[str, Any]], files: list[Entity]) -> list[Entity]:
    """The graph of the metadata."""
    by_name = {one["@id"]: one for one in files}
    snakemake = began[-1]["packages"]["snakemake"]
    by_name["Snakefile"].update(
        {
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
            "name": "Patchwork", "programmingLanguage": {"@id": _LANGUAGE},
            "version": str(began[-1]["commit"]),
        }
    )  # fmt: skip
    if "README.md" in by_name:
        by_name["README.md"]["about"] = {"@id": "./"}
    made = [one for one in files if one["@id"].startswith(f"{RESULTS}/")]
    actions = list(_actions(results, by_name))
    first = datetime.fromisoformat(began[0]["utc"])
    run = {
        "@id": "#run", "@type": "CreateAction", "name": "Run of the workflow",
        "instrument": {"@id": "Snakefile"}, "startTime": began[0]["utc"],
        "endTime": max(first.isoformat(), *(one["endTime"] for one in actions)),
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
        "object": [{"@id": name} for name in by_name if name.startswith("config/")],
        "result": [{"@id": one["@id"]} for one in made],
    }  # fmt: skip
    about = [one for i, start in enumerate(began) for one in _values(f"#start-{i}", start)]
    run["additionalProperty"] = [{"@id": one["@id"]} for one in about]
    profiles = [
        {"@id": address, "@type": "CreativeWork", "name": name,
         "version": address.rpartition("/")[2]}
        for address, name in _PROFILES.items()
    ]  # fmt: skip
    licence = {"@id": "https://spdx.org/licenses/MIT", "@type": "CreativeWork",
               "name": "MIT License"}  # fmt: skip
    root = {
        "@id": "./", "@type": "Dataset", "name": "Results of Patchwork",
        "description": "Results of a run of the workflow, with the code that made them, where and "
        "when it ran, and the SHA-256 of every file.",
        "datePublished": datetime.now(UTC).isoformat(timespec="seconds"),
        "license": {"@id": licence["@id"]},
        "conformsTo": [{"@id": one["@id"]} for one in profiles],
        "mainEntity": {"@id": "Snakefile"},
        "hasPart": [{"@id": one["@id"]} for one in files],
        "mentions": [{"@id": one["@id"]} for one in [run, *actions]],
    }  # fmt: skip
    parts = [one.pop("parts") for one in actions]
    return [
        {"@id": METADATA, "@type": "CreativeWork", "about": {"@id": "./"},
         "conformsTo": [{"@id": "https://w3id.org/ro/crate/1.1"},
                        {"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0"}]},
        root, *profiles, licence,
        {"@id": _LANGUAGE, "@type": "ComputerLanguage", "name": "Snakemake",
         "identifier": {"@id": "https://snakemake.github.io"},
         "url": {"@id": "https://snakemake.github.io"}, "version": snakemake},
        *files, run, *about, *actions, *(one for part in parts for one in part),
    ]  # fmt: skip


def _actions(results: Path, files: Mapping[str, Entity]) -> Iterator[Entity]:
    """One action for each job whose results are there."""
    jobs = {json.dumps(job["outputs"]): job for job in starts.makers(results).values()}
    for number, job in enumerate(jobs.values()):
        made = [f"{RESULTS}/{one}" for one in job["outputs"]]
        made = [one for one in made if one in files]
        script = f"workflow/scripts/{PurePosixPath(job['script']).name}"
        if not made or script not in files:
            continue
        log = results / job["log"]
        used = _USED.search(log.read_text(encoding="utf-8")) if log.is_file() else None
        ended = max((results / one[len(RESULTS) + 1 :]).stat().st_mtime for one in made)
        end = datetime.fromtimestamp(ended, UTC)
        measured = {"code digest": job["code"], "start": job["start"]}
        action = {
            "@id": f"#job-{number}", "@type": "CreateAction", "name": job["rule"],
            "instrument": {"@id": script}, "endTime": end.isoformat(timespec="seconds"),
            "object": [{"@id": f"{RESULTS}/{one}"} for one in job["inputs"]
                       if f"{RESULTS}/{one}" in files],
            "result": [{"@id": one} for one in made],
        }  # fmt: skip
        if used:
            begun = datetime.fromtimestamp(ended - float(used[1]), UTC)
            action["startTime"] = begun.isoformat(timespec="seconds")
            names = ("duration (s)", "CPU time (s)", "memory (MiB)", "hardware")
            measured |= dict(zip(names, used.groups(), strict=True))
        action["parts"] = list(_values(action["@id"], measured))
        action["additionalProperty"] = [{"@id": one["@id"]} for one in action["parts"]]
        yield action


def _values(of: str, measured: Mapping[str, Any]) -> Iterator[Entity]:
    for i, (name, value) in enumerate(measured.items()):
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        yield {"@id": f"{of}-{i}", "@type": "PropertyValue", "name": name, "value": text}


# Checking -----------------------------------------------------------------------------------------


class _Crate(Protocol):
    """Files of a crate by their names, none of them unpacked to the disk."""

    def names(self) -> list[str]:
        """Of all files."""

    def open(self, name: str) -> IO[bytes]:
        """One of them."""


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        found = []
        for path in sorted(self.path.rglob("*")):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                found.append(path.relative_to(self.path).as_posix())
            elif not stat.S_ISDIR(mode):
                raise ValueError(f"{path}: is no plain file; allowed in a crate are plain files")
        return found

    def open(self, name: str) -> IO[bytes]:
        return (self.path / name).open("rb")


class _Archive:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive

    def names(self) -> list[str]:
        return [one for one in self.archive.namelist() if not one.endswith("/")]

    def open(self, name: str) -> IO[bytes]:
        return self.archive.open(name)


@contextmanager
def _opened(path: Path) -> Iterator[_Crate]:
    if path.is_dir():
        yield _Folder(path)
        return
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: is no crate ({error}); allowed is a folder or .zip") from None
    with archive:
        yield _Archive(archive)


def verify(path: Path, claim: str | None = None) -> list[str]:
    """Compare every file with its checksum, then decide claims again from the stored tables.

    Args:
        path: folder or archive of `export`.
        claim: one of its claims; all if None.

    Returns:
        Lines that say what was found right.

    Raises:
        ValueError: one line naming what is missing, changed or not listed, or which claim differs.
    """
    with _opened(path) as crate:
        try:
            names = crate.names()
            if METADATA not in names:
                raise ValueError(f"lacks {METADATA}")
            with crate.open(METADATA) as opened:
                graph = json.loads(_limited(opened, _MOST_METADATA))["@graph"]
            listed = {one["@id"]: one for one in graph if "sha256" in one}
            _compare(crate, names, listed)
            lines = [f"{path}: {len(listed)} files have their checksums"]
            return lines + _decided(crate, claim)
        except (OSError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, EOFError,
                NotImplementedError, RuntimeError, RecursionError) as error:  # fmt: skip
            text = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{path}: is no readable crate ({text})") from error
        except ValueError as error:
            raise ValueError(f"{path}: {' '.join(str(error).split())}") from error


def _limited(opened: IO[bytes], most: int) -> bytes:
    content = opened.read(most + 1)
    if len(content) > most:
        raise ValueError(f"a file has more than {most:,} bytes")
    return content


def _compare(crate: _Crate, names: list[str], listed: Mapping[str, Entity]) -> None:
    for what, odd in (("lacks", set(listed) - set(names)),
                      ("lists no checksum of", set(names) - set(listed) - {METADATA})):  # fmt: skip
        if odd:
            raise ValueError(f"{what} {len(odd)} files, first {min(odd)}")
    changed = []
    for name, entity in listed.items():
        digest, left = hashlib.sha256(), int(entity["contentSize"])
        with crate.open(name) as opened:
            # No more than was listed, so that an archive cannot unpack without end.
            while left >= 0 and (part := opened.read(min(1 << 20, left + 1))):
                digest.update(part)
                left -= len(part)
        if left != 0 or digest.hexdigest() != entity["sha256"]:
            changed.append(name)
    if changed:
        raise ValueError(f"{len(changed)} files are not as they were, first {min(changed)}")


def _decided(crate: _Crate, chosen: str | None) -> list[str]:
    """Claims decided again, each compared with the stored table."""

    def content(name: str) -> BytesIO:
        with crate.open(f"{RESULTS}/{name}") as opened:
            return BytesIO(_limited(opened, _MOST_METADATA))

    configuration = json.load(content(starts.CONFIGURATION))
    stated = configuration["claims"]
    if chosen is not None and chosen not in stated:
        raise ValueError(f"CLAIM is {chosen!r}; allowed is {', '.join(stated)}")
    jobs = [json.loads(line) for line in content(starts.JOBS).read().decode().splitlines()]
    inputs = [job["inputs"] for job in jobs if job["rule"] == "decide_claims"][-1]
    frames = [pd.read_csv(content(name)).assign(study=name.split("/")[0]) for name in inputs]
    seeds = {name: configuration["studies"][name]["seeds"] for name in configuration["run"]}
    found = claims.decide(stated, tables.join(frames), configuration.get("amendments", []), seeds)
    # As the table of a run is written and read again.
    again = pd.read_csv(BytesIO(found.to_csv(index=False).encode()), dtype=str)
    stored = pd.read_csv(content("claims.csv"), dtype=str)
    lines = []
    for name in stated if chosen is None else [chosen]:
        now, kept = (one[one["claim"] == name].reset_index(drop=True) for one in (again, stored))
        if not now[kept.columns].equals(kept):
            raise ValueError(f"claim {name}: its stored tables give {_verdicts(now)}; its stored "
                             f"verdict is {_verdicts(kept)}")  # fmt: skip
        lines.append(f"claim {name}: {_verdicts(now)}, decided again from its tables")
    return lines


def _verdicts(rows: pd.DataFrame) -> str:
    texts = rows["protocol"].fillna("all") + " " + rows["verdict"].str.replace("_", " ")
    return ", ".join(dict.fromkeys(texts))


def main(what: str = "", path: str = "", more: str = "") -> int:
    """Export or verify, with one line for what goes wrong; the exit status."""
    try:
        if what == "export" and path and more:
            lines = export(Path(path), Path.cwd(), Path(more))
        elif what == "verify" and path:
            lines = verify(Path(path), more or None)
        else:
            raise ValueError(f"arguments are {what!r} {path!r} {more!r}; allowed is "
                             "export RESULTS FOLDER, or verify CRATE [CLAIM]")  # fmt: skip
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
