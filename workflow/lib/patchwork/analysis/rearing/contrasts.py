"""Contrasts of rearing conditions: paired by seed, tested as registered beforehand.

A network is one example: intervals and tests run over seeds, never over images. Conditions of one
seed share initial values and the order of pictures, so their difference is paired.

Tables of measures have one row per network (condition and seed), epoch, measure and component;
plain numbers such as the accuracy have the component `value`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from patchwork import statistics
from patchwork.statistics import holm, seeds_for_power, sign_flip_p, t_interval
from patchwork.tables import ENDS, FINDINGS, groups

CO_PRIMARY, EXPLORATORY = "co-primary", "exploratory"
ACCURACY = "accuracy"
# Which component of a curve is its bias: errors and information have their extreme at the favoured
# orientations, signed errors pass through zero there.
_COMPONENT = {"fisher": "c4", "ridge": "c4", "signed": "s4"}
_PLAIN = "value"
_NETWORK = ["condition", "seed"]
_CYCLE_DEG = 90.0
_INTERVAL = ["estimate", *ENDS, "n", "seeds"]


@dataclass(frozen=True)
class Outcome:
    """One comparison: a measure in one condition minus the same in another.

    Attributes:
        measure: as the table of measures names it; its bias component is meant.
        condition: whose value counts positive.
        minus: whose value is subtracted.
        predicted_sign: +1, -1, or None where either counts.
    """

    measure: str
    condition: str
    minus: str
    predicted_sign: int | None = None


def biases(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that hold the bias component of each measure.

    Args:
        frame: condition, seed, epoch, measure, component, value.

    Raises:
        ValueError: if nothing is left, or a network has a value twice.
    """
    component = frame["measure"].str.split("_").str[0].map(_COMPONENT).fillna(_PLAIN)
    rows = frame[frame["component"] == component]
    if rows.empty:
        raise ValueError("frame has no bias component; needed are rows of c4, s4 or value")
    twice = rows.duplicated([*_NETWORK, "epoch", "measure"])
    if twice.any():
        one = rows[twice].iloc[0]
        raise ValueError(
            f"frame has {one['measure']} of {one['condition']}, seed {one['seed']}, epoch "
            f"{one['epoch']} twice; allowed is once"
        )
    return rows.reset_index(drop=True)


def final(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of each network's last epoch."""
    last = frame.groupby(_NETWORK)["epoch"].transform("max")
    return frame[frame["epoch"] == last].reset_index(drop=True)


def exclude(frame: pd.DataFrame, accuracy_min: float | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Leave out the networks that break a registered rule at their last epoch, and say which.

    Args:
        frame: as for :func:`biases`.
        accuracy_min: share right below which a network is left out; None: none is.

    Returns:
        The rows kept, and a table of rule (`accuracy_min`, `not_finite`), condition, seed, measure,
        value: one row per network and rule. Rows that break no rule are never dropped.
    """
    last = final(biases(frame))
    # Untrained networks have no accuracy; that breaks no rule.
    lost = ~np.isfinite(last["value"]) & (last["measure"] != ACCURACY)
    broken = [last[lost].assign(rule="not_finite")]
    if accuracy_min is not None:
        scored = last[last["measure"] == ACCURACY]
        broken.append(scored[scored["value"] < accuracy_min].assign(rule="accuracy_min"))
    rows = pd.concat(broken).drop_duplicates(["rule", *_NETWORK])
    left_out = pd.MultiIndex.from_frame(rows[_NETWORK])
    kept = frame[~pd.MultiIndex.from_frame(frame[_NETWORK]).isin(left_out)]
    table = rows[["rule", *_NETWORK, "measure", "value"]].reset_index(drop=True)
    return kept.reset_index(drop=True), table


def at_matched_accuracy(frame: pd.DataFrame, condition: str, to: str) -> pd.DataFrame:
    """The networks of one condition at the moment when they were as accurate as those of another.

    A condition that learns faster is thus compared at equal accuracy, not after equal training.

    Args:
        frame: as for :func:`biases`, with `accuracy` at every epoch that may be chosen.
        condition: whose networks are taken at an earlier moment of their pre-training.
        to: condition whose last accuracy they should have, seed by seed.

    Returns:
        Rows of `condition` at one epoch per seed, the nearest in accuracy; their condition is named
        `<condition>_matched_to_<to>`. To be joined to the frame; empty without common seeds.
    """
    scores = frame[(frame["measure"] == ACCURACY) & np.isfinite(frame["value"])]
    wanted = final(scores[scores["condition"] == to]).set_index("seed")["value"]
    own = scores[(scores["condition"] == condition) & scores["seed"].isin(wanted.index)]
    apart = (own["value"] - own["seed"].map(wanted)).abs()
    nearest = own.loc[apart.groupby(own["seed"]).idxmin(), ["seed", "epoch"]]
    chosen = frame[frame["condition"] == condition].merge(nearest, on=["seed", "epoch"])
    return chosen.assign(condition=f"{condition}_matched_to_{to}")


def differences(rows: pd.DataFrame, condition: str, minus: str) -> pd.DataFrame:
    """One row per seed that both have: value_condition, value_minus, difference; index seed.

    Args:
        rows: condition, seed, value: one row per network.
        condition: whose value counts positive.
        minus: whose value is subtracted.
    """
    sides = [
        rows[rows["condition"] == name].set_index("seed")["value"].dropna()
        for name in (condition, minus)
    ]
    names = ["value_condition", "value_minus"]
    both = pd.concat(sides, axis=1, keys=names, join="inner").sort_index()
    return both.assign(difference=both["value_condition"] - both["value_minus"])


def _contrast(rows: pd.DataFrame, outcome: Outcome) -> tuple[dict[str, Any], pd.DataFrame]:
    """A contrast with its interval and the accuracies of both sides, and the pairs behind it.

    Args:
        rows: bias rows of one epoch per network.
        outcome: measure and conditions.
    """
    own = rows[rows["measure"] == outcome.measure]
    pairs = differences(own, outcome.condition, outcome.minus)
    scores = rows[(rows["measure"] == ACCURACY) & rows["seed"].isin(pairs.index)]
    accuracy = scores.groupby("condition")["value"].mean()
    found = {
        "measure": outcome.measure,
        "condition": outcome.condition,
        "minus": outcome.minus,
        **t_interval(pairs["difference"].to_numpy()).row(),
        "accuracy_condition": accuracy.get(outcome.condition, np.nan),
        "accuracy_minus": accuracy.get(outcome.minus, np.nan),
    }
    return found, pairs


def contrast_table(
    last: pd.DataFrame, plan: Mapping[str, Any], pairs: Sequence[tuple[str, str]] = ()
) -> pd.DataFrame:
    """Every contrast between conditions: the registered ones, and all others as exploratory.

    Args:
        last: bias rows of each network's last epoch.
        plan: the study's registration: `outcomes`, `alpha`, `seeds_min`.
        pairs: further (condition, minus) that are explored beside the registered pairs.

    Returns:
        The table ``tables/rearing_contrasts.csv``: intervals by Student's t over seeds, power of
        co-primaries at alpha over their number, outcomes by the interval.
    """
    registered = [Outcome(**one) for one in plan["outcomes"]]
    # Holm's first step; of the exploratory ones each stands alone.
    rows = [_tested(last, one, CO_PRIMARY, plan["alpha"] / len(registered)) for one in registered]
    known = {(one.measure, one.condition, one.minus) for one in registered}
    for pair in dict.fromkeys([*((one.condition, one.minus) for one in registered), *pairs]):
        for measure in last["measure"].unique():
            if measure != ACCURACY and (measure, *pair) not in known:
                rows.append(_tested(last, Outcome(measure, *pair), EXPLORATORY, plan["alpha"]))
    table = pd.DataFrame(rows)
    first = (table["status"] == CO_PRIMARY).to_numpy()
    p = table["p"].to_numpy(float)
    table.loc[first, "p_adjusted"] = holm(p[first])
    table.loc[~first, "p_adjusted"] = statistics.false_discovery_rate(p[~first])
    table["significant"] = table["p_adjusted"] <= plan["alpha"]
    table["outcome"] = [_outcome(row, plan["seeds_min"]) for row in table.to_dict("records")]
    return table


def _tested(last: pd.DataFrame, outcome: Outcome, status: str, alpha: float) -> dict[str, Any]:
    """One row of :func:`contrast_table`, not yet adjusted for the others."""
    found, pairs = _contrast(last, outcome)
    n, apart = len(pairs), pairs["difference"]
    sd = float(apart.std(ddof=1)) if n > 1 else np.nan
    return {
        "status": status,
        **{name: found[name] for name in ("measure", "condition", "minus")},
        "predicted_sign": outcome.predicted_sign,
        **{name: found[name] for name in _INTERVAL},
        "mean_condition": pairs["value_condition"].mean(),
        "mean_minus": pairs["value_minus"].mean(),
        "sd": sd,
        "p": sign_flip_p(apart.to_numpy()) if n else np.nan,
        "p_adjusted": np.nan,
        "p_least": min(1.0, 2.0 ** (1 - n)) if n else np.nan,
        "seeds_for_power": seeds_for_power(found["estimate"], sd, alpha=alpha),
        **{name: found[name] for name in ("accuracy_condition", "accuracy_minus")},
    }


def _outcome(row: Mapping[Any, Any], seeds_min: int) -> str:
    if row["seeds"] < seeds_min:
        return "too few seeds"
    if not (row["ci_low"] > 0 or row["ci_high"] < 0):
        return "not shown"
    sign = row["predicted_sign"]
    if sign is None or np.isnan(sign):
        return "shown"
    return "as predicted" if sign * row["estimate"] > 0 else "opposite"


def trajectory_table(rows: pd.DataFrame, outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Each contrast at every epoch that both conditions have.

    Args:
        rows: bias rows.
        outcomes: measures and conditions.

    Returns:
        The table ``tables/rearing_trajectory.csv``.
    """
    found = []
    for outcome in outcomes:
        for epoch, part in rows.groupby("epoch"):
            one, pairs = _contrast(part, outcome)
            if len(pairs):
                found.append({**one, "epoch": epoch})
    names = ["measure", "condition", "minus", "epoch", *_INTERVAL]
    columns = [*names, "accuracy_condition", "accuracy_minus"]
    return pd.DataFrame(found, columns=columns)


def lattice_table(last: pd.DataFrame, outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """What of a bias turns with the pictures, and what stays with the patch lattice.

    For a condition and one whose pictures are turned by 45 deg, the 4-cycle component of the
    pictures changes its sign and that of the lattice does not: half the difference of the
    conditions is the pictures', half their sum the lattice's (and the probes' own).

    Args:
        last: bias rows of each network's last epoch.
        outcomes: measures, and conditions that differ by 45 deg.

    Returns:
        The table ``tables/rearing_lattice.csv``.
    """
    rows = []
    for one in outcomes:
        pairs = differences(last[last["measure"] == one.measure], one.condition, one.minus)
        names = {"measure": one.measure, "condition": one.condition, "minus": one.minus}
        halves = {
            "pictures": pairs["difference"] / 2,
            "lattice": (pairs["value_condition"] + pairs["value_minus"]) / 2,
        }
        for part, values in halves.items():
            rows.append({**names, "part": part, **t_interval(values.to_numpy()).row()})
    return pd.DataFrame(rows)


def curve_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean curve of every measure and condition over seeds, at each network's last epoch.

    Args:
        frame: condition, seed, epoch, measure, kind, orientation_deg, value; rows of kind `curve`
            count.

    Returns:
        The table ``tables/rearing_curves.csv``.
    """
    curves = final(frame[frame["kind"] == "curve"])
    rows = []
    for names, part in groups(curves, ["measure", "condition", "orientation_deg"]):
        found = t_interval(part["value"].to_numpy()).row()
        rows.append({**names, "value": found.pop("estimate"), **found})
    return pd.DataFrame(rows)


def condition_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Bias of every condition at every epoch, its accuracy beside it, with intervals over seeds.

    Args:
        rows: bias rows.

    Returns:
        The table ``tables/rearing_biases.csv``.
    """
    accuracy = rows[rows["measure"] == ACCURACY].groupby(["condition", "epoch"])["value"].mean()
    return pd.DataFrame(
        {
            **names,
            **t_interval(part["value"].to_numpy()).row(),
            "accuracy": accuracy.get((names["condition"], names["epoch"]), np.nan),
        }
        for names, part in groups(rows, ["measure", "condition", "epoch"])
    )


def _vectors(last: pd.DataFrame, measure: str, condition: str) -> pd.DataFrame:
    """Components c4 and s4 of a condition's networks; index seed."""
    own = last[(last["measure"] == measure) & (last["condition"] == condition)]
    wide = own.pivot(index="seed", columns="component", values="value")
    return wide.reindex(columns=["c4", "s4"]).dropna()


def _phase(means: np.ndarray) -> np.ndarray:
    return np.rad2deg(np.arctan2(means[..., 1], means[..., 0])) / 4


def _turn(means: np.ndarray) -> np.ndarray:
    apart = _phase(means[..., :2]) - _phase(means[..., 2:])
    return np.mod(apart + _CYCLE_DEG / 2, _CYCLE_DEG) - _CYCLE_DEG / 2


def optimum_shifts(
    frame: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    *,
    baseline: str | None = None,
) -> pd.DataFrame:
    """How far the 4-cycle component of one condition is turned against that of another.

    Networks pre-trained on pictures turned by 22.5 deg should have theirs turned by 22.5 deg. Seeds
    are paired. Where a component is no larger than its noise, the interval is the whole
    circle.

    Args:
        frame: condition, seed, epoch, measure, component (`c4` and `s4`), value; each network's
            last epoch counts.
        pairs: (condition, minus).
        baseline: condition of untrained networks of the same initial values, whose components are
            subtracted first; None: nothing is.

    Returns:
        The table ``tables/rearing_optima.csv``; a pair without common seeds has no row.
    """
    last = final(frame)
    rows = []
    for measure in last.loc[last["component"] == "c4", "measure"].unique():
        for condition, minus in pairs:
            names = [condition, minus, *([baseline] if baseline else [])]
            vectors = [_vectors(last, measure, name) for name in names]
            both = pd.concat(vectors, axis=1, join="inner").to_numpy()
            if not len(both):
                continue
            own = both[:, :4] - (np.tile(both[:, 4:], 2) if baseline else 0)
            one = statistics.interval(own, None, _turn, period=_CYCLE_DEG).row()
            rows.append({"measure": measure, "condition": condition, "minus": minus, **one})
    return pd.DataFrame(rows, columns=["measure", "condition", "minus", *_INTERVAL])


def places_of_optimum(frame: pd.DataFrame) -> pd.DataFrame:
    """Orientation, 0 to 90, where each condition is best: least error or most information.

    Args:
        frame: as for :func:`optimum_shifts`.

    Returns:
        measure, condition, estimate (deg; for signed errors the place of attraction), ci_low,
        ci_high, n, seeds.
    """
    last = final(frame)
    rows = []
    for names, _ in groups(last[last["component"] == "c4"], ["measure", "condition"]):
        own = _vectors(last, names["measure"], names["condition"]).to_numpy()
        if not len(own):
            continue
        # Attraction: errors fall through zero, a quarter of a cycle after their highest place.
        ahead = {"fisher": 0.0, "signed": _CYCLE_DEG / 4}
        shift = ahead.get(names["measure"].split("_")[0], _CYCLE_DEG / 2)

        def place(means: np.ndarray, shift: float = shift) -> np.ndarray:
            return np.mod(_phase(means) + shift, _CYCLE_DEG)

        found = statistics.interval(own, None, place, period=_CYCLE_DEG)
        rows.append({**names, **found.row()})
    return pd.DataFrame(rows)


def findings(table: pd.DataFrame, quantity: pd.Series) -> pd.DataFrame:
    """Rows of a table of contrasts as findings; of equal addresses the first counts.

    Args:
        table: condition, minus and the columns of an interval.
        quantity: of each row.

    Returns:
        Columns `tables.FINDINGS`: dataset `probe`, backbone `<condition>_minus_<minus>`, protocol
        `corrected`.
    """
    named = table.assign(
        quantity=quantity,
        dataset="probe",
        backbone=table["condition"] + "_minus_" + table["minus"],
        protocol="corrected",
    )
    return named.drop_duplicates(["quantity", "backbone"])[list(FINDINGS)]
