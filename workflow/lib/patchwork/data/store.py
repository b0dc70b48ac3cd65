"""The HDF5 layout of image datasets: write, merge, read, stream batches.

One image a chunk, compressed with Blosc2-Zstd at level 1, so that shuffled reads decompress what
they need and no more. Layout: `images` and optional `extras/<name>` (n, height, width, channels)
uint8; `labels/<name>` (n,) with `units`, `range` and, for indices, `names` as attributes; the
file's own attributes say how it was made.
"""

import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import h5py
import numpy as np

from patchwork.data import layout
from patchwork.stimuli.common.batch import Batch, LabelAttributes

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

REQUIRED_ATTRIBUTES = ("seed", "settings", "first_index", "code")


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
        attributes: `REQUIRED_ATTRIBUTES` and more: numbers, text, or mappings and lists that JSON
            can hold.
        label_attributes: unit and range of each label, the same names as in the batches.

    Raises:
        ValueError: if the batches disagree with each other, with `n` or with `label_attributes`.
        OSError: if the file cannot be written, for one when the disk is full.
    """
    missing = [name for name in REQUIRED_ATTRIBUTES if name not in attributes]
    if missing:
        raise ValueError(f"attributes lack {', '.join(missing)}; required by {path}")
    if n < 1:
        raise ValueError(f"n is {n} for {path}; allowed is at least 1")

    def fill(file: h5py.File, output: _Output) -> None:
        layout.set_attributes(file, attributes)
        written = 0
        for batch in batches:
            if written == 0:
                layout.create(file, batch, n, label_attributes)
            _check_batch(path, file, batch, written, n)
            for name, values in layout.columns_of(batch).items():
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
        ValueError: if there is no shard, one cannot be read, or they do not fit together.
        OSError: if the file cannot be written.
    """
    if not shards:
        raise ValueError(f"shards is empty for {path}; allowed is at least one file")
    n = _check_shards(shards)

    def fill(file: h5py.File, output: _Output) -> None:
        written = 0
        for shard in shards:
            with Reader(shard) as reader:
                if written == 0:
                    layout.create_like(file, reader.file, n)
                for name in layout.column_names(reader.file):
                    layout.copy_rows(reader.file[name], file[name], written)
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
        self.file = layout.open_checked(self.path)
        try:
            self._images = self.file["images"]
            self.labels: dict[str, np.ndarray] = {
                name: column[:] for name, column in self.file["labels"].items()
            }
            self.label_attributes = {
                name: layout.read_label_attributes(column)
                for name, column in self.file["labels"].items()
            }
            self.attributes = layout.get_attributes(self.file)
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            self.file.close()
            raise ValueError(f"{path}: damaged dataset ({layout.one_line(error)})") from error

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
                images=layout.read_rows(self._images, rows),
                labels={name: column[rows] for name, column in self.labels.items()},
                extras={name: layout.read_rows(data, rows) for name, data in extras.items()},
            )
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{self.path}: damaged images ({layout.one_line(error)})") from error

    def batches(self, order: np.ndarray | range, batch_size: int) -> Iterator[Batch]:
        """Streams batches in a given order, one batch ahead of its user.

        Args:
            order: rows, shape (k,).
            batch_size: images a batch, at least 1; the last may be smaller.

        Returns:
            Batches in that order.

        Raises:
            ValueError: as in `read`, or if `batch_size` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; allowed is at least 1")
        return self._prefetched(np.asarray(order), batch_size)

    def _prefetched(self, order: np.ndarray, batch_size: int) -> Iterator[Batch]:
        parts = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
        with ThreadPoolExecutor(max_workers=1) as pool:
            ahead = pool.submit(self.read, parts[0]) if parts else None
            for following in [*parts[1:], None]:
                if ahead is None:
                    return
                batch = ahead.result()
                ahead = None if following is None else pool.submit(self.read, following)
                yield batch


def read(path: str | Path, n_most: int | None = None) -> Batch:
    """Reads the first `n_most` examples, or all, into memory; raises as `Reader` does."""
    with Reader(path) as reader:
        n = len(reader)
        return reader.read(range(n if n_most is None else min(n_most, n)))


class _Output(io.FileIO):
    """A file that keeps the first write error to itself until it is asked.

    HDF5 crashes the process when it cannot write what it holds while it closes; so it is told that
    all is well, closes in peace, and the error is raised afterwards.
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
            with h5py.File(output, "w") as file:
                fill(file, output)
            output.check()
            os.fsync(handle)
        # A file of mkstemp is private; a dataset is as readable as any other file made here.
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except OSError as error:
        reason = error.strerror or layout.one_line(error)
        raise OSError(f"{path}: cannot write dataset ({reason})") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _check_batch(path: str | Path, file: h5py.File, batch: Batch, written: int, n: int) -> None:
    columns = layout.columns_of(batch)
    if set(columns) != set(layout.column_names(file)):
        odd = sorted(set(columns) ^ set(layout.column_names(file)))
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
    columns = {name: reader.file[name].shape[1:] for name in layout.column_names(reader.file)}
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
