"""The HDF5 layout of image datasets: write, merge, read, stream batches.

One image a chunk, compressed with Blosc2-Zstd at level 1, so that shuffled reads decompress what
they need and no more. Layout: `images` and optional `extras/<name>` (n, height, width, channels)
uint8; `labels/<name>` (n,) with `units`, `range` and, for indices, `names` as attributes; the
file's own attributes say how it was made.
"""

import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import h5py
import hdf5plugin
import numpy as np

from patchwork.stimuli.common.batch import Batch, LabelAttributes

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

SCHEMA = "patchwork-images"
SCHEMA_VERSION = 1
# Mappings and lists are kept as JSON under a name that says so; nothing is ever unpickled.
_JSON_SUFFIX = "_json"
# Blosc2 starts a thread per core by default, which for chunks of one small image costs more than it
# gives, the more so when jobs run side by side; whoever sets the variable is heard.
os.environ.setdefault("BLOSC_NTHREADS", "1")
_MOST_BYTES = 300_000_000  # of one image
_COMPRESSION = hdf5plugin.Blosc2(cname="zstd", clevel=1, filters=hdf5plugin.Blosc2.NOFILTER)


def write(
    path: str | Path,
    batches: Iterable[Batch],
    *,
    n: int,
    attributes: Mapping[str, object],
    label_attributes: Mapping[str, LabelAttributes],
) -> None:
    """Writes a dataset as its batches arrive; the file appears whole or not at all.

    Args:
        path: where the file will lie; an earlier file stays until the new one is complete.
        batches: at least one; together `n` images of one size, held one batch at a time.
        n: number of images, at least 1.
        attributes: seed, settings, first_index, code and more: numbers, text, or mappings and
            lists that JSON can hold.
        label_attributes: unit and range of each label, the same names as in the batches.

    Raises:
        ValueError: if the batches disagree with each other, with `n` or with `label_attributes`.
        OSError: if the file cannot be written, for one when the disk is full.
    """

    def fill(file: h5py.File, output: _Output) -> None:
        _set_attributes(file, attributes)
        written = 0
        for batch in batches:
            if written == 0:
                _create(file, batch, n, label_attributes)
            _check_batch(path, file, batch, written, n)
            for name, values in _columns_of(batch).items():
                file[name][written : written + len(batch)] = values
            written += len(batch)
            output.check()
        if written != n:
            raise ValueError(f"{path}: batches hold {written} images; allowed is n = {n}")

    _replace(Path(path), fill)


def merge(shards: Sequence[str | Path], path: str | Path) -> None:
    """Joins shards into one file; compressed images are copied as they are.

    Args:
        shards: files of `write`, in order, of one seed, settings and code, whose image numbers
            follow each other.
        path: where the file will lie.

    Raises:
        ValueError: if one cannot be read, or they do not fit together.
        OSError: if the file cannot be written.
    """
    n = _check_shards(shards)

    def fill(file: h5py.File, output: _Output) -> None:
        written = 0
        for shard in shards:
            with Reader(shard) as reader:
                if written == 0:
                    _create_like(file, reader.file, n)
                for name in _column_names(reader.file):
                    _copy_rows(reader.file[name], file[name], written)
                written += len(reader)
            output.check()

    _replace(Path(path), fill)


class Reader:
    """An open dataset, read-only; several processes may read one file.

    Args:
        path: a file of `write` or `merge`.

    Attributes:
        file: the open HDF5 file.
        labels: name to array of shape (n,), all in memory.
        label_attributes: unit and range of each label.
        attributes: how the file was made.

    Raises:
        ValueError: if the file is missing, truncated, of another kind or of another version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.file = _open_checked(self.path)
        try:
            _check_columns(self.file, self.path)
            self._images = self.file["images"]
            self.labels: dict[str, np.ndarray] = {
                name: column[:] for name, column in self.file["labels"].items()
            }
            self.label_attributes = {
                name: _read_label_attributes(column) for name, column in self.file["labels"].items()
            }
            self.attributes = _get_attributes(self.file)
        except Exception as error:  # of many kinds, by what is broken in the file
            self.file.close()
            raise ValueError(f"{path}: damaged dataset ({_one_line(error)})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.file.close()

    def __len__(self) -> int:
        return len(self._images)

    @property
    def images(self) -> h5py.Dataset:
        """The images on disk, shape (n, height, width, 3), uint8."""
        return self._images

    def read(self, indices: np.ndarray | range | slice) -> Batch:
        """Reads some images with their labels.

        Args:
            indices: rows, shape (k,), 0 to len - 1, in any order, repeats allowed.

        Returns:
            k images in the order asked for.

        Raises:
            ValueError: if a row does not exist or its bytes are damaged.
        """
        rows = np.arange(len(self))[indices] if isinstance(indices, slice) else np.asarray(indices)
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise ValueError(
                f"indices run from {rows.min()} to {rows.max()}; allowed is 0 to {len(self) - 1} "
                f"in {self.path}"
            )
        extras = self.file.get("extras", {})
        try:
            return Batch(
                images=_read_rows(self._images, rows),
                labels={name: column[rows] for name, column in self.labels.items()},
                extras={name: _read_rows(data, rows) for name, data in extras.items()},
            )
        except Exception as error:  # of many kinds, by what is broken in the file
            raise ValueError(f"{self.path}: damaged images ({_one_line(error)})") from error

    def batches(self, order: np.ndarray | range, batch_size: int) -> Iterator[Batch]:
        """Streams batches in a given order, one batch ahead of its user.

        Args:
            order: rows, shape (k,).
            batch_size: images a batch; the last may be smaller.

        Raises:
            ValueError: as in `read`.
        """
        yield from read_ahead(self.read, np.asarray(order), batch_size)


Read = TypeVar("Read")


def read_ahead(
    read: Callable[[np.ndarray], Read], order: np.ndarray, batch_size: int
) -> Iterator[Read]:
    """Batches of rows in a given order, each read while the one before is used.

    Args:
        read: rows, shape (k,), to a batch.
        order: rows, shape (n,).
        batch_size: rows a batch, at least 1; the last may be smaller.
    """
    parts = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(read, parts[0]) if parts else None
        for following in [*parts[1:], None]:
            if ahead is None:
                return
            batch = ahead.result()
            ahead = None if following is None else pool.submit(read, following)
            yield batch


def read(path: str | Path, n_most: int | None = None) -> Batch:
    """Reads the first `n_most` examples, or all, into memory; raises as `Reader` does."""
    with Reader(path) as reader:
        n = len(reader)
        return reader.read(range(n if n_most is None else min(n_most, n)))


class _Output(io.FileIO):
    """A file that keeps its first write error until `check`.

    HDF5 crashes the process when it cannot write what it holds while it closes; so no error
    reaches it, and the first one is raised afterwards.
    """

    failure: OSError | None = None

    def write(self, data: "Buffer") -> int:
        """Writes all of the data, or remembers why not."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self.failure is None and len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.failure = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Sets the size of the file, or remembers why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    def check(self) -> None:
        """Raises the first error there was."""
        if self.failure is not None:
            raise self.failure


def _replace(path: Path, fill: Callable[[h5py.File, _Output], None]) -> None:
    """Fills a temporary file beside `path` and renames it; on any failure it leaves no trace."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    try:
        with _Output(handle, "w+b") as output:
            # The newer format has checksums of all that is no image, and images have their own.
            with h5py.File(output, "w", libver="v110") as file:
                fill(file, output)
            output.check()
            os.fsync(handle)
        # A file of mkstemp is private; a dataset is as readable as any other file made here.
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except OSError as error:
        reason = error.strerror or _one_line(error)
        raise OSError(f"{path}: cannot write dataset ({reason})") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _check_batch(path: str | Path, file: h5py.File, batch: Batch, written: int, n: int) -> None:
    columns = _columns_of(batch)
    if set(columns) != set(_column_names(file)):
        odd = sorted(set(columns) ^ set(_column_names(file)))
        raise ValueError(
            f"{path}: batches differ in {', '.join(odd)}; allowed is one set of labels"
        )
    for name, values in columns.items():
        expected = (len(batch), *file[name].shape[1:])
        if values.shape != expected or values.dtype != file[name].dtype:
            raise ValueError(
                f"{path}: {name} has shape {values.shape} {values.dtype}; allowed is {expected} "
                f"{file[name].dtype}"
            )
    if written + len(batch) > n:
        raise ValueError(f"{path}: batches hold more than {n} images; allowed is n = {n}")


def _identity(reader: Reader) -> dict[str, object]:
    """What shards of one dataset have in common."""
    columns = {name: reader.file[name].shape[1:] for name in _column_names(reader.file)}
    made = {key: value for key, value in reader.attributes.items() if key != "first_index"}
    return {**made, "columns": columns, "labels": reader.label_attributes}


def _check_shards(shards: Sequence[str | Path]) -> int:
    """Number of images in all shards; raises ValueError if they are not one dataset in order."""
    identity: dict[str, object] = {}
    first = following = 0
    for position, shard in enumerate(shards):
        with Reader(shard) as reader:
            start, own = int(str(reader.attributes["first_index"])), _identity(reader)
            if position == 0:
                identity, first, following = own, start, start
            odd = [k for k in {**identity, **own} if identity.get(k) != own.get(k)]
            if odd:
                raise ValueError(
                    f"{shard}: {odd[0]} is {own.get(odd[0])!r}; allowed is that of {shards[0]}, "
                    f"{identity.get(odd[0])!r}"
                )
            if start != following:
                raise ValueError(f"{shard}: first_index is {start}; allowed is {following}")
            following += len(reader)
    return following - first


def _open_checked(path: Path) -> h5py.File:
    """Opens a dataset file read-only; raises ValueError if it is not one of this layout."""
    if not path.is_file():
        raise ValueError(f"{path}: no such dataset file")
    try:
        # No lock: readers in other processes and on network disks must not block one another.
        # Images are read once in shuffled order, so a chunk cache would only copy them twice.
        file = h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    except OSError as error:
        raise ValueError(f"{path}: truncated or not an HDF5 file ({_one_line(error)})") from error
    try:
        schema, version = _text(file.attrs.get("schema")), file.attrs.get("schema_version")
    except Exception as error:  # of many kinds, by what is broken in the file
        file.close()
        raise ValueError(f"{path}: damaged dataset ({_one_line(error)})") from error
    if schema != SCHEMA or version != SCHEMA_VERSION:
        file.close()
        raise ValueError(
            f"{path}: schema is {schema!r} version {version}; allowed is {SCHEMA!r} version "
            f"{SCHEMA_VERSION}"
        )
    return file


def _check_columns(file: h5py.File, path: Path) -> None:
    """Stops at columns that hold less than they claim, before they are read."""
    images, size = file["images"], path.stat().st_size
    n = len(images)
    for name in _column_names(file):
        column = file[name]
        pictures = not name.startswith("labels/")
        fits = len(column) == n and column.ndim == (4 if pictures else 1)
        if pictures:
            row = math.prod(column.shape[1:])
            whole = column.id.get_num_chunks() == n and column.chunks == (1, *column.shape[1:])
            fits = fits and whole and column.dtype == np.uint8 and row <= _MOST_BYTES
        if not fits or (not pictures and column.nbytes > size):
            raise ValueError(f"{name} claims {column.shape} of {column.dtype}, which it has not")


def _set_attributes(file: h5py.File, attributes: Mapping[str, object]) -> None:
    """Writes the schema and how the file was made."""
    for name, value in {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **attributes}.items():
        if isinstance(value, str):
            file.attrs[name] = _fixed(value)
        elif isinstance(value, int | float | np.number):
            file.attrs[name] = value
        else:
            file.attrs[name + _JSON_SUFFIX] = _fixed(json.dumps(value, sort_keys=True))


def _fixed(text: str) -> np.ndarray:
    """Text of fixed length: HDF5 keeps other text where no checksum is, and may read it forever."""
    content = text.encode()
    return np.array(content, h5py.string_dtype("utf-8", max(1, len(content))))


def _text(value: object) -> object:
    """Text as it was given, anything else unchanged."""
    return value.decode() if isinstance(value, bytes) else value


def _get_attributes(file: h5py.File) -> dict[str, object]:
    """Reads back what `set_attributes` wrote, the schema included."""
    return {
        name.removesuffix(_JSON_SUFFIX): json.loads(value)
        if name.endswith(_JSON_SUFFIX)
        else (value.item() if isinstance(value, np.number) else _text(value))
        for name, value in file.attrs.items()
    }


def _read_label_attributes(column: h5py.Dataset) -> LabelAttributes:
    """Unit and range of one label."""
    low, high = column.attrs["range"]
    names = tuple(str(_text(name)) for name in column.attrs.get("names", ()))
    return LabelAttributes(str(_text(column.attrs["units"])), float(low), float(high), names)


def _columns_of(batch: Batch) -> dict[str, np.ndarray]:
    """Each array of a batch under the name that it has in the file."""
    return {
        "images": batch.images,
        **{f"labels/{name}": values for name, values in batch.labels.items()},
        **{f"extras/{name}": values for name, values in batch.extras.items()},
    }


def _column_names(file: h5py.File) -> list[str]:
    """Name of each array in the file."""
    groups = [group for group in ("labels", "extras") if group in file]
    return ["images", *(f"{group}/{name}" for group in groups for name in file[group])]


def _create(
    file: h5py.File, batch: Batch, n: int, label_attributes: Mapping[str, LabelAttributes]
) -> None:
    """Lays out the file for `n` images like those of the first batch."""
    if set(batch.labels) != set(label_attributes):
        odd = sorted(set(batch.labels) ^ set(label_attributes))
        raise ValueError(f"labels and label_attributes differ in {', '.join(odd)}; allowed is none")
    for name, values in _columns_of(batch).items():
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
        column.attrs["units"] = _fixed(label.units)
        column.attrs["range"] = (label.minimum, label.maximum)
        if label.names:
            column.attrs["names"] = np.array([name.encode() for name in label.names])


def _create_like(file: h5py.File, template: h5py.File, n: int) -> None:
    """Lays out `file` as the template is, for `n` images."""
    for name, value in template.attrs.items():
        file.attrs[name] = value
    for name in _column_names(template):
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


def _copy_rows(source: h5py.Dataset, target: h5py.Dataset, first: int) -> None:
    """Copies all rows of a column to rows `first` and on."""
    if source.chunks is None:
        target[first : first + len(source)] = source[:]
        return
    rest = (0,) * (source.ndim - 1)
    for row in range(len(source)):
        mask, chunk = source.id.read_direct_chunk((row, *rest))
        target.id.write_direct_chunk((first + row, *rest), chunk, mask)


def _read_rows(data: h5py.Dataset, rows: np.ndarray) -> np.ndarray:
    """Reads rows one by one into one array: fancy indexing of chunked images is far slower."""
    shape = data.shape[1:]
    out = np.empty((len(rows), *shape), dtype=data.dtype)
    space, memory = data.id.get_space(), h5py.h5s.create_simple((1, *shape))
    origin, count = (0,) * len(shape), (1, *shape)
    for target, row in enumerate(rows):
        space.select_hyperslab((int(row), *origin), count)
        data.id.read(memory, space, out[target : target + 1])
    return out


def _one_line(error: BaseException) -> str:
    """The message of an error without its line breaks."""
    return " ".join(str(error).split())
