"""One decision rule for every claim: where the interval lies, and where its control's lies.

No verdict is written by hand: a claim states beforehand in which region the estimate must lie, and
in which region the control must lie for the claim to survive it.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

COLUMNS = (
    "claim", "study", "paper", "protocol", "statement", "published", "estimate", "ci_low",
    "ci_high", "n", "seeds", "control", "control_estimate", "verdict", "reason",
)  # fmt: skip
FINDINGS = (
    "study", "quantity", "dataset", "backbone", "protocol", "estimate", "ci_low", "ci_high", "n",
    "seeds",
)  # fmt: skip
VERDICTS = ("replicates", "artefact", "fails", "undetermined")
_ADDRESS = ("quantity", "dataset", "backbone", "protocol")
_CLAIM_KEYS = ("study", "paper", "statement", "published", "decisions")
_DECISION_KEYS = (*_ADDRESS, "claimed")
_DECISION_OPTIONS = ("control", "survives", "seeds_min", "unit")

Region = tuple[float, float]
INSIDE, OUTSIDE, ACROSS = "inside", "outside", "across"


@dataclass(frozen=True)
class Finding:
    """An estimate with its interval, as one row of the findings.

    Attributes:
        estimate: in the unit of its quantity; nan if there is none.
        ci_low: lower end of the interval.
        ci_high: upper end of the interval.
        n: examples.
        seeds: seeds; 0 for what no training made, for example an ideal observer.
    """

    estimate: float
    ci_low: float
    ci_high: float
    n: int
    seeds: int

    @property
    def known(self) -> bool:
        """Whether estimate and interval are numbers."""
        return not any(math.isnan(x) for x in (self.estimate, self.ci_low, self.ci_high))

    def text(self, unit: str) -> str:
        """Estimate and interval as words."""
        # What rounding leaves of an exact zero is shown as zero.
        ends = (0.0 if abs(x) < 1e-12 else x for x in (self.estimate, self.ci_low, self.ci_high))
        numbers = "{:.3g} [{:.3g}, {:.3g}]".format(*ends)
        return f"{numbers} {unit}".strip()


@dataclass(frozen=True)
class Rule:
    """What was said beforehand.

    Attributes:
        claimed: region (low, high) in which the estimate lies if the claim is right.
        survives: region in which the control lies if the claim survives it; None: no control.
        seeds_min: seeds below which nothing is decided, of the estimate and of a control that
            has seeds.
        unit: of the quantity, for the reason.
        control: what the control is, for the reason.
        control_unit: unit of the control's quantity.
    """

    claimed: Region
    survives: Region | None = None
    seeds_min: int = 1
    unit: str = ""
    control: str = "the control"
    control_unit: str = ""


def place(finding: Finding, region: Region) -> str:
    """Where an interval lies: `inside` a closed region, `outside` of it, or `across` its border."""
    low, high = region
    if low <= finding.ci_low and finding.ci_high <= high:
        return INSIDE
    return OUTSIDE if finding.ci_high < low or finding.ci_low > high else ACROSS


def _region_text(region: Region, unit: str) -> str:
    low, high = region
    if math.isinf(low) and math.isinf(high):
        return "any value"
    if math.isinf(low):
        return f"at most {high:.3g} {unit}".strip()
    if math.isinf(high):
        return f"at least {low:.3g} {unit}".strip()
    return f"{low:.3g} to {high:.3g} {unit}".strip()


def verdict(rule: Rule, found: Finding | None, control: Finding | None) -> tuple[str, str]:
    """Decides one claim under one protocol.

    Args:
        rule: regions and limits.
        found: the estimate, or None if it is not there yet.
        control: the control's estimate, or None.

    Returns:
        One of `VERDICTS`, and one sentence with the numbers that led to it.
    """
    if found is None:
        return "undetermined", "not yet computed"
    estimate, claimed = found.text(rule.unit), _region_text(rule.claimed, rule.unit)
    if math.isnan(found.estimate):
        return "undetermined", "The quantity is not defined in these data, so there is no estimate."
    if not found.known:
        return "undetermined", "The estimate has no interval."
    if found.seeds < rule.seeds_min:
        return (
            "undetermined",
            f"The estimate {estimate} rests on {found.seeds} of at least {rule.seeds_min} seeds.",
        )
    where = place(found, rule.claimed)
    if where == OUTSIDE:
        return "fails", f"The estimate {estimate} lies outside the claimed region, {claimed}."
    if where == ACROSS:
        return (
            "undetermined",
            f"The interval of the estimate {estimate} crosses the border of the claimed region, "
            f"{claimed}.",
        )
    holds = f"The estimate {estimate} lies in the claimed region, {claimed}"
    return _controlled(rule, control, holds)


def _controlled(rule: Rule, control: Finding | None, holds: str) -> tuple[str, str]:
    """The verdict on a claim whose estimate lies where it should."""
    if rule.survives is None:
        return "replicates", f"{holds}; no control applies."
    if control is None:
        return "undetermined", f"{holds}, but {rule.control} is not yet computed."
    if not control.known:
        return "undetermined", f"{holds}, but {rule.control} has no interval."
    if 0 < control.seeds < rule.seeds_min:
        return (
            "undetermined",
            f"{holds}, but {rule.control}, {control.text(rule.control_unit)}, rests on "
            f"{control.seeds} of at least {rule.seeds_min} seeds.",
        )
    region = _region_text(rule.survives, rule.control_unit)
    numbers = f"{rule.control} gives {control.text(rule.control_unit)}"
    where = place(control, rule.survives)
    if where == INSIDE:
        return "replicates", f"{holds}, and {numbers}, as it must if the claim is right ({region})."
    if where == OUTSIDE:
        return "artefact", f"{holds}, but {numbers}, where a right claim needs {region}."
    return (
        "undetermined",
        f"{holds}, but {numbers}, across the border of what a right claim needs ({region}).",
    )


def _keys(where: str, given: Mapping[str, Any], needed: tuple, optional: tuple = ()) -> None:
    for key in needed:
        if key not in given:
            raise ValueError(f"{where} lacks {key}; needed are {', '.join(needed)}")
    for key in given:
        if key not in needed + optional:
            raise ValueError(f"{where} has key {key!r}; allowed are {', '.join(needed + optional)}")


def _region(where: str, bounds: Any) -> Region:
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        raise ValueError(f"{where} is {bounds!r}; allowed is [low, high], null for no bound")
    low = -math.inf if bounds[0] is None else float(bounds[0])
    high = math.inf if bounds[1] is None else float(bounds[1])
    if not low <= high:
        raise ValueError(f"{where} is {bounds!r}; allowed is low <= high")
    return low, high


def _rule(where: str, decision: Mapping[str, Any]) -> Rule:
    _keys(where, decision, _DECISION_KEYS, _DECISION_OPTIONS)
    control, survives = decision.get("control"), decision.get("survives")
    if (control is None) != (survives is None):
        raise ValueError(f"{where} has one of control and survives; allowed is both or neither")
    if control is not None:
        _keys(f"{where}.control", control, (*_ADDRESS, "description"), ("unit",))
    return Rule(
        claimed=_region(f"{where}.claimed", decision["claimed"]),
        survives=None if survives is None else _region(f"{where}.survives", survives),
        seeds_min=decision.get("seeds_min", 1),
        unit=decision.get("unit", ""),
        control=control["description"] if control else "",
        control_unit=(control or {}).get("unit", decision.get("unit", "")),
    )


def _find(
    where: str, address: Mapping[str, Any], study: str, findings: pd.DataFrame
) -> Finding | None:
    """The one row of an address, or None; a null in the address does not restrict."""
    rows = findings[findings["study"] == study]
    for key in _ADDRESS:
        if address[key] is not None:
            rows = rows[rows[key] == address[key]]
    if len(rows) > 1:
        raise ValueError(
            f"{where}: {len(rows)} rows of findings have "
            f"{', '.join(f'{k} {address[k]}' for k in _ADDRESS)}; allowed is one"
        )
    if rows.empty:
        return None
    row = rows.iloc[0]
    count = {key: 0 if pd.isna(row[key]) else int(row[key]) for key in ("n", "seeds")}
    return Finding(float(row["estimate"]), float(row["ci_low"]), float(row["ci_high"]), **count)


def _rows(name: str, claim: Mapping[str, Any], findings: pd.DataFrame) -> Iterator[dict[str, Any]]:
    _keys(f"claims.{name}", claim, _CLAIM_KEYS)
    for i, decision in enumerate(claim["decisions"]):
        where = f"claims.{name}.decisions[{i}]"
        rule = _rule(where, decision)
        found = _find(where, decision, claim["study"], findings)
        control = None
        if decision.get("control") is not None:
            control = _find(f"{where}.control", decision["control"], claim["study"], findings)
        outcome, reason = verdict(rule, found, control)
        yield {
            "claim": name,
            **{key: claim[key] for key in ("study", "paper", "statement", "published")},
            "protocol": decision["protocol"],
            "estimate": found.estimate if found else math.nan,
            "ci_low": found.ci_low if found else math.nan,
            "ci_high": found.ci_high if found else math.nan,
            "n": found.n if found else None,
            "seeds": found.seeds if found else None,
            "control": rule.control,
            "control_estimate": control.estimate if control else math.nan,
            "verdict": outcome,
            "reason": reason,
        }


def decide(claims: Mapping[str, Mapping[str, Any]], findings: pd.DataFrame) -> pd.DataFrame:
    """Every claim under every protocol for which it has a decision.

    A claim maps `study`, `paper`, `statement`, `published` (text or number) and `decisions`, a
    list; each decision is one row and maps

    - `protocol`, `quantity`, `dataset`, `backbone`: which row of findings is the estimate (text;
      null for a key that does not restrict);
    - `claimed`: [low, high], null for no bound: where the estimate lies if the claim is right;
    - `control`: {`protocol`, `quantity`, `dataset`, `backbone`, `description`} and perhaps `unit`:
      which row of findings is the control, and what it is; and `survives`: [low, high]: where the
      control lies if the claim survives it. Both or neither (null or absent);
    - `seeds_min` (optional, 1): fewer seeds decide nothing, neither the estimate's nor the
      control's; a control with no seeds at all (0 or nan: nothing was trained) has too few never;
    - `unit` (optional): of the quantity.

    Interval of the estimate outside `claimed`: `fails`; across its border: `undetermined`; inside:
    the control decides: inside `survives`: `replicates`; outside: `artefact`; across:
    `undetermined`. Rows that do not exist: `undetermined`, "not yet computed".

    Args:
        claims: claim name to its mapping.
        findings: columns `FINDINGS`; one row per quantity, dataset, backbone and protocol.

    Returns:
        Columns `COLUMNS`; claims in the given order, decisions in theirs.

    Raises:
        ValueError: if a key is missing or unknown, a region is none, findings lacks a column, or
            an address fits several rows.
    """
    lacking = [column for column in FINDINGS if column not in findings.columns]
    if lacking:
        raise ValueError(f"findings lacks column {lacking[0]}; needed are {', '.join(FINDINGS)}")
    rows = [row for name, claim in claims.items() for row in _rows(name, claim, findings)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"n": "Int64", "seeds": "Int64"})
