"""Digests of code, files and settings: what makes a result stale, what it was made from."""

import ast
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def code_digest(script: Path) -> str:
    """Digest of a script and of every first-party module that it imports, directly or not.

    Comments, blank lines and docstrings do not count, because none of them changes a result.

    Args:
        script: a Python file.

    Returns:
        16 hexadecimal characters.

    Raises:
        ValueError: if the file is missing or is not Python.
    """
    digest = hashlib.sha256()
    for path in sorted(first_party_files(Path(script).resolve())):
        digest.update(path.name.encode() + _scan(path, _modified_ns(path)).digest)
    return digest.hexdigest()[:16]


def first_party_files(script: Path) -> set[Path]:
    """The script and the package's modules that it imports, transitively, from the syntax trees."""
    seen: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting.extend(_scan(path, _modified_ns(path)).imported)
    return seen


@dataclass(frozen=True)
class _Scan:
    digest: bytes
    imported: tuple[Path, ...]


@cache
def _scan(path: Path, _modified: int) -> _Scan:
    tree = _parse(path)
    words: list[str] = []
    names: set[str] = set()
    _read(tree, words, names)
    files = {file for file in map(_module_file, names) if file is not None}
    return _Scan(hashlib.sha256(" ".join(words).encode()).digest(), tuple(sorted(files)))


def _read(node: ast.AST, words: list[str], names: set[str]) -> None:
    """Collect the words of a syntax tree without docstrings, and the names that it imports.

    One pass over some 200,000 nodes, which every start of the workflow waits for: ``ast.walk`` and
    ``ast.dump`` take four times as long.
    """
    words.append(type(node).__name__)
    if isinstance(node, ast.Import | ast.ImportFrom):
        names.update(_imported_names(node))
    for field in node._fields:
        value = getattr(node, field, None)
        if isinstance(value, ast.AST):
            _read(value, words, names)
        elif isinstance(value, list):
            words.append("[")
            if field == "body" and value and _is_docstring(value[0]):
                value = value[1:] or [ast.Pass()]
            for item in value:
                if isinstance(item, ast.AST):
                    _read(item, words, names)
                else:
                    words.append(repr(item))
            words.append("]")
        else:
            words.append(repr(value))


def _modified_ns(path: Path) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError as error:
        raise ValueError(f"{path}: not a readable Python file ({error})") from error


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path}: not a readable Python file ({error})") from error


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)


def _imported_names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif node.module and not node.level:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _module_file(name: str) -> Path | None:
    parts = name.split(".")
    if parts[0] != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*parts[1:])
    for candidate in (base / "__init__.py", base.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def settings_digest(*parts: object) -> str:
    """Digest of plain values (numbers, strings, lists, mappings); key order does not count."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal characters."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def check_sha256(path: Path | str, expected: str) -> None:
    """Stop if a file is not the one that was meant.

    Raises:
        ValueError: naming the file, its SHA-256 and the expected one.
    """
    found = file_sha256(path)
    if found != expected.lower():
        raise ValueError(f"{path}: SHA-256 is {found}; the configuration expects {expected}")


def as_metadata(record: Mapping[str, object]) -> dict[str, str]:
    """Encode a record as safetensors metadata, which holds strings only: one JSON text per key."""
    return {key: json.dumps(value, sort_keys=True) for key, value in record.items()}


def from_metadata(metadata: Mapping[str, str]) -> dict[str, object]:
    """Read a record written by :func:`as_metadata`."""
    return {key: json.loads(value) for key, value in metadata.items()}
