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
from patchwork.statistics import Interval, holm, seeds_for_power, sign_flip_p, t_interval
from patchwork.tables import ENDS, FINDINGS, groups

CO_PRIMARY, EXPLORATORY = "co-primary", "exploratory"
ACCURACY = "accuracy"
# Which component of a curve is its bias: errors and information have their extreme at the favoured
# orientations, signed errors pass through zero there.
_COMPONENT = {"fisher": "c4", "ridge": "c4", "signed": "s4"}
_PLAIN = "value"
_NETWORK = ["condition", "seed"]
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


def accuracy_findings(frame: pd.DataFrame) -> pd.DataFrame:
    """Findings `class_accuracy`: of every network of each condition, also of excluded ones.

    Args:
        frame: condition, seed, epoch, measure, value; each network's last epoch counts.

    Returns:
        Columns `tables.FINDINGS`: dataset `pictures`, backbone the condition, protocol `corrected`.
    """
    scored = final(frame[(frame["measure"] == ACCURACY) & np.isfinite(frame["value"])])
    rows = [
        {
            "quantity": "class_accuracy",
            "dataset": "pictures",
            "backbone": names["condition"],
            "protocol": "corrected",
            **statistics.over_seeds(part["value"], (0, 1)),
        }
        for names, part in groups(scored, ["condition"])
    ]
    return pd.DataFrame(rows, columns=list(FINDINGS))


def planted(
    values: np.ndarray,
    effect: np.ndarray | float,
    claimed: Sequence[float | None],
    seed: int,
) -> Interval:
    """Share of samples of seeds in which an effect that was planted is found.

    Args:
        values: shape (n,), of each seed; what they deviate from their mean is drawn anew.
        effect: that is planted: the mean of this, shape (n,), over the seeds that are drawn.
        claimed: as for :func:`patchwork.statistics.share_found`.
        seed: of the samples.

    Returns:
        The share with its interval; unknown for fewer than two seeds.
    """
    n = len(values)
    if n < 2:
        return statistics.unknown(0, 0)
    # Deviations from a mean of n are too small by this factor.
    apart = (values - values.mean()) * np.sqrt(n / (n - 1))
    effects = np.broadcast_to(np.asarray(effect, float), n)

    def draw(rng: np.random.Generator) -> Interval:
        chosen = rng.integers(0, n, n)
        return t_interval(apart[chosen] + effects[chosen].mean())

    return statistics.share_found(draw, claimed, seed)


def planted_findings(
    last: pd.DataFrame, effects: Sequence[Mapping[str, Any]], seed: int
) -> pd.DataFrame:
    """Findings `share_found_<quantity>`: the positive controls of contrasts.

    Args:
        last: bias rows of each network's last epoch.
        effects: measure, condition, minus, `effect` (the contrast that is planted) and `claimed`
            (the region in which it has to be found).
        seed: of the samples.

    Returns:
        As :func:`findings`, without rows of which fewer than two seeds have both conditions.
    """
    rows = []
    for one in effects:
        names = {key: one[key] for key in ("measure", "condition", "minus")}
        found = differences(
            last[last["measure"] == one["measure"]], one["condition"], one["minus"]
        )["difference"].to_numpy()
        if len(found) > 1:
            share = planted(found, one["effect"], one["claimed"], seed)
            rows.append({**names, **share.row()})
    table = pd.DataFrame(rows, columns=["measure", "condition", "minus", *_INTERVAL])
    return findings(table, "share_found_rearing_contrast_" + table["measure"])


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
