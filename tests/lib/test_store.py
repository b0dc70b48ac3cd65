import os
import re
import stat
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import h5py
import numpy as np
import pytest
from patchwork.data import store
from patchwork.stimuli import Batch, LabelAttributes, concatenate

LABELS = {
    "angle_deg": LabelAttributes("deg", 0, 360),
    "colour": LabelAttributes("index", 0, 1, ("red", "blue")),
}
SETTINGS = {"image_px": 8, "noise_levels": [0.0, 0.1]}


def _attributes(first=0, **more):
    return {"seed": 7, "settings": SETTINGS, "first_index": first, "code": "abc", **more}


def _batch(n, seed=0, extras=False):
    draw = np.random.default_rng(seed)
    return Batch(
        images=draw.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8),
        labels={"angle_deg": draw.uniform(0, 360, n), "colour": draw.integers(0, 2, n)},
        extras={"clean": draw.integers(0, 9, (n, 8, 8, 1), dtype=np.uint8)} if extras else {},
    )


def _write(path, *batches, **changes):
    n = sum(len(batch) for batch in batches)
    arguments = {"n": n, "attributes": _attributes(), "label_attributes": LABELS, **changes}
    store.write(path, iter(batches), **arguments)
    return path


def _assert_same(one, other):
    np.testing.assert_array_equal(one.images, other.images)
    assert set(one.labels) == set(other.labels)
    assert set(one.extras) == set(other.extras)
    for name in one.labels:
        np.testing.assert_array_equal(one.labels[name], other.labels[name])
    for name in one.extras:
        np.testing.assert_array_equal(one.extras[name], other.extras[name])


@pytest.mark.parametrize("extras", [False, True])
def test_what_is_written_comes_back(tmp_path, extras):
    parts = [_batch(5, 1, extras), _batch(3, 2, extras), _batch(1, 3, extras)]
    path = _write(tmp_path / "sub" / "a.h5", *parts)
    _assert_same(store.read(path), concatenate(parts))
    with store.Reader(path) as reader:
        assert len(reader) == 9
        assert reader.images.chunks == (1, 8, 8, 3)
        assert reader.attributes["settings"] == SETTINGS
        assert reader.attributes["seed"] == 7
        assert reader.label_attributes == LABELS
    assert os.listdir(path.parent) == ["a.h5"]


def test_a_file_is_as_readable_as_others(tmp_path):
    path = _write(tmp_path / "a.h5", _batch(2))
    (tmp_path / "plain").write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_any_rows_in_any_order(tmp_path):
    batch = _batch(20)
    rows = np.array([19, 3, 3, 0, 11])
    with store.Reader(_write(tmp_path / "a.h5", batch)) as reader:
        got = reader.read(rows)
        np.testing.assert_array_equal(got.images, batch.images[rows])
        np.testing.assert_array_equal(got.labels["colour"], batch.labels["colour"][rows])
        assert len(reader.read(slice(2, 5))) == 3
        assert reader.read(np.array([], dtype=int)).images.shape == (0, 8, 8, 3)
        for bad in ([20], [-1]):
            with pytest.raises(ValueError, match="allowed is 0 to 19"):
                reader.read(np.array(bad))


def test_batches_cover_the_order_once(tmp_path):
    batch = _batch(23)
    order = np.random.default_rng(1).permutation(23)
    with store.Reader(_write(tmp_path / "a.h5", batch)) as reader:
        parts = list(reader.batches(order, 5))
        assert [len(part) for part in parts] == [5, 5, 5, 5, 3]
        np.testing.assert_array_equal(concatenate(parts).images, batch.images[order])
        assert list(reader.batches(np.array([], dtype=int), 5)) == []
        half = reader.batches(order, 5)
        next(half)
        half.close()  # a loop left early leaves no thread behind


def test_merged_shards_equal_one_file(tmp_path):
    parts = [_batch(5, 1, True), _batch(2, 2, True), _batch(4, 3, True)]
    starts = [100, 105, 107]
    shards = [
        _write(tmp_path / f"{i}.h5", part, attributes=_attributes(start))
        for i, (part, start) in enumerate(zip(parts, starts, strict=True))
    ]
    store.merge(shards, tmp_path / "all.h5")
    _assert_same(store.read(tmp_path / "all.h5"), concatenate(parts))
    with store.Reader(tmp_path / "all.h5") as reader:
        assert reader.attributes["first_index"] == 100
        assert reader.label_attributes == LABELS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": 6}, r"1\.h5: first_index is 6; allowed is 5"),
        ({"seed": 8}, r"1\.h5: seed is 8; allowed is that of .*0\.h5, 7"),
        ({"settings": {}}, r"1\.h5: settings is \{\}"),
        ({"code": "x"}, r"1\.h5: code is 'x'"),
    ],
)
def test_shards_that_do_not_fit_are_refused(tmp_path, change, message):
    first = _write(tmp_path / "0.h5", _batch(5))
    attributes = _attributes(**{"first": 5, **change})
    second = _write(tmp_path / "1.h5", _batch(5), attributes=attributes)
    with pytest.raises(ValueError, match=message):
        store.merge([first, second], tmp_path / "all.h5")
    assert not (tmp_path / "all.h5").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 4}, "batches hold more than 4 images"),
        ({"n": 6}, "batches hold 5 images; allowed is n = 6"),
        ({"label_attributes": {}}, "labels and label_attributes differ in angle_deg, colour"),
    ],
)
def test_a_failed_write_leaves_the_earlier_file(tmp_path, change, message):
    path = _write(tmp_path / "a.h5", _batch(3, 9))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        _write(path, _batch(5), **change)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.h5"]


def test_batches_of_another_shape_are_refused(tmp_path):
    other = Batch(np.zeros((2, 4, 4, 3), np.uint8), _batch(2).labels)
    with pytest.raises(ValueError, match=r"images has shape \(2, 4, 4, 3\)"):
        _write(tmp_path / "a.h5", _batch(2), other)
    assert os.listdir(tmp_path) == []


def test_an_interrupted_generator_leaves_nothing(tmp_path):
    def broken():
        yield _batch(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write(
            tmp_path / "a.h5", broken(), n=4, attributes=_attributes(), label_attributes=LABELS
        )
    assert os.listdir(tmp_path) == []


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
import test_store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    test_store._write({path!r}, *[test_store._batch(500, i) for i in range(20)])
except OSError as error:
    print(error)
    sys.exit(3)
"""


def test_a_full_disk_gives_one_line_and_keeps_the_earlier_file(tmp_path):
    path = _write(tmp_path / "a.h5", _batch(3, 9))
    before = path.read_bytes()
    program = FULL_DISK.format(tests=os.path.dirname(__file__), path=str(path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert re.fullmatch(r".*a\.h5: cannot write dataset \(.+\)\n", done.stdout)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.h5"]


def _truncate(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])


def test_files_that_are_no_dataset_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.h5: no such dataset file"):
        store.read(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("not a dataset")
    with pytest.raises(ValueError, match=r"text\.h5: truncated or not an HDF5 file"):
        store.read(tmp_path / "text.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["images"] = np.zeros((2, 8, 8, 3))
    with pytest.raises(ValueError, match=r"foreign\.h5: schema is None"):
        store.read(tmp_path / "foreign.h5")
    with h5py.File(_write(tmp_path / "old.h5", _batch(2)), "a") as file:
        file.attrs["schema_version"] = 99
    with pytest.raises(ValueError, match=r"old\.h5: .*version 99; allowed is"):
        store.read(tmp_path / "old.h5")
    with h5py.File(_write(tmp_path / "part.h5", _batch(2)), "a") as file:
        del file["labels"]
    with pytest.raises(ValueError, match=r"part\.h5: damaged dataset"):
        store.read(tmp_path / "part.h5")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_files_are_named(tmp_path, share):
    path = _write(tmp_path / "a.h5", _batch(50))
    _truncate(path, share)
    with pytest.raises(ValueError, match=r"a\.h5: truncated or not an HDF5 file") as error:
        store.read(path)
    assert "\n" not in str(error.value)


def test_damaged_images_are_named(tmp_path):
    path = _write(tmp_path / "a.h5", _batch(50))
    with h5py.File(path, "r") as file:
        start = file["images"].id.get_chunk_info(20).byte_offset
    with open(path, "r+b") as raw:
        raw.seek(start)
        raw.write(b"\xff" * 100)
    with store.Reader(path) as reader:
        reader.read(range(20))
        with pytest.raises(ValueError, match=r"a\.h5: damaged images"):
            reader.read(range(50))


def _sum_of(path):
    return int(store.read(path).images.astype(int).sum())


def test_several_processes_read_one_file(tmp_path):
    batch = _batch(30)
    path = _write(tmp_path / "a.h5", batch)
    path.chmod(0o444)
    with store.Reader(path), ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        sums = list(pool.map(_sum_of, [path] * 3))
    assert sums == [int(batch.images.astype(int).sum())] * 3


def test_no_reader_changes_a_file(tmp_path):
    with (
        store.Reader(_write(tmp_path / "a.h5", _batch(3))) as reader,
        pytest.raises((KeyError, OSError), match="no write intent"),
    ):
        reader.file.attrs["seed"] = 1
