import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patchwork import stimuli
from patchwork.jobs import provenance

ROOT = Path(__file__).resolve().parents[2]

FILES = {
    "__init__.py": '"""A small package."""\n',
    "near.py": (
        '"""Imported by the script."""\n\nfrom patchwork import middle\n\n\n'
        'def double(x):\n    """Twice."""\n    return middle.same(x) * 2\n'
    ),
    "middle.py": (
        "from patchwork.far.deep import identity\n\n\ndef same(x):\n    # Nothing happens.\n"
        "    return identity(x)\n"
    ),
    "far/__init__.py": "LEVEL = 1\n",
    "far/deep.py": "def identity(x):\n    return x\n",
    "beside.py": "def other(x):\n    return -x\n",
    "folder/__init__.py": "from patchwork.folder.inner import value\n",
    "folder/inner.py": "value = 3\n",
}
SCRIPT = "import numpy\n\nfrom patchwork.near import double\n\nprint(double(1))\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of our name, and a script that uses a part of it."""
    root = tmp_path / "lib" / "patchwork"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.setattr(provenance, "PACKAGE", root)
    return root


def changed(path, old, new):
    """Whether the script's digest is another one after an edit."""
    script = next(p for p in path.parents if (p / "script.py").exists()) / "script.py"
    before = provenance.code_digest(script)
    stamp = os.stat(path).st_mtime_ns
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    # Two edits within one tick of the file system's clock would look like none.
    os.utime(path, ns=(stamp + 10**9, stamp + 10**9))
    return provenance.code_digest(script) != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("near.py", "Twice.", "Two times."),
        ("near.py", '    """Twice."""\n', ""),
        ("near.py", "Imported by the script.", "Another text."),
        ("near.py", "\n\n\ndef", "\n\ndef"),
        ("near.py", "return middle", "return  middle"),
        ("middle.py", "# Nothing happens.", "# Still nothing."),
        ("middle.py", "    # Nothing happens.\n", ""),
        ("middle.py", "def same(x):\n", 'def same(x):\n    """New words."""\n'),
        ("beside.py", "-x", "+x"),
        ("folder/inner.py", "3", "4"),
        ("__init__.py", "A small", "A tiny"),
    ],
)
def test_words_and_modules_that_are_not_used_do_not_count(package, name, old, new):
    assert not changed(package / name, old, new)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("near.py", "* 2", "* 3"),
        ("middle.py", "identity(x)\n", "identity(x) + 1\n"),
        ("far/deep.py", "return x", "return x + 0"),
        ("near.py", "double(x)", "double(x, y=1)"),
    ],
)
def test_code_counts_however_deep_it_lies(package, name, old, new):
    assert changed(package / name, old, new)


def test_the_script_itself_counts(package):
    assert changed(package.parents[1] / "script.py", "double(1)", "double(2)")
    assert not changed(package.parents[1] / "script.py", "import numpy\n", "import numpy  # why\n")


def test_a_new_import_brings_its_files(package):
    script = package.parents[1] / "script.py"

    def names():
        files = provenance.first_party_files(script)
        return {path.relative_to(package.parents[1]).as_posix() for path in files}

    assert names() == {
        "script.py", "lib/patchwork/near.py", "lib/patchwork/middle.py",
        "lib/patchwork/far/deep.py", "lib/patchwork/__init__.py",
    }  # fmt: skip
    assert changed(script, "import numpy", "from patchwork import folder")
    assert {"lib/patchwork/folder/__init__.py", "lib/patchwork/folder/inner.py"} <= names()
    assert changed(package / "folder" / "inner.py", "3", "4")
    assert changed(package / "folder" / "__init__.py", "value\n", "value as value_\n")


def test_a_circle_of_imports_ends(package):
    assert changed(package / "far" / "deep.py", "def", "from patchwork import near\n\n\ndef")


def test_where_the_code_lies_does_not_count(package, tmp_path, monkeypatch):
    before = provenance.code_digest(tmp_path / "script.py")
    moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    monkeypatch.setattr(provenance, "PACKAGE", moved / "lib" / "patchwork")
    assert provenance.code_digest(moved / "script.py") == before


def test_what_is_no_python_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("def (:")
    with pytest.raises(ValueError, match=r"broken.py: not a readable Python file"):
        provenance.code_digest(tmp_path / "broken.py")
    with pytest.raises(ValueError, match=r"absent.py: not a readable Python file"):
        provenance.code_digest(tmp_path / "absent.py")


def test_settings_count_by_value_and_not_by_order():
    digest = provenance.settings_digest
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest([1, 2]) != digest([2, 1])
    assert digest("a", "b") != digest("ab")
    assert digest(1) != digest("1")
    assert len(digest()) == 16


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1), PLAIN, max_size=4))
def test_records_survive_their_way_through_metadata(record):
    metadata = provenance.as_metadata(record)
    assert all(isinstance(value, str) for value in metadata.values())
    assert provenance.from_metadata(metadata) == json.loads(json.dumps(record))


def test_checksums(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert provenance.file_sha256(path) == known
    provenance.check_sha256(path, known.upper())
    path.write_bytes(np.arange(3).tobytes())
    with pytest.raises(ValueError, match=rf"file: SHA-256 is .*expects {known}"):
        provenance.check_sha256(path, known)


def test_a_job_that_draws_runs_again_when_any_generator_changes():
    # A module imported by its name at run time would be out of sight.
    for script in ("synthesise_shard", "gather_pictures", "prepare_backbone"):
        files = provenance.first_party_files(ROOT / f"workflow/scripts/{script}.py")
        drawing = {path.stem for path in files if path.parent.name == "stimuli"}
        assert set(stimuli.KINDS) <= drawing, script
    for path in (ROOT / "workflow").rglob("*.py"):
        assert "import_module" not in path.read_text(), path
