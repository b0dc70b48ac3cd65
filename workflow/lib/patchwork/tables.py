"""Gather the tables of many runs into one, and condense one into findings."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

RUN = ("dataset", "backbone", "protocol", "seed")
CONDITION = ("dataset", "backbone", "protocol")
FINDINGS = ("quantity", *CONDITION, "estimate", "ci_low", "ci_high", "n", "seeds")


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
        read = pd.read_parquet if str(path).endswith(".parquet") else pd.read_csv
        try:
            part = read(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: not a readable table ({error})") from error
        parts.append(part.assign(**{key: run[key] for key in RUN if key in run}))
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
