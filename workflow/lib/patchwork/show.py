"""Print the claims table for a terminal: ``python -m patchwork.show results``."""

import shutil
import sys
import textwrap
from pathlib import Path

import pandas as pd

_LEFT = 20


def lines(claims: pd.DataFrame, width: int) -> list[str]:
    """The table of claims as text, one claim and protocol after the other.

    Args:
        claims: columns of :data:`patchwork.claims.COLUMNS`.
        width: columns of the terminal, 40 or more.
    """
    text = []
    for claim, rows in claims.groupby("claim", sort=False):
        text += textwrap.wrap(
            f"{claim}  {rows['statement'].iloc[0]}", width, subsequent_indent="    "
        )
        for row in rows.to_dict("records"):
            reason = f"{row['verdict']}: {row['reason']}"
            wrapped = textwrap.wrap(reason, max(width - _LEFT, 20))
            labels = [f"    {row['protocol']}", *[""] * len(wrapped)]
            pairs = zip(labels, wrapped, strict=False)
            text += [f"{label:<{_LEFT}}{part}" for label, part in pairs]
    counts = claims["verdict"].value_counts()
    return [*text, "", ", ".join(f"{name}: {n}" for name, n in counts.items())]


def main(results: Path) -> None:
    """Print the claims of a results folder and where report and figures lie."""
    table = results / "claims.csv"
    if not table.is_file():
        raise SystemExit(f"{table}: not there; run make or snakemake first")
    print("\n".join(lines(pd.read_csv(table), shutil.get_terminal_size((100, 24)).columns)))
    print(f"claims:  {table}\nreport:  {results / 'report.html'}\nfigures: {results}/*/figures/")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
