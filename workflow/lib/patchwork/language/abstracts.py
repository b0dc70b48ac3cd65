"""Abstracts of articles: one table, whether fetched, invented or read from a file."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

COLUMNS = ("pmid", "title", "abstract", "journal", "keywords", "url", "retrieved")
READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": lambda path: pd.read_csv(path, dtype=str),
    ".xlsx": lambda path: pd.read_excel(path, dtype=str, engine="openpyxl"),
    ".parquet": pd.read_parquet,
}


def read(path: str | Path) -> pd.DataFrame:
    """Read abstracts of a CSV table, a spreadsheet (.xlsx) or a Parquet file.

    Args:
        path: needs a column ``abstract``; upper and lower case of the names do not count. Of the
            other columns of `COLUMNS` those that are missing become empty.

    Returns:
        The table ``abstracts.parquet``: columns `COLUMNS`, all text, without empty abstracts.

    Raises:
        ValueError: one line, if the file cannot be read, has no such column or no abstract.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: is {path.suffix or 'no'} file; allowed is {', '.join(READERS)}")
    try:
        frame = reader(path)
    except Exception as error:  # of many kinds, by what is broken in the file
        raise ValueError(f"{path}: not readable as {path.suffix} ({error})") from None
    frame = frame.rename(columns={name: str(name).strip().lower() for name in frame.columns})
    if "abstract" not in frame.columns:
        raise ValueError(
            f"{path}: lacks the column 'abstract'; it has {', '.join(map(str, frame.columns))}"
        )
    found = frame.reindex(columns=list(COLUMNS)).astype(object).fillna("").astype(str)
    found = found[found["abstract"].str.strip() != ""].reset_index(drop=True)
    if found.empty:
        raise ValueError(f"{path}: holds no abstract; needed is at least one")
    return found


def texts(frame: pd.DataFrame) -> list[str]:
    """Title and abstract of each article as one text."""
    joined = frame["title"].str.strip() + " " + frame["abstract"].str.strip()
    return list(joined.str.strip())
