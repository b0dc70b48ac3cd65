import io
import logging
from types import MappingProxyType

import numpy as np
import pytest
import torchvision
from patchwork import stimuli
from patchwork.data import pictures
from PIL import Image
from torchvision.datasets import VisionDataset


def drawn(width=20, height=16, seed=0):
    rng = np.random.Generator(np.random.Philox(seed))
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(folder, name, picture, **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    picture.save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes of lossless pictures; the classes differ in number."""
    for i in range(3):
        save(tmp_path, f"cat/{i}.png", drawn(seed=i))
    for i in range(2):
        save(tmp_path, f"ape/{i}.png", drawn(16, 24, seed=10 + i))
    return tmp_path


def find(path, side_px=16, colour=True):
    return pictures.find({"kind": "folder", "path": str(path)}, side_px=side_px, colour=colour)


def complaint(source, side_px=16, colour=True):
    with pytest.raises(ValueError, match=r".") as caught:
        pictures.find(source, side_px=side_px, colour=colour)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def of_folder(path, **options):
    return complaint({"kind": "folder", "path": str(path)}, **options)


def test_a_folder_gives_its_pictures_with_their_classes(folder):
    found = find(folder)
    assert found.classes == ("ape", "cat")
    assert found.n == 5
    whole = stimuli.concatenate(list(found.batches()))
    assert whole.labels["class"].tolist() == [0, 0, 1, 1, 1]
    # The middle of each, px by px: side_px is their short side, so nothing is resampled.
    for one, seed in zip(whole.images, (10, 11), strict=False):
        assert np.array_equal(one, drawn(16, 24, seed)[4:20])
    for one, seed in zip(whole.images[2:], (0, 1, 2), strict=True):
        assert np.array_equal(one, drawn(seed=seed)[:, 2:18])
    assert found.label_attributes["class"].names == ("ape", "cat")
    assert found.label_attributes["class"].maximum == 1
    again = stimuli.concatenate(list(found.batches()))
    assert np.array_equal(again.images, whole.images)


def test_large_pictures_shrink_to_their_short_side():
    wide = np.zeros((32, 64, 3), np.uint8)
    wide[:, 16:32] = (200, 0, 0)
    wide[:, 32:48] = (0, 0, 200)
    got = pictures.square(Image.fromarray(wide), 8)
    assert got.shape == (8, 8, 3)
    assert np.abs(got[:, 0].astype(int) - (200, 0, 0)).max() < 30
    assert np.abs(got[:, 7].astype(int) - (0, 0, 200)).max() < 30
    assert np.array_equal(got[0], got[7])


def test_pictures_stand_the_right_way_up():
    """A camera that was turned says so in the file; what it saw as up is up."""
    whole = drawn(16, 16)
    handle, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(whole).save(handle, "PNG", exif=exif)
    handle.seek(0)
    assert np.array_equal(pictures.square(Image.open(handle), 16), np.rot90(whole, -1))


def test_a_listing_tells_folders_apart(folder):
    before = find(folder).provenance["listing_sha256"]
    assert find(folder).provenance == {"kind": "folder", "n": 5, "listing_sha256": before}
    (folder / "ape/1.png").rename(folder / "cat/9.png")
    assert find(folder).provenance["listing_sha256"] != before


def test_a_folder_of_one_class_or_none_is_refused(folder, tmp_path):
    for path in sorted((folder / "ape").iterdir()):
        path.unlink()
    message = of_folder(folder)
    assert "ape" in message  # an empty class is named
    (folder / "ape").rmdir()
    message = of_folder(folder)
    assert str(folder) in message
    assert "holds 1 class; allowed is one folder for each of 2" in message
    assert "allowed is one folder per class" in of_folder(folder / "cat")
    assert "allowed is a folder of images" in of_folder(tmp_path / "absent")


def test_files_that_are_no_pictures_are_counted_and_the_first_is_named(folder):
    handle = io.BytesIO()
    Image.fromarray(drawn(64, 64)).save(handle, "JPEG")
    (folder / "cat/half.jpg").write_bytes(handle.getvalue()[: len(handle.getvalue()) // 2])
    (folder / "cat/text.jpg").write_text("no picture at all")
    (folder / "cat/void.png").write_bytes(b"")
    message = of_folder(folder)
    assert message.startswith(f"{folder}: of 8 pictures 3 cannot be read (first: cat/half.jpg)")
    assert "remove or replace them" in message
    for name in ("text.jpg", "void.png"):
        (folder / "cat" / name).unlink()
    assert "of 6 pictures 1 cannot be read (first: cat/half.jpg)" in of_folder(folder)
    (folder / "cat/half.jpg").unlink()
    assert find(folder).n == 5


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_pictures_are_refused_where_colour_is_needed(folder, mode):
    for name in ("cat/a.png", "cat/b.png"):
        save(folder, name, Image.fromarray(drawn()).convert(mode))
    message = of_folder(folder)
    assert "of 7 pictures 2 are grey where a condition needs colour (first: cat/a.png)" in message
    whole = stimuli.concatenate(list(find(folder, colour=False).batches()))
    assert (np.ptp(whole.images, axis=-1) == 0).all((1, 2)).tolist() == [0, 0, 0, 0, 0, 1, 1]


def test_small_pictures_are_refused_and_every_fault_is_counted(folder):
    assert "of 5 pictures 5 are smaller than side_px 17 (first: ape/0.png)" in of_folder(
        folder, side_px=17
    )
    save(folder, "ape/tiny.png", drawn(40, 15))
    save(folder, "cat/tiny.png", drawn(15, 40))
    save(folder, "cat/grey.png", drawn()[..., 0])
    (folder / "cat/text.png").write_text("none")
    message = of_folder(folder)
    assert "2 are smaller than side_px 16 (first: ape/tiny.png)" in message
    assert "1 are grey where a condition needs colour (first: cat/grey.png)" in message
    assert "1 cannot be read (first: cat/text.png)" in message
    assert "of 9 pictures" in message


def test_deep_pictures_are_refused_rather_than_clipped(folder):
    save(folder, "cat/deep.png", np.full((16, 16), 30000, np.uint16))
    message = of_folder(folder, colour=False)
    assert "1 have more than 8 bits a channel (first: cat/deep.png)" in message


class Small(VisionDataset):
    """A data set of torchvision's kind, in memory."""

    classes = ("red", "green", "blue")
    n, found = 7, MappingProxyType({})

    def __init__(self, root, *, download):
        super().__init__(root)
        self.downloaded = download

    def __len__(self):
        return self.n

    def __getitem__(self, number):
        return self.found.get(number) or Image.fromarray(drawn(seed=number)), number % 3


def of_torchvision(monkeypatch, kind=Small, name="Small"):
    monkeypatch.setattr(torchvision.datasets, name, kind, raising=False)
    return {"kind": "torchvision", "name": name, "root": "somewhere", "download": False}


def test_a_data_set_of_torchvision_gives_its_pictures(monkeypatch):
    monkeypatch.setattr(pictures, "_BATCH", 3)
    found = pictures.find(of_torchvision(monkeypatch), side_px=16, colour=True)
    assert (found.n, found.classes) == (7, ("red", "green", "blue"))
    whole = stimuli.concatenate(list(found.batches()))
    assert whole.labels["class"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    for number, one in enumerate(whole.images):
        assert np.array_equal(one, drawn(seed=number)[:, 2:18])
    assert found.provenance == {"kind": "torchvision", "name": "Small", "n": 7}


@pytest.mark.parametrize("name", ["CIFAR1000", "transforms", "os", "__name__"])
def test_a_name_that_torchvision_lacks_is_named_with_the_way_out(name):
    source = {"kind": "torchvision", "name": name, "root": "somewhere", "download": False}
    message = complaint(source)
    assert f"pictures.source.name is {name!r}; allowed is a data set of torchvision" in message
    assert "kind: folder" in message


@pytest.mark.parametrize(
    "error",
    [
        OSError("<urlopen error [Errno -3] Temporary failure in name resolution>"),
        RuntimeError("Dataset not found or corrupted.\nYou can use download=True to download it"),
        RuntimeError(),
        ImportError("No module named scipy"),
    ],
)
def test_without_a_network_the_folder_is_named(monkeypatch, error):
    class Absent(Small):
        def __init__(self, root, *, download):
            raise error

    message = complaint(of_torchvision(monkeypatch, Absent))
    assert "torchvision cannot give Small (" in message
    assert "kind: folder, path:" in message


def test_a_real_data_set_that_is_not_there_names_the_folder(tmp_path):
    source = {"kind": "torchvision", "name": "CIFAR10", "root": str(tmp_path), "download": False}
    message = complaint(source)
    assert "torchvision cannot give CIFAR10 (Dataset not found or corrupted" in message
    assert "kind: folder, path:" in message
    # One whose pictures are made up has no classes and no place to be downloaded from.
    assert "cannot give FakeData" in complaint({**source, "name": "FakeData"})


def test_every_picture_of_a_data_set_is_looked_at(monkeypatch):
    odd = {270: drawn()[..., 0], 280: drawn(15, 90), 290: drawn(90, 15)}
    odd = {number: Image.fromarray(picture) for number, picture in odd.items()}
    kind = type("Small", (Small,), {"n": 300, "found": odd})
    message = complaint(of_torchvision(monkeypatch, kind))
    assert "of 300 pictures" in message
    assert "1 are grey where a condition needs colour (first: number 270)" in message
    assert "2 are smaller than side_px 16 (first: number 280)" in message


@pytest.mark.parametrize("change", [{"classes": ()}, {"classes": ("one",)}, {"n": 0}])
def test_a_data_set_without_classes_or_pictures_is_refused(monkeypatch, change):
    kind = type("Small", (Small,), change)
    assert "allowed is a data set of at least 2 classes" in complaint(
        of_torchvision(monkeypatch, kind)
    )


PROCEDURAL = {
    "kind": "procedural", "label": "shape", "n": 300, "seed": 7,
    "stimuli": {
        "kind": "objects", "orientation_statistics": "cardinal", "colour_statistics": "uniform",
        "clutter_probability": 0.5,
    },
}  # fmt: skip


def test_procedural_pictures_are_those_of_the_generator():
    found = pictures.find(PROCEDURAL, side_px=24, colour=True)
    whole = stimuli.concatenate(list(found.batches()))
    settings = {**PROCEDURAL["stimuli"], "image_px": 24}
    kind = settings.pop("kind")
    expected = stimuli.GENERATORS[kind](settings, seed=7, indices=range(300))
    assert np.array_equal(whole.images, expected.images)
    assert np.array_equal(whole.labels["class"], expected.labels["shape"])
    assert found.classes == stimuli.LABELS[kind](settings)["shape"].names
    assert set(whole.labels["class"]) == set(range(len(found.classes)))
    assert found.provenance["stimuli"] == PROCEDURAL["stimuli"]


def test_impossible_sources_are_named():
    for label in ("size_px", "smell"):
        message = complaint({**PROCEDURAL, "label": label})
        assert f"pictures.source.label is {label!r}; allowed is a label of named" in message


def test_checking_many_pictures_logs_progress(folder, caplog):
    with caplog.at_level(logging.INFO, logger="patchwork"):
        find(folder)
    assert "pictures checked: 5/5" in caplog.text
