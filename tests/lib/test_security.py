"""Hostile files that random damage would not make, and the page that lists them."""

import io
import re
import stat
import zipfile
from pathlib import Path

import pytest
from configuration_files import Configuration
from patchwork.data import annotated
from patchwork.data.tensors import read_tensors, write_tensors
from patchwork.jobs import preload
from patchwork.jobs.provenance import from_metadata
from patchwork.models import backbones
from patchwork.networks import data
from small_networks import RANDOM

ROOT = Path(__file__).resolve().parents[2]
FILE = "config/studies/stability.yaml"
BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)


def test_every_line_of_the_page_names_a_test_that_exists():
    page = (ROOT / "docs/security.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    known = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert named <= known, named - known
    assert len(named) > 15


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("__use_yte__: true\n?open('sprung', 'w'): 1\n", "no YAML|__use_yte__ makes it a template"),
        ("__use_yte__: true\nstudies: {}\n", "__use_yte__ makes it a template that runs code"),
        ("a: !!python/object/apply:os.mkdir [sprung]\n", "could not determine a constructor"),
        (BOMB, "has more than 100,000 values"),
        ("a: &a [*a]\n", "alias of itself"),
        ("[" * 100_000, "no YAML"),
        ("{a: " * 20_000, "no YAML"),
        ("a: 2001-99-99\n", "no YAML of a configuration"),
        (f"a: {'9' * 5000}\n", "no YAML of a configuration"),
        ("a: \x00\n", "no YAML"),
        ("a: 1\na: 2\n", "line 2 has the key 'a' again"),
        ("studies: {1: {}}\n", "line 1 has a key that is no text; quote '1'"),
        ("on: 1\n", "line 1 has a key that is no text; quote 'on'"),
        ("", "is empty"),
        ("studies:\n\tstability: {}\n", "line 2 is no YAML"),
    ],
)
def test_a_file_of_the_configuration_runs_nothing(tmp_path, monkeypatch, text, line):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "stability.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=line) as caught:
        Configuration(file, FILE, ["stability"]).check()
    assert "stability.yaml: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
def test_hostile_graphml_is_refused_in_any_encoding(tmp_path, encoding):
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE graphml [<!ENTITY a "x">]>'
        '<graphml><graph edgedefault="directed"><node id="&a;"/></graph></graphml>'
    )
    (tmp_path / "n.graphml").write_bytes(text.encode(encoding))
    said = r"n.graphml: (holds a document type declaration|not readable as GraphML)"
    with pytest.raises(ValueError, match=said):
        data.read_network(tmp_path / "n.graphml")


def test_a_spreadsheet_that_would_fill_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(annotated, "_MOST_BYTES", 1_000_000)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(2_000_000))
    with pytest.raises(ValueError, match=r"boxes.xlsx: .*2,000,000 bytes unpacked; allowed is"):
        annotated.read_boxes(file.getvalue(), "boxes.xlsx", {"picture": "file"})


@pytest.mark.parametrize(
    "change", [{"depth": 10**9}, {"embed_dim": 10**9}, {"num_classes": 10**9}, {"mlp_ratio": 1e9}]
)
def test_a_record_that_asks_for_a_huge_network_is_refused(tmp_path, change):
    path = tmp_path / "backbone.safetensors"
    backbones.save(backbones.prepare(RANDOM, 16, seed=0), path)
    tensors, metadata = read_tensors(path)
    record = from_metadata(metadata)
    record["architecture"]["options"] |= change
    write_tensors(tensors, record, path)
    with pytest.raises(ValueError, match=r"backbone.safetensors: ") as caught:
        backbones.load(path)
    assert "\n" not in str(caught.value)


def test_nobody_else_can_reach_the_shared_process(tmp_path):
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    python, server = preload.start(folder, ("json",))
    try:
        assert stat.S_IMODE(python.stat().st_mode) == 0o700
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        server.stdin.close()
        server.wait(20)
    # The folder of a run is one of mkdtemp, which is of one user alone.
    assert "tempfile.mkdtemp(" in (ROOT / "workflow/rules/common.smk").read_text()
