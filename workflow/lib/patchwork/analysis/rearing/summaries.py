"""Tables beside the contrasts of conditions: curves, trajectories, optima, adaptation."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from patchwork import statistics
from patchwork.analysis.rearing.condition_contrasts import (
    ACCURACY,
    Outcome,
    biases,
    differences,
    final,
    t_interval,
)
from patchwork.statistics import Resampling
from patchwork.tables import FINDINGS, groups

_CYCLE_DEG = 90.0


def curve_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean curve of every measure and condition over seeds, at each network's last epoch.

    Args:
        frame: condition, seed, epoch, measure, kind, orientation_deg, value; rows of kind `curve`
            count.

    Returns:
        measure, condition, orientation_deg, value, ci_low, ci_high, n, seeds.
    """
    curves = final(frame[frame["kind"] == "curve"])
    rows = []
    for names, part in groups(curves, ["measure", "condition", "orientation_deg"]):
        found = t_interval(part["value"].to_numpy()).row()
        rows.append({**names, "value": found.pop("estimate"), **found})
    return pd.DataFrame(rows)


def condition_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Bias of every condition at every epoch, its accuracy beside it, with intervals over seeds.

    Args:
        frame: as for :func:`.condition_contrasts.biases`.

    Returns:
        measure, condition, epoch, estimate, ci_low, ci_high, n, seeds, accuracy (mean over seeds).
    """
    rows = biases(frame)
    accuracy = rows[rows["measure"] == ACCURACY].groupby(["condition", "epoch"])["value"].mean()
    return pd.DataFrame(
        {
            **names,
            **t_interval(part["value"].to_numpy()).row(),
            "accuracy": accuracy.get((names["condition"], names["epoch"]), np.nan),
        }
        for names, part in groups(rows, ["measure", "condition", "epoch"])
    )


def trajectory_table(frame: pd.DataFrame, outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Each contrast at every epoch that both conditions have.

    Args:
        frame: as for :func:`.condition_contrasts.biases`.
        outcomes: measures and conditions.

    Returns:
        measure, condition, minus, epoch, estimate, ci_low, ci_high, n, seeds, accuracy_condition,
        accuracy_minus.
    """
    rows = biases(frame)
    found = []
    for outcome in outcomes:
        for epoch, part in rows.groupby("epoch"):
            pairs = differences(part, outcome)
            if pairs.empty:
                continue
            scores = part[(part["measure"] == ACCURACY) & part["seed"].isin(pairs.index)]
            accuracy = scores.groupby("condition")["value"].mean()
            found.append(
                {
                    "measure": outcome.measure,
                    "condition": outcome.condition,
                    "minus": outcome.minus,
                    "epoch": epoch,
                    **t_interval(pairs["difference"].to_numpy()).row(),
                    "accuracy_condition": accuracy.get(outcome.condition, np.nan),
                    "accuracy_minus": accuracy.get(outcome.minus, np.nan),
                }
            )
    return pd.DataFrame(found)


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
    resampling: Resampling = statistics.DEFAULT,
) -> pd.DataFrame:
    """How far the 4-cycle component of one condition is turned against that of another.

    Networks reared on pictures turned by 22.5 deg should have theirs turned by 22.5 deg. Seeds are
    resampled in pairs. Where a component is no larger than its noise, the interval is the whole
    circle.

    Args:
        frame: condition, seed, epoch, measure, component (`c4` and `s4`), value; each network's
            last epoch counts.
        pairs: (condition, minus).
        baseline: condition of untrained networks of the same initial values, whose components are
            subtracted first; None: nothing is.
        resampling: of the intervals.

    Returns:
        measure, condition, minus, estimate (deg, -45 to 45), ci_low, ci_high, n, seeds; a pair
        without common seeds has no row.
    """
    last = final(frame)
    rows = []
    for measure in last.loc[last["component"] == "c4", "measure"].unique():
        for condition, minus in pairs:
            names = [condition, minus, *([baseline] if baseline else [])]
            seen = [_vectors(last, measure, name) for name in names]
            both = pd.concat(seen, axis=1, join="inner").to_numpy()
            if not len(both):
                continue
            own = both[:, :4] - (np.tile(both[:, 4:], 2) if baseline else 0)
            found = statistics.cluster_bootstrap(
                own, None, _turn, resampling=resampling, period=_CYCLE_DEG
            )
            one = {**found.row(), "seeds": len(both)}
            rows.append({"measure": measure, "condition": condition, "minus": minus, **one})
    columns = ["measure", "condition", "minus", "estimate", "ci_low", "ci_high", "n", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def places_of_optimum(
    frame: pd.DataFrame, *, resampling: Resampling = statistics.DEFAULT
) -> pd.DataFrame:
    """Orientation, 0 to 90, where each condition is best: least error or most information.

    Args:
        frame: as for :func:`optimum_shifts`.
        resampling: of the intervals, over seeds.

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

        found = statistics.cluster_bootstrap(
            own, None, place, resampling=resampling, period=_CYCLE_DEG
        )
        rows.append({**names, **found.row(), "seeds": len(own)})
    return pd.DataFrame(rows)


def at_matched_accuracy(frame: pd.DataFrame, condition: str, to: str) -> pd.DataFrame:
    """The networks of one condition at the moment when they were as accurate as those of another.

    A condition that learns faster is thus compared at equal accuracy, not after equal training.

    Args:
        frame: as for :func:`.condition_contrasts.biases`, with `accuracy` at every
            epoch that may be chosen.
        condition: whose networks are looked up along their rearing.
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


def lattice_table(frame: pd.DataFrame, outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """What of a bias turns with the pictures, and what stays with the patch lattice.

    For a condition and one whose pictures are turned by 45 deg, the 4-cycle component of the
    pictures changes its sign and that of the lattice does not: half the difference of the
    conditions is the pictures', half their sum the lattice's (and the probes' own).

    Args:
        frame: as for :func:`.condition_contrasts.biases`; last epochs count.
        outcomes: measures, and conditions that differ by 45 deg.

    Returns:
        measure, condition, minus, part (`pictures`, `lattice`), estimate, ci_low, ci_high, n,
        seeds.
    """
    last = final(biases(frame))
    rows = []
    for one in outcomes:
        pairs = differences(last, one)
        halves = {
            "pictures": pairs["difference"] / 2,
            "lattice": (pairs["value_condition"] + pairs["value_minus"]) / 2,
        }
        for part, values in halves.items():
            key = {
                "measure": one.measure,
                "condition": one.condition,
                "minus": one.minus,
                "part": part,
            }
            rows.append({**key, **t_interval(values.to_numpy()).row()})
    return pd.DataFrame(rows)


def pair_findings(table: pd.DataFrame, stem: str | pd.Series) -> pd.DataFrame:
    """What :func:`lattice_table` or :func:`optimum_shifts` found, as findings `<stem><measure>`.

    Args:
        table: measure, condition, minus and the columns of an interval.
        stem: of the quantity, one or one per row.

    Returns:
        Columns `tables.FINDINGS`: dataset `probe`, backbone `<condition>_minus_<minus>`, protocol
        `corrected`.
    """
    named = table.assign(
        quantity=stem + table["measure"],
        dataset="probe",
        backbone=table["condition"] + "_minus_" + table["minus"],
        protocol="corrected",
    )
    return named[list(FINDINGS)]
