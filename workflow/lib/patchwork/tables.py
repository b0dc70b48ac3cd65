"""Tables: their declared columns, checked when written; those of many runs gathered into one."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

RUN = ("dataset", "backbone", "protocol", "seed")
CONDITION = ("dataset", "backbone", "protocol")
# States of a network: fine-tuned, and its backbone as it was before.
TUNED, UNTOUCHED = "tuned", "untouched"
# Not a state of its own: what the fine-tuned network seems to attend to on masks elsewhere.
PERMUTED = "permuted"
ENDS = ("ci_low", "ci_high", "ci90_low", "ci90_high")
FINDINGS = ("quantity", *CONDITION, "estimate", *ENDS, "n", "seeds")
_DECLARED = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True)
class Schema:
    """What one kind of table holds.

    Attributes:
        rows: what a row is.
        columns: name to meaning with unit, in the order of the file.
        optional: columns that may be missing.
        others: which further columns there may be, in words; empty: none.
    """

    rows: str
    columns: Mapping[str, str]
    optional: frozenset[str]
    others: str


@cache
def schemas() -> dict[str, Schema]:
    """Every kind of table, by the end of its path."""
    declared = tomllib.loads(_DECLARED.read_text(encoding="utf-8"))
    shared = declared.pop("columns")
    found = {}
    for file, one in declared.items():
        meanings = shared | one.get("means", {})
        columns = {name: meanings[name] for name in one["columns"].split()}
        optional = frozenset(one.get("optional", "").split())
        found[file] = Schema(one["rows"], columns, optional, one.get("others", ""))
    return found


def schema_of(path: str | Path) -> Schema:
    """The kind of table that a file holds.

    Raises:
        ValueError: if no table of that name is declared.
    """
    fitting = [file for file in schemas() if PurePath(path).match(file)]
    if fitting:
        # A name in full comes before a pattern, and one with its folder before one without.
        return schemas()[min(fitting, key=lambda file: ("*" in file, -file.count("/")))]
    raise ValueError(f"{path}: is no declared table; allowed is {', '.join(schemas())}")


def write(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table as CSV, TSV or Parquet, as the path ends, if its columns are those declared.

    Args:
        frame: columns in any order; an empty frame may lack them.
        path: of one of :func:`schemas`.

    Raises:
        ValueError: if a column is missing or unknown.
    """
    schema = schema_of(path)
    names = [name for name in schema.columns if name not in schema.optional]
    if frame.empty and not len(frame.columns):
        frame = pd.DataFrame(columns=names)
    for name in names:
        if name not in frame.columns:
            raise ValueError(f"{path}: lacks the column {name!r}; needed are {', '.join(names)}")
    odd = [name for name in frame.columns if name not in schema.columns]
    if odd and not schema.others:
        raise ValueError(
            f"{path}: has the unknown column {odd[0]!r}; allowed are {', '.join(schema.columns)}"
        )
    if not odd:
        frame = frame[[name for name in schema.columns if name in frame.columns]]
    if str(path).endswith(".parquet"):
        frame.to_parquet(path, index=False)
    elif str(path).endswith(".tsv"):
        frame.to_csv(path, index=False, sep="\t", na_rep="n/a")
    else:
        frame.to_csv(path, index=False)


def read(path: str | Path) -> pd.DataFrame:
    """Read a table, CSV or Parquet as its path ends.

    Raises:
        ValueError: one line, if it cannot be read.
    """
    try:
        return pd.read_parquet(path) if str(path).endswith(".parquet") else pd.read_csv(path)
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ValueError(
            f"{path}: not a readable table ({text}); if it is a result, remove it and run again"
        ) from error


def gather(paths: Sequence[str | Path], runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Join the tables of runs, each row with the names of its run.

    Args:
        paths: CSV or Parquet files, one per run.
        runs: ``dataset``, ``backbone``, ``protocol`` and, unless the file has that column,
            ``seed`` of each, in the same order.

    Returns:
        The files' columns (missing ones are nan) and those of `RUN`.

    Raises:
        ValueError: if a file cannot be read as a table.
    """
    parts = []
    for path, run in zip(paths, runs, strict=True):
        parts.append(read(path).assign(**{key: run[key] for key in RUN if key in run}))
    return pd.concat(parts, ignore_index=True)


def groups(
    frame: pd.DataFrame, keys: Sequence[str]
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The values of the keys and the rows that have them, in order of appearance."""
    for values, part in frame.groupby(list(keys), sort=False):
        found: Any = values
        yield dict(zip(keys, found, strict=True)), part


def conditions(frame: pd.DataFrame) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Each dataset, backbone and protocol of a frame with its rows; empty columns are dropped."""
    for names, part in groups(frame, CONDITION):
        yield names, part.dropna(axis=1, how="all").reset_index(drop=True)


def labelled(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """The frame with the names of its condition in front."""
    plain = frame.drop(columns=[key for key in names if key in frame.columns])
    return pd.DataFrame({**dict.fromkeys(names), **plain}).assign(**names)[[*names, *plain.columns]]


def join(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One frame of many; an empty one of none."""
    kept = [part for part in parts if len(part)]
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame()
