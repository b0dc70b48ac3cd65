"""How an image dataset lies in an HDF5 file: names, chunks, compression, attributes."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from patchwork.stimuli.common.batch import Batch, LabelAttributes

SCHEMA = "patchwork-images"
SCHEMA_VERSION = 1
# Mappings and lists are kept as JSON under a name that says so; nothing is ever unpickled.
_JSON_SUFFIX = "_json"
# Blosc2 starts a thread per core by default, which for chunks of one small image costs more than it
# gives, the more so when jobs run side by side; whoever sets the variable is heard.
os.environ.setdefault("BLOSC_NTHREADS", "1")
_COMPRESSION = hdf5plugin.Blosc2(cname="zstd", clevel=1, filters=hdf5plugin.Blosc2.NOFILTER)


def open_checked(path: Path) -> h5py.File:
    """Opens a dataset file read-only; raises ValueError if it is not one of this layout."""
    if not path.is_file():
        raise ValueError(f"{path}: no such dataset file")
    try:
        # No lock: readers in other processes and on network disks must not block one another.
        # Images are read once in shuffled order, so a chunk cache would only copy them twice.
        file = h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    except OSError as error:
        raise ValueError(f"{path}: truncated or not an HDF5 file ({one_line(error)})") from error
    schema, version = file.attrs.get("schema"), file.attrs.get("schema_version")
    if schema != SCHEMA or version != SCHEMA_VERSION:
        file.close()
        raise ValueError(
            f"{path}: schema is {schema!r} version {version}; allowed is {SCHEMA!r} version "
            f"{SCHEMA_VERSION}"
        )
    return file


def set_attributes(file: h5py.File, attributes: Mapping[str, object]) -> None:
    """Writes the schema and how the file was made."""
    file.attrs.update({"schema": SCHEMA, "schema_version": SCHEMA_VERSION})
    for name, value in attributes.items():
        if isinstance(value, str | int | float | np.number):
            file.attrs[name] = value
        else:
            file.attrs[name + _JSON_SUFFIX] = json.dumps(value, sort_keys=True)


def get_attributes(file: h5py.File) -> dict[str, object]:
    """Reads back what `set_attributes` wrote, the schema included."""
    return {
        name.removesuffix(_JSON_SUFFIX): json.loads(value)
        if name.endswith(_JSON_SUFFIX)
        else (value.item() if isinstance(value, np.generic) else value)
        for name, value in file.attrs.items()
    }


def read_label_attributes(column: h5py.Dataset) -> LabelAttributes:
    """Unit and range of one label."""
    low, high = column.attrs["range"]
    names = tuple(column.attrs.get("names", ()))
    return LabelAttributes(column.attrs["units"], float(low), float(high), names)


def columns_of(batch: Batch) -> dict[str, np.ndarray]:
    """Each array of a batch under the name that it has in the file."""
    return {
        "images": batch.images,
        **{f"labels/{name}": values for name, values in batch.labels.items()},
        **{f"extras/{name}": values for name, values in batch.extras.items()},
    }


def column_names(file: h5py.File) -> list[str]:
    """Name of each array in the file."""
    groups = [group for group in ("labels", "extras") if group in file]
    return ["images", *(f"{group}/{name}" for group in groups for name in file[group])]


def create(
    file: h5py.File, batch: Batch, n: int, label_attributes: Mapping[str, LabelAttributes]
) -> None:
    """Lays out the file for `n` images like those of the first batch."""
    if set(batch.labels) != set(label_attributes):
        odd = sorted(set(batch.labels) ^ set(label_attributes))
        raise ValueError(f"labels and label_attributes differ in {', '.join(odd)}; allowed is none")
    for name, values in columns_of(batch).items():
        if name.startswith("labels/"):
            file.create_dataset(name, (n,), values.dtype)
        else:
            file.create_dataset(
                name,
                (n, *values.shape[1:]),
                np.uint8,
                chunks=(1, *values.shape[1:]),
                **_COMPRESSION,
            )
    for name, label in label_attributes.items():
        column = file[f"labels/{name}"]
        column.attrs["units"] = label.units
        column.attrs["range"] = (label.minimum, label.maximum)
        if label.names:
            column.attrs["names"] = list(label.names)


def create_like(file: h5py.File, template: h5py.File, n: int) -> None:
    """Lays out `file` as the template is, for `n` images."""
    for name, value in template.attrs.items():
        file.attrs[name] = value
    for name in column_names(template):
        source = template[name]
        if name.startswith("labels/"):
            target = file.create_dataset(name, (n,), source.dtype)
        else:
            shape = (n, *source.shape[1:])
            target = file.create_dataset(
                name, shape, np.uint8, chunks=source.chunks, **_COMPRESSION
            )
        for key, value in source.attrs.items():
            target.attrs[key] = value


def copy_rows(source: h5py.Dataset, target: h5py.Dataset, first: int) -> None:
    """Copies all rows of a column to rows `first` and on."""
    if source.chunks is None:
        target[first : first + len(source)] = source[:]
        return
    rest = (0,) * (source.ndim - 1)
    for row in range(len(source)):
        mask, chunk = source.id.read_direct_chunk((row, *rest))
        target.id.write_direct_chunk((first + row, *rest), chunk, mask)


def read_rows(data: h5py.Dataset, rows: np.ndarray) -> np.ndarray:
    """Reads rows one by one into one array: fancy indexing of chunked images is far slower."""
    shape = data.shape[1:]
    out = np.empty((len(rows), *shape), dtype=data.dtype)
    space, memory = data.id.get_space(), h5py.h5s.create_simple((1, *shape))
    origin, count = (0,) * len(shape), (1, *shape)
    for target, row in enumerate(rows):
        space.select_hyperslab((int(row), *origin), count)
        data.id.read(memory, space, out[target : target + 1])
    return out


def one_line(error: BaseException) -> str:
    """The message of an error without its line breaks."""
    return " ".join(str(error).split())
