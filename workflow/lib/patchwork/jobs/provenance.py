"""Digests of code, files and settings: what makes a result stale, what it was made from."""

import ast
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
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
        digest.update(path.name.encode() + _syntax_digest(path, _modified_ns(path)))
    return digest.hexdigest()[:16]


def first_party_files(script: Path) -> set[Path]:
    """The script and the package's modules that it imports, transitively, from the syntax trees."""
    seen: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting.extend(_imported_files(path, _modified_ns(path)))
    return seen


@cache
def _imported_files(path: Path, _modified: int) -> tuple[Path, ...]:
    found = set()
    for name in _imported_names(_parse(path)):
        file = _module_file(name)
        if file is not None:
            found.add(file)
    return tuple(sorted(found))


@cache
def _syntax_digest(path: Path, _modified: int) -> bytes:
    tree = _parse(path)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).digest()


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


def _imported_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
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
