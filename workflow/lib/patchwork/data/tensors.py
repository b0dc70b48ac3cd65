"""Named tensors in safetensors files, written whole or not at all, read without unpickling."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from patchwork.jobs.provenance import as_metadata


def write_tensors(
    tensors: Mapping[str, Tensor], record: Mapping[str, object], path: str | Path
) -> None:
    """Write tensors and a JSON-able record under a temporary name, then rename.

    Args:
        tensors: by name, on any device.
        record: becomes the file's metadata.
        path: a ``.safetensors`` file; its folder is made when missing.

    Raises:
        OSError: if the file cannot be written; an older one is then still there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        save_file(plain, partial, metadata=as_metadata(record))
        _in_order(partial)
        with open(partial, "rb+") as handle:
            os.fsync(handle)
        partial.chmod(0o644)
        os.replace(partial, path)
    except SafetensorError as error:  # of a full disk too
        raise OSError(f"{path}: cannot be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)


def _in_order(path: Path) -> None:
    """Sort the metadata, which are written in a random order: same content, same bytes."""
    with open(path, "rb+") as handle:
        size = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        handle.seek(8)
        handle.write(text.ljust(size))


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        ValueError: if it is not such a file.
    """
    try:
        with safe_open(path, "pt") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            return tensors, handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error
