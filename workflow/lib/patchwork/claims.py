"""One decision rule for every claim: where the interval lies, and where its control's lies.

No verdict is written by hand: a claim states beforehand in which region the estimate must lie, and
in which region a control that could refute the claim must lie; perhaps also what must hold for the
claim to have a meaning. A claim fails only where a positive control shows that the effect would
have been found. What a claim and its decisions hold is fixed by
workflow/schemas/claims.schema.yaml, which is checked before the first job.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from scipy import stats

from patchwork.tables import ENDS

VERDICTS = (
    "replicates", "artefact", "fails", "undetermined", "not_applicable", "identity", "not_run",
)  # fmt: skip
_ADDRESS = ("quantity", "dataset", "backbone", "protocol")
# The power that a study is commonly planned for (Cohen 1988, "Statistical power analysis for the
# behavioral sciences").
POWER = 0.8
# From the border of a region to an effect that a one-sided test at 5 % finds with that power, in
# half widths of the 90 % interval: (z.95 + z.80) / z.95, for errors that are about normal.
_REACH = 1 + float(stats.norm.ppf(POWER) / stats.norm.ppf(0.95))

Region = tuple[float, float]
INSIDE, OUTSIDE, ACROSS = "inside", "outside", "across"


@dataclass(frozen=True)
class Finding:
    """An estimate with its interval, as one row of the findings.

    Attributes:
        estimate: in the unit of its quantity; nan if there is none.
        ci_low: lower end of the 95 % interval, which is shown.
        ci_high: upper end of the 95 % interval.
        ci90_low: lower end of the 90 % interval, which decides.
        ci90_high: upper end of the 90 % interval.
        n: examples.
        seeds: seeds; 0 for what no training made, for example an ideal observer.
    """

    estimate: float
    ci_low: float
    ci_high: float
    ci90_low: float
    ci90_high: float
    n: int
    seeds: int

    @property
    def known(self) -> bool:
        """Whether estimate and interval are numbers."""
        return not any(math.isnan(x) for x in (self.estimate, self.ci90_low, self.ci90_high))

    @property
    def detectable(self) -> float:
        """Distance from the border of a region at which 80 % of repetitions would decide."""
        return _REACH * (self.ci90_high - self.ci90_low) / 2

    def text(self, unit: str) -> str:
        """Estimate and deciding interval as words."""
        # What rounding leaves of an exact zero is shown as zero.
        numbers = (self.estimate, self.ci90_low, self.ci90_high)
        estimate, low, high = (0.0 if abs(x) < 1e-12 else x for x in numbers)
        return f"{estimate:.3g} [90 %: {low:.3g}, {high:.3g}] {unit}".strip()


def region_of(bounds: Sequence[float | None]) -> Region:
    """Lower and upper bound; null is none."""
    low, high = bounds
    return -math.inf if low is None else float(low), math.inf if high is None else float(high)


def place(finding: Finding, region: Region) -> str:
    """Where an interval lies: `inside` a closed region, `outside` of it, or `across` its border.

    The 90 % interval counts: it lies inside if two one-sided tests at 5 % say so, one for each
    border (Schuirmann 1987), and outside if one of them does.
    """
    low, high = region
    if low <= finding.ci90_low and finding.ci90_high <= high:
        return INSIDE
    return OUTSIDE if finding.ci90_high < low or finding.ci90_low > high else ACROSS


def _region_text(region: Region, unit: str) -> str:
    low, high = region
    if math.isinf(low) and math.isinf(high):
        return "any value"
    if math.isinf(low):
        return f"at most {high:.3g} {unit}".strip()
    if math.isinf(high):
        return f"at least {low:.3g} {unit}".strip()
    return f"{low:.3g} to {high:.3g} {unit}".strip()


Find = Callable[[Mapping[str, Any]], Finding | None]


def verdict(decision: Mapping[str, Any], find: Find) -> tuple[str, str]:
    """Decides one claim under one protocol.

    Args:
        decision: as for :func:`decide`.
        find: gives the finding that an address names, or None if it is not there yet.

    Returns:
        One of `VERDICTS`, and one sentence with the numbers that led to it.
    """
    if decision.get("kind") == "identity":
        return "identity", f"{decision['reason']} Proved by {decision['proved_by']}."
    unit, seeds_min = decision.get("unit", ""), decision.get("seeds_min", 1)
    found, region = find(decision), region_of(decision["claimed"])
    for premise in decision.get("applies_if", ()):
        unmet = _unmet(premise, find(premise), seeds_min)
        if unmet is not None and (found is not None or unmet[0] == "not_applicable"):
            return unmet
    if found is None:
        return "not_run", "This run did not compute the estimate."
    estimate, claimed = found.text(unit), _region_text(region, unit)
    if math.isnan(found.estimate):
        return "undetermined", "The quantity is not defined in these data, so there is no estimate."
    if not found.known:
        return "undetermined", "The estimate has no interval."
    if found.seeds < seeds_min:
        return (
            "undetermined",
            f"The estimate {estimate} rests on {found.seeds} of at least {seeds_min} seeds.",
        )
    where = place(found, region)
    if where == OUTSIDE:
        fails = f"The estimate {estimate} lies outside the claimed region, {claimed}"
        return _powered(decision, find, fails)
    if where == ACROSS:
        return (
            "undetermined",
            f"The interval of the estimate {estimate} crosses the border of the claimed region, "
            f"{claimed}.",
        )
    holds = f"The estimate {estimate} lies in the claimed region, {claimed}"
    if "control" not in decision:
        return "replicates", f"{holds}; no control applies."
    return _controlled(decision, find, holds)


def _unmet(
    premise: Mapping[str, Any], found: Finding | None, seeds_min: int
) -> tuple[str, str] | None:
    """The verdict where a premise of a claim fails or is open; None where it holds."""
    unit, region = premise.get("unit", ""), region_of(premise["within"])
    name = premise["quantity"].replace("_", " ")
    if found is None:
        return "undetermined", f"Whether the claim applies is open: {name} is not yet computed."
    if not found.known:
        return "undetermined", f"Whether the claim applies is open: {name} has no interval."
    numbers = f"{name} is {found.text(unit)}, where the claim needs {_region_text(region, unit)}"
    if 0 < found.seeds < seeds_min:
        return (
            "undetermined",
            f"Whether the claim applies is open: {numbers}, from {found.seeds} of at least "
            f"{seeds_min} seeds.",
        )
    where = place(found, region)
    if where == OUTSIDE:
        return "not_applicable", f"{premise['otherwise']}: {numbers}."
    if where == ACROSS:
        return "undetermined", f"Whether the claim applies is open: {numbers}."
    return None


def _powered(decision: Mapping[str, Any], find: Find, fails: str) -> tuple[str, str]:
    """The verdict on a claim whose estimate lies where it should not."""
    if "positive_control" not in decision:
        return "undetermined", f"{fails}, but no planted effect shows that it could be found there."
    planted = decision["positive_control"]
    found, name = find(planted), planted["description"]
    if found is None:
        return "undetermined", f"{fails}, but the power is not yet computed ({name})."
    if math.isnan(found.estimate):
        return "undetermined", f"{fails}, but the power is not known ({name})."
    shown = f"a planted effect was found in {100 * found.estimate:.0f} % of draws ({name})"
    if found.estimate < POWER:
        return "undetermined", f"{fails}, but {shown}, where {100 * POWER:.0f} % are needed."
    return "fails", f"{fails}; {shown}."


def _controlled(decision: Mapping[str, Any], find: Find, holds: str) -> tuple[str, str]:
    """The verdict on a claim whose estimate lies where it should."""
    name, seeds_min = decision["control"]["description"], decision.get("seeds_min", 1)
    control, gate = find(decision["control"]), decision["control"].get("gate")
    unmet = _unmet(gate, find(gate), seeds_min) if gate else None
    if unmet is not None:
        reason = unmet[1].removeprefix("Whether the claim applies is open: ")
        return "undetermined", f"{holds}, but the control ({name}) is not competent: {reason}"
    unit = decision["control"].get("unit", decision.get("unit", ""))
    survives = region_of(decision["survives"])
    if control is None:
        return "undetermined", f"{holds}, but {name} is not yet computed."
    if not control.known:
        return "undetermined", f"{holds}, but {name} has no interval."
    if 0 < control.seeds < seeds_min:
        return (
            "undetermined",
            f"{holds}, but {name}, {control.text(unit)}, rests on {control.seeds} of at least "
            f"{seeds_min} seeds.",
        )
    region = _region_text(survives, unit)
    numbers = f"{name} gives {control.text(unit)}"
    where = place(control, survives)
    if where == INSIDE:
        return "replicates", f"{holds}, and {numbers}, as it must if the claim is right ({region})."
    if where == OUTSIDE:
        return "artefact", f"{holds}, but {numbers}, where a right claim needs {region}."
    return (
        "undetermined",
        f"{holds}, but {numbers}, across the border of what a right claim needs ({region}).",
    )


def multiplicity(table: pd.DataFrame) -> str:
    """How many decided rows are expected to be wrong at most, in one sentence.

    Each row is one question that was stated beforehand, and is decided by one-sided tests at 5 %;
    where estimate and control must both lie somewhere, each is tested at 5 % (intersection-union
    test, Berger 1982). So a row of whatever truth is decided wrongly with a chance of 5 % at most,
    and the expected number of wrong rows is at most 0.05 times the rows, however they depend on
    each other: the per-family error rate (Dudoit and van der Laan 2008, "Multiple testing
    procedures with applications to genomics"). Proofs do not count.

    Args:
        table: the table ``claims.csv``.
    """
    verdicts = table["verdict"]
    known = table["estimate"].notna() & table["ci_low"].notna() | (verdicts == "not_applicable")
    tested = int((known & (verdicts != "identity")).sum())
    decided = int(verdicts.isin(["replicates", "artefact", "fails", "not_applicable"]).sum())
    return (
        f"{decided} of {tested} tested rows are decided, each at 5 %: at most {0.05 * tested:.2g} "
        "wrong ones are expected."
    )


def _finder(where: str, study: str, findings: pd.DataFrame) -> Find:
    """Looks up the one row of an address; a null in the address does not restrict."""
    own = findings[findings["study"] == study]

    def find(address: Mapping[str, Any]) -> Finding | None:
        rows = own
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
        ends: dict[str, Any] = {key: float(row[key]) for key in ENDS}
        return Finding(float(row["estimate"]), **ends, **count)

    return find


def _history(
    name: str, protocol: str, amendments: Sequence[Mapping[str, Any]], seeds: Sequence[int]
) -> str:
    """Whether a decision stands as it was first stated."""
    own = [
        one
        for one in amendments
        if name in one["claims"] and protocol in one.get("protocols", [protocol])
    ]
    if not own:
        return "as first stated"
    seen = any(set(one["seeds_seen"]) & set(seeds) for one in own)
    changed = f"amended {max(one['date'] for one in own)}"
    return f"{changed}; exploratory, for results of these seeds had been seen" if seen else changed


def _ends(name: str, ends: Region | None) -> dict[str, float]:
    low, high = ends or (math.nan, math.nan)
    return {f"{name}_low": low, f"{name}_high": high}


def _rows(name: str, claim: Mapping[str, Any], findings: pd.DataFrame) -> Iterator[dict[str, Any]]:
    ran = bool((findings["study"] == claim["study"]).any())
    for i, decision in enumerate(claim["decisions"]):
        find = _finder(f"claims.{name}.decisions[{i}]", claim["study"], findings)
        found = find(decision) if "quantity" in decision else None
        control = decision.get("control")
        against = find(control) if control else None
        planted = find(decision["positive_control"]) if "positive_control" in decision else None
        outcome, reason = verdict(decision, find)
        yield {
            "claim": name,
            "study": claim["study"],
            "paper": claim["paper"],
            "protocol": decision["protocol"],
            "statement": claim["statement"],
            "published": claim["published"],
            "unit": decision.get("unit", ""),
            "estimate": found.estimate if found else math.nan,
            **{key: getattr(found, key, math.nan) for key in ENDS},
            "n": found.n if found else None,
            "seeds": found.seeds if found else None,
            **_ends("claimed", region_of(decision["claimed"]) if "claimed" in decision else None),
            "control": control["description"] if control else "",
            "control_estimate": against.estimate if against else math.nan,
            **_ends("control", (against.ci90_low, against.ci90_high) if against else None),
            **_ends("survives", region_of(decision["survives"]) if control else None),
            "power": planted.estimate if planted else math.nan,
            "detectable": found.detectable if found else math.nan,
            "verdict": outcome,
            "reason": reason,
            # What a run has not computed it has not drawn either.
            "figure": f"{claim['study']}/figures/{claim['figure']}.png"
            if "figure" in claim and ran and outcome != "not_run"
            else "",
        }


def decide(
    claims: Mapping[str, Mapping[str, Any]],
    findings: pd.DataFrame,
    amendments: Sequence[Mapping[str, Any]] = (),
    seeds: Mapping[str, Sequence[int]] | None = None,
) -> pd.DataFrame:
    """Every claim under every protocol for which it has a decision.

    Each decision of a claim is one row: an `identity`, which needs no data; `not_run` without a row
    of findings for the estimate; or, if a finding of `applies_if` lies outside of its region,
    `not_applicable`. Interval of the estimate outside `claimed`: `fails`, if `positive_control` was
    found in 80 % of draws, else `undetermined`; across its border: `undetermined`; inside: the
    control decides, if its `gate` holds: inside `survives`: `replicates`; outside: `artefact`;
    across, or without a row of findings: `undetermined`. Fewer seeds than `seeds_min` decide
    nothing, neither the estimate's nor the control's; a control with no seeds at all (0 or nan:
    nothing was trained) has too few never.

    Args:
        claims: claim name to its mapping, as claims.schema.yaml describes it.
        findings: study and ``tables.FINDINGS``; one row per quantity, dataset, backbone and
            protocol of a study.
        amendments: changes of decisions, as claims.schema.yaml describes them.
        seeds: study to the seeds that its findings are of.

    Returns:
        The table ``claims.csv``; claims in the given order, decisions in theirs.

    Raises:
        ValueError: if an address fits several rows.
    """
    rows = [row for name, claim in claims.items() for row in _rows(name, claim, findings)]
    for row in rows:
        # A proof holds whatever had been seen.
        own = () if row["verdict"] == "identity" else (seeds or {}).get(row["study"], ())
        row["rule"] = _history(row["claim"], row["protocol"], amendments, own)
    return pd.DataFrame(rows).astype({"n": "Int64", "seeds": "Int64"})
