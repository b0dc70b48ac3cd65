"""Print the claims of a results folder: ``python -m patchwork.show results [STYLE]``.

Without a style every claim with its reasons; ``--markdown``: the verdicts alone;
``--markdown-full``: with intervals and controls; ``--summary``: how many verdicts of each kind,
what changed since the last summary, where results lie; ``--against OTHER ...``: which verdicts
differ between these folders of results.
"""

import shutil
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from patchwork.claims import multiplicity

_LEFT = 20


def spoken(verdict: str) -> str:
    """A verdict as a reader would write it."""
    return verdict.replace("_", " ")


def lines(claims: pd.DataFrame, width: int) -> list[str]:
    """The table of claims as text, one claim and protocol after the other.

    Args:
        claims: the table ``claims.csv``.
        width: columns of the terminal, 40 or more.
    """
    text = []
    for claim, rows in claims.groupby("claim", sort=False):
        head = f"{claim}  {rows['statement'].iloc[0]}"
        text += textwrap.wrap(head, width, subsequent_indent="    ")
        for row in rows.to_dict("records"):
            reason = f"{spoken(row['verdict'])}: {row['reason']}"
            wrapped = textwrap.wrap(reason, max(width - _LEFT, 20))
            labels = [f"    {row['protocol']}", *[""] * len(wrapped)]
            pairs = zip(labels, wrapped, strict=False)
            text += [f"{label:<{_LEFT}}{part}" for label, part in pairs]
    return [*text, "", counts(claims)]


def counts(claims: pd.DataFrame) -> str:
    """How many verdicts of each kind there are, the most frequent first.

    Args:
        claims: with a column ``verdict``.
    """
    return ", ".join(
        f"{spoken(str(name))}: {n}" for name, n in claims["verdict"].value_counts().items()
    )


def changes(claims: pd.DataFrame, previous: pd.DataFrame) -> list[str]:
    """A line for each verdict that is another one, is new or is gone.

    Args:
        claims: with columns ``claim``, ``protocol`` and ``verdict``; rows of one claim and protocol
            are told apart by their order.
        previous: the same of an earlier run.
    """
    now, before = (
        {key: spoken(row["verdict"]) for key, row in _keyed(one).items()}
        for one in (claims, previous)
    )
    text = []
    for row in dict.fromkeys([*now, *before]):
        name = f"{row[0]} {row[1]}"
        if row not in before:
            text.append(f"{name}: {now[row]} (new)")
        elif row not in now:
            text.append(f"{name}: gone, was {before[row]}")
        elif now[row] != before[row]:
            text.append(f"{name}: {now[row]}, was {before[row]}")
    return text


def differences(runs: Mapping[str, pd.DataFrame]) -> list[str]:
    """Rows whose verdict is not the same in every run, with their estimates, and how many agree.

    Args:
        runs: name of a run to its table ``claims.csv``; rows without an estimate in any of them,
            which no run has computed, are left out.
    """
    tables = {name: _keyed(claims) for name, claims in runs.items()}
    known = dict.fromkeys(
        key for rows in tables.values() for key, row in rows.items() if pd.notna(row["estimate"])
    )
    text = []
    for key in known:
        found = {name: rows[key] for name, rows in tables.items() if key in rows}
        if len({row["verdict"] for row in found.values()}) == 1 and len(found) == len(tables):
            continue
        text.append(f"{key[0]} {key[1]}:")
        text += [
            f"  {name}: {spoken(row['verdict'])}, {_interval(row)}" for name, row in found.items()
        ]
    same = len(known) - sum(not line.startswith(" ") for line in text)
    return [*text, f"{same} of {len(known)} verdicts are the same in {', '.join(runs)}"]


def _keyed(claims: pd.DataFrame) -> dict[tuple[str, str, int], dict]:
    """Rows by claim, protocol and their order among those of the same claim and protocol."""
    rows = claims.astype({"claim": str, "protocol": str})
    place = rows.groupby(["claim", "protocol"]).cumcount()
    names = zip(rows["claim"], rows["protocol"], place, strict=True)
    return dict(zip(names, rows.to_dict("records"), strict=True))


def summary(results: Path, claims: pd.DataFrame) -> list[str]:
    """Counts of verdicts, what changed since the last summary, and where to look.

    Args:
        results: its ``claims_previous.csv``, if there is one, holds the claims of the last summary.
        claims: the table ``claims.csv``.
    """
    text = [f"{len(claims)} verdicts: {counts(claims)}", multiplicity(claims)]
    earlier = results / "claims_previous.csv"
    if earlier.is_file():
        changed = changes(claims, pd.read_csv(earlier))
        text += [
            "changed since the last run:" if changed else "no verdict changed since the last run"
        ]
        text += [f"  {line}" for line in changed]
    return [
        *text,
        f"claims:  {results / 'claims.html'}, as a table {results / 'claims.csv'}",
        f"report:  {results / 'report.html'}",
        f"figures: {results}/*/figures/",
        f"logs:    {results}/logs/",
    ]


def _number(value: float) -> str:
    """Three digits; what rounding leaves of an exact zero is zero."""
    return f"{0.0 if abs(value) < 1e-12 else value:.3g}"


def _interval(row: dict) -> str:
    """The estimate with its interval, without it, or nothing, as far as they are known."""
    if pd.isna(row["estimate"]):
        return ""
    if pd.isna(row["ci_low"]):
        return f"{_number(row['estimate'])} (no interval)"
    return f"{_number(row['estimate'])} [{_number(row['ci_low'])}, {_number(row['ci_high'])}]"


def markdown(claims: pd.DataFrame) -> list[str]:
    """The verdicts in Markdown, one row per claim and one column per protocol.

    Args:
        claims: the table ``claims.csv``.
    """
    protocols = list(dict.fromkeys(claims["protocol"]))
    text = [f"| claim | {' | '.join(map(str, protocols))} |", "|" + "---|" * (1 + len(protocols))]
    for claim, rows in claims.groupby("claim", sort=False):
        found = rows.groupby("protocol")["verdict"].agg(lambda several: spoken("; ".join(several)))
        cells = [found.get(protocol, "") for protocol in protocols]
        text.append(f"| **{claim}** {rows['statement'].iloc[0]} | {' | '.join(cells)} |")
    return text


def markdown_full(claims: pd.DataFrame) -> list[str]:
    """The table of claims in Markdown with intervals, controls and power, a row per decision.

    Args:
        claims: the table ``claims.csv``.
    """
    head = "claim | protocol | estimate [95 % interval] | detectable | control | power | verdict"
    text = [f"| {head} |", "|" + "---|" * 7]
    for claim, rows in claims.groupby("claim", sort=False):
        for i, row in enumerate(rows.to_dict("records")):
            name = f"**{claim}** {row['statement']}" if i == 0 else ""
            control = row["control"] if isinstance(row["control"], str) else ""
            if pd.notna(row["control_estimate"]):
                control = f"{control}: {_number(row['control_estimate'])}"
            known = (row[key] for key in ("detectable", "power"))
            detectable, power = ("" if pd.isna(one) else _number(one) for one in known)
            cells = (name, row["protocol"], _interval(row), detectable, control, power,
                     spoken(row["verdict"]))  # fmt: skip
            text.append(f"| {' | '.join(map(str, cells))} |")
    return text


def main(results: Path, style: str = "", *others: str) -> None:
    """Print the claims of a results folder and where report and figures lie."""
    if style == "--against":
        folders = [results, *map(Path, others)]
        runs = {one.name: pd.read_csv(one / "claims.csv") for one in folders}
        print("\n".join(differences(runs)))
        return
    table = results / "claims.csv"
    if not table.is_file():
        raise SystemExit(f"{table}: not there; run make or snakemake first")
    claims = pd.read_csv(table)
    written = {"--markdown": markdown, "--markdown-full": markdown_full}.get(style)
    if written is not None:
        print("\n".join(written(claims)))
        return
    if style == "--summary":
        print("\n".join(summary(results, claims)))
        shutil.copyfile(table, results / "claims_previous.csv")
        return
    print("\n".join(lines(claims, shutil.get_terminal_size((100, 24)).columns)))
    print(f"claims:  {table}\nreport:  {results / 'report.html'}\nfigures: {results}/*/figures/")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
