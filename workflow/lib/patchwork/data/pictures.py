"""Pictures that backbones are pre-trained on, from a folder, a torchvision data set or drawn here.

They become one dataset file of equal squares with a `class` label; conditions are views of that
file.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps

from patchwork import stimuli
from patchwork.jobs.log import Progress
from patchwork.stimuli.common.batch import Batch, LabelAttributes

_BATCH = 256
# Formats that Pillow decodes itself, whatever a file's name: for EPS it would call Ghostscript.
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF")
_MOST_PIXELS = 100_000_000  # 300 MB in memory
# What torchvision raises where it cannot fetch or find a data set, or lacks a reader for it.
_UNAVAILABLE = (OSError, RuntimeError, TypeError, ImportError, HTTPException)
_GREY = ("1", "L", "LA", "La")


@dataclass(frozen=True)
class Pictures:
    """Pictures that can be read batch by batch.

    Attributes:
        n: how many.
        classes: names of the classes, in the order of their numbers.
        batches: gives all pictures, uint8 (m, side, side, 3), with label `class`.
        provenance: where they come from, and a digest of what was found there.
    """

    n: int
    classes: tuple[str, ...]
    batches: Callable[[], Iterator[Batch]]
    provenance: Mapping[str, object]

    @property
    def label_attributes(self) -> dict[str, LabelAttributes]:
        """Unit and range of the label."""
        return {"class": LabelAttributes("index", 0, len(self.classes) - 1, self.classes)}


def find(source: Mapping[str, Any], *, side_px: int, colour: bool) -> Pictures:
    """The pictures of a source, every file checked before anything else begins.

    Args:
        source: `kind` `folder` with `path` (one folder per class), `torchvision` with `name`,
            `root` and `download`, or `procedural` with `stimuli` (`kind` and settings of a
            generator), `label` (the class), `n` and `seed`.
        side_px: side of the squares, cut from the middle after shrinking the short side to it.
        colour: whether grey pictures are refused.

    Returns:
        The pictures.

    Raises:
        ValueError: in one line, for a folder with fewer than two classes, or with files that
            cannot be read, are grey where colour is needed, or are smaller than `side_px`; these
            are counted.
    """
    kinds = {"folder": _folder, "torchvision": _torchvision, "procedural": _procedural}
    return kinds[source["kind"]](source, side_px, colour)


def square(picture: Image.Image, side_px: int) -> np.ndarray:
    """The middle of a picture the right way up, uint8 (side_px, side_px, 3)."""
    rgb = ImageOps.exif_transpose(picture).convert("RGB")
    scale = side_px / min(rgb.size)
    if scale != 1:
        size = (max(side_px, round(rgb.width * scale)), max(side_px, round(rgb.height * scale)))
        rgb = rgb.resize(size, Image.Resampling.LANCZOS)
    left, top = (rgb.width - side_px) // 2, (rgb.height - side_px) // 2
    return np.asarray(rgb.crop((left, top, left + side_px, top + side_px)))


def _folder(source: Mapping[str, Any], side_px: int, colour: bool) -> Pictures:
    path = Path(source["path"])
    if not path.is_dir():
        raise ValueError(f"pictures.source.path is {str(path)!r}; allowed is a folder of images")
    from torchvision.datasets import ImageFolder  # seconds that pictures drawn here do without

    try:
        found = ImageFolder(str(path), allow_empty=False)
    except FileNotFoundError as error:
        text = _first_line(error)
        raise ValueError(f"{path}: {text}; allowed is one folder per class") from error
    files = [(str(Path(file).relative_to(path)), label) for file, label in found.samples]
    classes = tuple(found.classes)
    if len(classes) < 2:
        raise ValueError(f"{path}: holds {len(classes)} class; allowed is one folder for each of 2")
    names = [name for name, _ in files]
    with ThreadPoolExecutor(max_workers=2) as pool:
        wrong = pool.map(
            lambda n: _complaint(lambda: open_picture(path / n), side_px, colour), names
        )
        _refuse(str(path), names, wrong)
    listing = hashlib.sha256()
    for name, label in files:
        listing.update(f"{name}\0{label}\0{(path / name).stat().st_size}\n".encode())

    def batches() -> Iterator[Batch]:
        for first in range(0, len(files), _BATCH):
            part = files[first : first + _BATCH]
            images = [_opened(path / name, side_px) for name, _ in part]
            yield _batch(images, [label for _, label in part])

    provenance = {"kind": "folder", "n": len(files), "listing_sha256": listing.hexdigest()}
    return Pictures(len(files), classes, batches, provenance)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(". ")


def _opened(path: Path, side_px: int) -> np.ndarray:
    with open_picture(path) as picture:
        return square(picture, side_px)


def open_picture(file: Path | IO[bytes]) -> Image.Image:
    """Open a picture and decode nothing yet.

    Raises:
        ValueError: if it would fill the memory; and what Pillow raises for other files.
    """
    picture = Image.open(file, formats=_FORMATS)
    if math.prod(picture.size) > _MOST_PIXELS:
        picture.close()
        raise _TooLargeError(f"has more than {_MOST_PIXELS // 10**6} million pixels")
    return picture


class _TooLargeError(ValueError):
    """A picture of more pixels than are decoded."""


def _refuse(source: str, names: Sequence[str], wrong: Iterable[str]) -> None:
    """Counts what is wrong with pictures and names the first of each kind, if anything is."""
    progress = Progress("pictures checked", len(names))
    complaints: Counter[str] = Counter()
    first: dict[str, str] = {}
    for i, (name, complaint) in enumerate(zip(names, wrong, strict=True)):
        if complaint:
            complaints[complaint] += 1
            first.setdefault(complaint, name)
        progress.step(i + 1)
    if complaints:
        listed = "; ".join(f"{n} {what} (first: {first[what]})" for what, n in complaints.items())
        raise ValueError(f"{source}: of {len(names)} pictures {listed}; remove or replace them")


def _complaint(opened: Callable[[], Image.Image], side_px: int, colour: bool) -> str:
    """What is wrong with one picture, if anything."""
    try:
        with opened() as picture:
            picture.load()
            size, mode = picture.size, picture.mode
    except (_TooLargeError, Image.DecompressionBombError):
        return f"have more than {_MOST_PIXELS // 10**6} million pixels"
    except Exception:  # of many kinds, by what is broken in the file
        return "cannot be read"
    if min(size) < side_px:
        return f"are smaller than side_px {side_px}"
    if mode[0] in "IF":
        return "have more than 8 bits a channel"
    if colour and mode in _GREY:
        return "are grey where a condition needs colour"
    return ""


def _torchvision(source: Mapping[str, Any], side_px: int, colour: bool) -> Pictures:
    import torchvision
    from torchvision.datasets import VisionDataset

    name = source["name"]
    otherwise = "without a network a folder of images works: kind: folder, path: ..."
    kind = getattr(torchvision.datasets, name, None)
    if not (isinstance(kind, type) and issubclass(kind, VisionDataset)):
        raise ValueError(
            f"pictures.source.name is {name!r}; allowed is a data set of torchvision; {otherwise}"
        )
    try:
        found: Any = kind(source["root"], download=source["download"])
    except _UNAVAILABLE as error:
        text = _first_line(error)
        raise ValueError(
            f"pictures.source: torchvision cannot give {name} ({text}); {otherwise}"
        ) from error
    classes, n = tuple(getattr(found, "classes", ())), len(found)
    if len(classes) < 2 or not n:
        raise ValueError(
            f"pictures.source.name is {name}: {len(classes)} classes, {n} pictures; allowed is a "
            "data set of at least 2 classes"
        )
    # One after another: not every data set may be read by two threads at once.
    wrong = (_complaint(partial(_picture, found, i), side_px, colour) for i in range(n))
    _refuse(f"torchvision's {name}", [f"number {i}" for i in range(n)], wrong)

    def batches() -> Iterator[Batch]:
        for first in range(0, n, _BATCH):
            part = [found[i] for i in range(first, min(first + _BATCH, n))]
            yield _batch([square(p, side_px) for p, _ in part], [int(label) for _, label in part])

    provenance = {"kind": "torchvision", "name": name, "n": n}
    return Pictures(n, classes, batches, provenance)


def _picture(found: Any, number: int) -> Image.Image:
    return found[number][0]


def _procedural(source: Mapping[str, Any], side_px: int, colour: bool) -> Pictures:
    drawn = {**source["stimuli"], "image_px": side_px}
    kind, label = drawn.pop("kind"), source["label"]
    attributes = stimuli.LABELS[kind](drawn)
    if label not in attributes or not attributes[label].names:
        raise ValueError(f"pictures.source.label is {label!r}; allowed is a label of named classes")
    n, seed = source["n"], source["seed"]

    def batches() -> Iterator[Batch]:
        for batch in stimuli.stream(kind, drawn, seed=seed, indices=range(n)):
            yield _batch(list(batch.images), batch.labels[label].tolist())

    return Pictures(n, attributes[label].names, batches, {**source})


def _batch(images: list[np.ndarray], labels: list[int]) -> Batch:
    return Batch(np.stack(images), {"class": np.array(labels, dtype=np.int64)})
