"""Contrasts of rearing conditions: paired by seed, tested as registered beforehand.

A network is one example: intervals and tests run over seeds, never over images. Conditions of one
seed share initial values and the order of pictures, so their difference is paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from patchwork import statistics
from patchwork.statistics import CONFIDENCE, Interval
from patchwork.tables import FINDINGS, groups

CO_PRIMARY, EXPLORATORY = "co-primary", "exploratory"
ACCURACY = "accuracy"
# Which component of a curve is its bias: errors and information have their extreme at the favoured
# orientations, signed errors pass through zero there.
_COMPONENT = {"fisher": "c4", "ridge": "c4", "signed": "s4"}
PLAIN = "value"
_QUANTITY = {"colour_contrast": "colour_rearing_contrast"}
_MOST_EXACT = 16  # seeds up to which every flip is tried: 65,536
_NETWORK = ["condition", "seed"]
_NEEDED = (*_NETWORK, "epoch", "measure", "component", "value")


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

    @property
    def pair(self) -> str:
        """Both conditions as one name."""
        return f"{self.condition}_minus_{self.minus}"


@dataclass(frozen=True)
class Preregistration:
    """What was fixed before the networks were measured.

    Attributes:
        outcomes: the co-primary ones.
        alpha: family-wise level over them, two-sided.
        seeds_min: pairs of networks below which nothing is decided.
        accuracy_min: a network below it is left out; None: none is.
        decision: the rule in words.
    """

    outcomes: tuple[Outcome, ...]
    alpha: float
    seeds_min: int
    accuracy_min: float | None
    decision: str


def _needs(where: str, given: Mapping, needed: set[str], optional: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    if not needed <= set(given) <= needed | optional:
        raise ValueError(
            f"{where} has keys {sorted(given)}; needed are {sorted(needed)}, allowed also "
            f"{sorted(optional)}"
        )


def read_preregistration(block: Mapping[str, Any]) -> Preregistration:
    """Check a registration as the configuration holds it.

    Args:
        block: `outcomes` (each `measure`, `condition`, `minus`, `predicted_sign`: null, 1 or -1),
            `test` (`sign_flip`), `alpha`, `seeds_min`, `exclusions` (`accuracy_min`: a share or
            null), `decision`.

    Raises:
        ValueError: in one line, for a missing, unknown or impossible entry.
    """
    where = "preregistration"
    _needs(where, block, {"outcomes", "test", "alpha", "seeds_min", "exclusions", "decision"})
    _needs(f"{where}.exclusions", block["exclusions"], {"accuracy_min"})
    if block["test"] != "sign_flip":
        raise ValueError(f"{where}.test is {block['test']!r}; allowed is sign_flip")
    if not 0 < block["alpha"] < 1:
        raise ValueError(f"{where}.alpha is {block['alpha']}; allowed is between 0 and 1")
    outcomes = []
    for i, given in enumerate(block["outcomes"]):
        _needs(f"{where}.outcomes[{i}]", given, {"measure", "condition", "minus", "predicted_sign"})
        if given["predicted_sign"] not in (None, 1, -1):
            raise ValueError(
                f"{where}.outcomes[{i}].predicted_sign is {given['predicted_sign']!r}; allowed is "
                "null, 1 or -1"
            )
        outcomes.append(Outcome(**given))
    if not outcomes:
        raise ValueError(f"{where}.outcomes is empty; allowed is one outcome or more")
    return Preregistration(
        tuple(outcomes),
        float(block["alpha"]),
        int(block["seeds_min"]),
        block["exclusions"]["accuracy_min"],
        str(block["decision"]),
    )


def bias_component(measure: str) -> str:
    """The component that is the bias: c4, s4 for signed errors, `value` for plain numbers."""
    return _COMPONENT.get(measure.split("_")[0], PLAIN)


def biases(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that hold the bias component of each measure.

    Args:
        frame: condition, seed, epoch, measure, component, value; plain numbers such as `accuracy`
            have the component `value`.

    Raises:
        ValueError: if a column is missing, nothing is left, or a network has a value twice.
    """
    for column in _NEEDED:
        if column not in frame.columns:
            raise ValueError(f"frame lacks column {column}; needed are {', '.join(_NEEDED)}")
    rows = frame[frame["component"] == frame["measure"].map(bias_component)]
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


def exclude(frame: pd.DataFrame, plan: Preregistration) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Leave out the networks that the registered rules name, and say which.

    Args:
        frame: as for :func:`biases`; rules look at each network's last epoch.
        plan: the registration.

    Returns:
        The rows kept, and a table of rule (`accuracy_min`, `not_finite`), condition, seed, measure,
        value: one row per network and rule. Rows that break no rule are never dropped.
    """
    last = final(biases(frame))
    # Untrained networks have no accuracy; that breaks no rule.
    lost = ~np.isfinite(last["value"]) & (last["measure"] != ACCURACY)
    broken = [last[lost].assign(rule="not_finite")]
    if plan.accuracy_min is not None:
        scored = last[last["measure"] == ACCURACY]
        broken.append(scored[scored["value"] < plan.accuracy_min].assign(rule="accuracy_min"))
    rows = pd.concat(broken).drop_duplicates(["rule", *_NETWORK])
    left_out = pd.MultiIndex.from_frame(rows[_NETWORK])
    kept = frame[~pd.MultiIndex.from_frame(frame[_NETWORK]).isin(left_out)]
    table = rows[["rule", *_NETWORK, "measure", "value"]].reset_index(drop=True)
    return kept.reset_index(drop=True), table


def sign_flip_p(differences: np.ndarray, *, n_flips: int = 65_535, seed: int = 0) -> float:
    """Two-sided test that paired differences are symmetric about zero, by flipping their signs.

    Exact up to 16 differences: every pattern of signs counts once, so that p is at least
    2 / 2**n. With more, random patterns; the data count as one of them.

    Args:
        differences: shape (n,), finite, n >= 1.
        n_flips: random patterns where not all are tried.
        seed: of the random patterns.

    Returns:
        p value; 1 if all differences are zero.

    Raises:
        ValueError: if a difference is missing.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"differences is {values}; allowed is one finite number or more")
    n = len(values)
    if n <= _MOST_EXACT:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        extra = 0
    else:
        rng = np.random.Generator(np.random.Philox(seed))
        signs, extra = 1 - 2 * rng.integers(0, 2, (n_flips, n)), 1
    sums = np.abs(signs @ values)
    # Sums in another order may differ in the last bits.
    reached = np.sum(sums >= abs(values.sum()) * (1 - 1e-12))
    return float((reached + extra) / (len(signs) + extra))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p values of one family.

    Args:
        p: shape (k,), 0 to 1; a missing one counts as a member of the family.

    Returns:
        shape (k,), nan where p is nan.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(np.where(np.isnan(values), 2.0, values), kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(steps, 1)
    return np.where(np.isnan(values), np.nan, adjusted)


def t_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Mean over seeds with Student's interval; its ends are nan for fewer than two."""
    x = np.asarray(values, dtype=np.float64)
    n, mean = len(x), float(np.mean(x)) if len(x) else np.nan
    if n < 2:
        return Interval(mean, np.nan, np.nan, n, n)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * np.std(x, ddof=1) / np.sqrt(n)
    return Interval(mean, float(mean - half), float(mean + half), n, n)


def seeds_for_power(effect: float, sd: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Pairs of networks that a two-sided paired t test needs for its power.

    Args:
        effect: mean difference to be found.
        sd: of the differences over seeds.
        alpha: level.
        power: chance to find it.

    Returns:
        2 to 1000, also enough for the exact sign flip to reach the level; nan if more are needed
        or the sd is not known.
    """
    least = int(np.ceil(1 + np.log2(1 / alpha)))
    if not (np.isfinite(effect) and np.isfinite(sd)):
        return np.nan
    n = np.arange(2, 1001)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.sqrt(n) * abs(effect) / sd
    edge = stats.t.ppf(1 - alpha / 2, n - 1)
    reached = 1 - stats.nct.cdf(edge, n - 1, shift) if sd > 0 else np.full(len(n), effect != 0)
    enough = np.flatnonzero((reached >= power) & (n >= least))
    return float(n[enough[0]]) if len(enough) else np.nan


def differences(frame: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    """One row per seed that both have: value_condition, value_minus, difference; index seed.

    Args:
        frame: bias rows of one epoch per network.
        outcome: measure and conditions.
    """
    rows = frame[frame["measure"] == outcome.measure]
    sides = [
        rows[rows["condition"] == name].set_index("seed")["value"].dropna()
        for name in (outcome.condition, outcome.minus)
    ]
    both = pd.concat(
        sides, axis=1, keys=["value_condition", "value_minus"], join="inner"
    ).sort_index()
    return both.assign(difference=both["value_condition"] - both["value_minus"])


def contrast_table(
    frame: pd.DataFrame, plan: Preregistration, pairs: Sequence[tuple[str, str]] = ()
) -> pd.DataFrame:
    """Every contrast between conditions: the registered ones, and all others as exploratory.

    Args:
        frame: as for :func:`biases`, after :func:`exclude`; each network's last epoch counts.
        plan: the registration.
        pairs: further (condition, minus) that are explored beside the registered pairs.

    Returns:
        status (`co-primary`, `exploratory`), measure, condition, minus, predicted_sign, estimate,
        ci_low, ci_high (Student's t over seeds), n, seeds, mean_condition, mean_minus, sd, p
        (exact sign flip), p_adjusted (Holm over co-primaries; Benjamini-Hochberg over all
        exploratory ones), p_least (what so few seeds can reach), seeds_for_power (80 %;
        co-primaries at alpha over their number), accuracy_condition, accuracy_minus, significant
        (p_adjusted at most alpha), outcome (by the interval): `as predicted`, `opposite`, `shown`
        (no sign was predicted), `not shown`, `too few seeds`.
    """
    last = final(biases(frame))
    rows = [_row(last, one, plan, CO_PRIMARY) for one in plan.outcomes]
    rows += [_row(last, one, plan, EXPLORATORY) for one in _explored(last, plan, pairs)]
    table = pd.DataFrame(rows)
    first = (table["status"] == CO_PRIMARY).to_numpy()
    p = table["p"].to_numpy(float)
    table.loc[first, "p_adjusted"] = holm(p[first])
    table.loc[~first, "p_adjusted"] = statistics.false_discovery_rate(p[~first])
    table["significant"] = table["p_adjusted"] <= plan.alpha
    table["outcome"] = [_outcome(row, plan) for row in table.to_dict("records")]
    return table


def _explored(
    last: pd.DataFrame, plan: Preregistration, pairs: Sequence[tuple[str, str]]
) -> list[Outcome]:
    wanted = dict.fromkeys([*((one.condition, one.minus) for one in plan.outcomes), *pairs])
    registered = {(one.measure, one.condition, one.minus) for one in plan.outcomes}
    return [
        Outcome(measure, *pair)
        for pair in wanted
        for measure in last["measure"].unique()
        if (measure, *pair) not in registered and measure != ACCURACY
    ]


def _row(
    last: pd.DataFrame, outcome: Outcome, plan: Preregistration, status: str
) -> dict[str, Any]:
    pairs = differences(last, outcome)
    found = t_interval(pairs["difference"].to_numpy())
    n = len(pairs)
    scores = last[(last["measure"] == ACCURACY) & last["seed"].isin(pairs.index)]
    accuracy = scores.groupby("condition")["value"].mean()
    # Holm's first step; of the exploratory ones each stands alone.
    alpha = plan.alpha / (len(plan.outcomes) if status == CO_PRIMARY else 1)
    sd = float(pairs["difference"].std(ddof=1)) if n > 1 else np.nan
    return {
        "status": status,
        "measure": outcome.measure,
        "condition": outcome.condition,
        "minus": outcome.minus,
        "predicted_sign": outcome.predicted_sign,
        **found.row(),
        "mean_condition": pairs["value_condition"].mean(),
        "mean_minus": pairs["value_minus"].mean(),
        "sd": sd,
        "p": sign_flip_p(pairs["difference"].to_numpy()) if n else np.nan,
        "p_adjusted": np.nan,
        "p_least": min(1.0, 2.0 ** (1 - n)) if n else np.nan,
        "seeds_for_power": seeds_for_power(found.estimate, sd, alpha=alpha),
        "accuracy_condition": accuracy.get(outcome.condition, np.nan),
        "accuracy_minus": accuracy.get(outcome.minus, np.nan),
    }


def _outcome(row: Mapping[Any, Any], plan: Preregistration) -> str:
    if row["seeds"] < plan.seeds_min:
        return "too few seeds"
    if not (row["ci_low"] > 0 or row["ci_high"] < 0):
        return "not shown"
    sign = row["predicted_sign"]
    if sign is None or np.isnan(sign):
        return "shown"
    return "as predicted" if sign * row["estimate"] > 0 else "opposite"


def findings(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Contrasts as findings: `rearing_contrast_<measure>`, or `colour_rearing_contrast`.

    Args:
        contrasts: from :func:`contrast_table`.

    Returns:
        Columns `tables.FINDINGS`: dataset `probe`, backbone `<condition>_minus_<minus>`, protocol
        `corrected`.
    """
    rows = []
    for names, part in groups(contrasts, ["measure", "condition", "minus"]):
        measure = names["measure"]
        name = {
            "quantity": _QUANTITY.get(measure, f"rearing_contrast_{measure}"),
            "dataset": "probe",
            "backbone": Outcome(**names).pair,
            "protocol": "corrected",
        }
        rows.append({**part.iloc[0], **name})
    return pd.DataFrame(rows)[list(FINDINGS)]
