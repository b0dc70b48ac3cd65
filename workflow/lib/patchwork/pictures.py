"""Pictures that backbones grow up with, from a folder, a torchvision data set or drawn here.

They become one dataset file of equal squares with a `class` label; arms are views of that file.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torchvision
from PIL import Image
from torchvision.datasets import ImageFolder, VisionDataset

from patchwork import stimuli
from patchwork.joblog import Progress
from patchwork.stimuli.batch import Batch, LabelAttributes

_BATCH = 256
# What a file that is no picture, or half of one, raises in PIL.
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


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
    """The pictures of a source, every file looked at before anything else begins.

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
    if source["kind"] not in kinds:
        raise ValueError(f"pictures.source.kind is {source['kind']!r}; allowed is {', '.join(kinds)}")
    return kinds[source["kind"]](source, side_px, colour)


def square(picture: Image.Image, side_px: int) -> np.ndarray:
    """The middle of a picture, uint8 (side_px, side_px, 3)."""
    rgb = picture.convert("RGB")
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
    try:
        found = ImageFolder(str(path), allow_empty=False)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: {_first_line(error)}; allowed is one folder per class") from error
    files = [(str(Path(file).relative_to(path)), label) for file, label in found.samples]
    classes = tuple(found.classes)
    if len(classes) < 2:
        raise ValueError(f"{path}: holds {len(classes)} class; allowed is one folder for each of 2")
    _look(path, [name for name, _ in files], side_px, colour)
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
    return str(error).splitlines()[0].rstrip(". ")


def _opened(path: Path, side_px: int) -> np.ndarray:
    with Image.open(path) as picture:
        return square(picture, side_px)


def _look(folder: Path, names: list[str], side_px: int, colour: bool) -> None:
    """Opens every file; the complaints are counted, the first of each kind is named."""
    progress = Progress("pictures looked at", len(names))
    complaints: Counter[str] = Counter()
    first: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=2) as pool:
        wrong = pool.map(lambda name: _complaint(folder / name, side_px, colour), names)
        for i, (name, complaint) in enumerate(zip(names, wrong, strict=True)):
            if complaint:
                complaints[complaint] += 1
                first.setdefault(complaint, name)
            progress.step(i + 1)
    if complaints:
        listed = "; ".join(f"{n} {what} (first: {first[what]})" for what, n in complaints.items())
        raise ValueError(f"{folder}: of {len(names)} files {listed}; remove or replace them")


def _complaint(path: Path, side_px: int, colour: bool) -> str:
    """What is wrong with one file, if anything."""
    try:
        with Image.open(path) as picture:
            picture.load()
            size, bands = picture.size, picture.getbands()
    except _UNREADABLE:
        return "cannot be read"
    if min(size) < side_px:
        return f"are smaller than side_px {side_px}"
    if colour and bands[0] in ("1", "L", "I", "F"):
        return "are grey where an arm needs colour"
    return ""


def _torchvision(source: Mapping[str, Any], side_px: int, colour: bool) -> Pictures:
    name = source["name"]
    kind = getattr(torchvision.datasets, name, None)
    if not (isinstance(kind, type) and issubclass(kind, VisionDataset)):
        raise ValueError(f"pictures.source.name is {name!r}; allowed is a data set of torchvision")
    try:
        found: Any = kind(source["root"], download=source["download"])
    except (OSError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"pictures.source: torchvision cannot give {name} ({_first_line(error)}); a folder of "
            "images works without a network: kind: folder, path: ..."
        ) from error
    names = tuple(getattr(found, "classes", ()))
    smallest = min(min(found[i][0].size) for i in range(min(len(found), _BATCH)))
    if len(names) < 2 or smallest < side_px or (colour and found[0][0].mode in ("1", "L")):
        raise ValueError(
            f"pictures.source.name is {name}: {len(names)} classes, side {smallest} px, mode "
            f"{found[0][0].mode}; allowed is 2 classes, {side_px} px, and RGB where an arm needs it"
        )

    def batches() -> Iterator[Batch]:
        for first in range(0, len(found), _BATCH):
            part = [found[i] for i in range(first, min(first + _BATCH, len(found)))]
            yield _batch([square(p, side_px) for p, _ in part], [int(label) for _, label in part])

    provenance = {"kind": "torchvision", "name": name, "n": len(found)}
    return Pictures(len(found), names, batches, provenance)


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
