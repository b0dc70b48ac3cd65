"""Phase transitions of a training loss, against curves that only decay smoothly.

A loss curve is taken on the log scale and set against its best smooth decay, one that only ever
slows down. Two detectors look at what is left: PELT finds drops of level, and a hinge test finds
places where the slope turns down. Each is calibrated on surrogates: the same smooth decay with
resampled blocks of the same noise.

The search does not reach the ends of a training: a bend is judged by the eight bins on either side,
so that of 80 bins after the warm-up the middle four fifths are searched (:func:`searched`), and
less of shorter logs. A count of 0 does not cover the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import ruptures
from scipy.ndimage import median_filter
from scipy.optimize import isotonic_regression, nnls

from patchwork import statistics
from patchwork.statistics import Interval
from patchwork.statistics.power import mean_found, share_found
from patchwork.tables import FINDINGS, conditions, groups

TOTAL = "total"
N_BINS = 80
# ASSUME: noise of neighbouring bins is related over a few bins at most.
_BLOCK = 4
# So near to either end the fit is free to follow a drop, which then leaves no residual.
_EDGE = 5
_SMOOTH = 9
# Bins on either side of a place whose slopes are compared.
_REACH = 8
_ENDS = ("searched_from", "searched_to")
CLAIMED = 2  # transitions in every training, arXiv 2504.09393
# Planted transitions: drops somewhere in the searched part, so far apart that they do not merge.
# ASSUME: a drop by a third within a fiftieth of the training is one that a reader would see.
_DROP = 0.4
_DROP_BINS = 0.4
_APART_BINS = 20


@dataclass(frozen=True)
class Search:
    """How transitions are searched for.

    Attributes:
        alpha: chance that a smooth curve gives any detection, per detector.
        n_surrogates: smooth curves of the null, 19 or more.
        seed: of the surrogates.
        warmup_steps: first steps that are left out.
        tolerance: how far apart two detections of one transition may be, as a share of all steps.
        steps_min: steps after warm-up below which a curve is not searched.
        n_planted: curves with planted drops per run, which tell the power.
    """

    alpha: float = 0.05
    n_surrogates: int = 199
    seed: int = 0
    warmup_steps: int = 0
    tolerance: float = 0.1
    steps_min: int = 60
    n_planted: int = 20


@dataclass(frozen=True)
class Curve:
    """A logged curve in bins.

    Attributes:
        step: middle of each bin.
        value: log of the mean in each bin.
        masked: whether the learning rate jumped in or next to the bin.
    """

    step: np.ndarray
    value: np.ndarray
    masked: np.ndarray


def binned(step: np.ndarray, value: np.ndarray, rate: np.ndarray, search: Search) -> Curve:
    """Average a curve in at most `N_BINS` bins, without warm-up, and mark jumps of the rate.

    Args:
        step: shape (n,), increasing.
        value: shape (n,), > 0.
        rate: shape (n,), learning rate; a change of a fifth from one step to the next is a jump.
        search: warm-up and shortest curve.

    Raises:
        ValueError: if too few steps are left or a value is not above 0.
    """
    kept = step >= search.warmup_steps
    step, value, rate = step[kept], value[kept], rate[kept]
    if len(step) < search.steps_min:
        raise ValueError(
            f"curve has {len(step)} steps after warm-up; allowed is {search.steps_min} or more"
        )
    if not (np.isfinite(value).all() and value.min() > 0):
        raise ValueError(f"curve has the value {value.min()}; allowed is above 0")
    parts = np.array_split(np.arange(len(step)), min(N_BINS, len(step) // 2))
    jump = np.zeros(len(step), bool)
    jump[1:] = np.abs(np.diff(np.log(np.maximum(rate, 1e-12)))) > np.log(1.25)
    # A falling cosine ends in large relative changes of a rate that no longer moves anything.
    jump &= rate > 0.02 * rate.max()
    near = np.array([jump[part].any() for part in parts])
    near = near | np.roll(near, 1) | np.roll(near, -1)
    return Curve(
        step=np.array([step[part].mean() for part in parts]),
        value=np.log(np.array([value[part].mean() for part in parts])),
        masked=near,
    )


def smooth_decay(curve: Curve) -> np.ndarray:
    """Least-squares fit among all curves that bend upwards only, shape (bins,).

    A decay that slows down steadily, whatever its law, is convex on the log scale; a drop after a
    plateau is not.
    """
    time = np.linspace(0, 1, len(curve.value))
    bends = np.maximum(time[:, None] - time[None, :-1], 0)[:, 1:]
    # Level and slope have either sign, bends only one: non-negative least squares.
    design = np.column_stack([np.ones_like(time), -np.ones_like(time), time, -time, bends])
    weights, _ = nnls(design, curve.value, maxiter=50 * design.shape[1])
    return design @ weights


def _noise(rest: np.ndarray) -> np.ndarray:
    """The quick part of what is left: a transition is slower than this, so it is not in it."""
    # The running median takes about a ninth of the noise's variance with it.
    return (rest - median_filter(rest, _SMOOTH, mode="nearest")) * np.sqrt(_SMOOTH / (_SMOOTH - 1))


def surrogates(rest: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Noise like that of a residual, by circular blocks of it, shape (n, bins)."""
    rest = _noise(rest)
    length = len(rest)
    starts = rng.integers(0, length, (n, -(-length // _BLOCK)))
    places = (starts[:, :, None] + np.arange(_BLOCK)).reshape(n, -1)[:, :length] % length
    return rest[places]


def _detrended(rest: np.ndarray) -> np.ndarray:
    """Shapes without what any smooth decay may have: level, slope and one steady bend."""
    design = np.vander(np.linspace(-1, 1, rest.shape[-1]), 3)
    return rest - rest @ design @ np.linalg.pinv(design)


def _bend_filter() -> np.ndarray:
    """Slope of the next `_REACH` bins minus slope of the last ones, as weights per bin."""
    time = np.arange(_REACH + 1) - _REACH / 2
    slope = time / (time**2).sum()
    weights = np.zeros(2 * _REACH + 1)
    weights[: _REACH + 1] -= slope
    weights[_REACH:] += slope
    return weights


def _bends(values: np.ndarray) -> np.ndarray:
    """Change of slope at each bin but the first and last `_REACH`, shape (..., bins - 2 reach)."""
    windows = np.lib.stride_tricks.sliding_window_view(values, 2 * _REACH + 1, axis=-1)
    return windows @ _bend_filter()


def _steps(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of a change of level at each place, and the places."""
    places = np.arange(_EDGE, n - _EDGE)
    levels = _detrended((np.arange(n)[None] >= places[:, None]).astype(float))
    return levels / np.linalg.norm(levels, axis=1, keepdims=True), places


def _hinge_places(
    value: np.ndarray, smooth: np.ndarray, null: np.ndarray, search: Search
) -> list[tuple[int, float]]:
    """Places where the slope turns down more than anywhere in nearly all smooth curves."""
    bends, limit = _bends(value), _bends(smooth + null).min(1)
    found = []
    for i, bend in enumerate(bends):
        p = float((1 + (limit <= bend).sum()) / (1 + len(limit)))
        sharpest = bend == bends[max(0, i - _REACH) : i + _REACH + 1].min()
        if p <= search.alpha and sharpest:
            found.append((i + _REACH, p))
    return found


def _pelt_places(rest: np.ndarray, null: np.ndarray, search: Search) -> list[tuple[int, float]]:
    """Drops of level between segments of PELT, its penalty set by the surrogates."""
    shapes, places = _steps(len(rest))
    largest = ((null @ shapes.T) ** 2).max(1)
    penalty = float(np.quantile(largest, 1 - search.alpha))
    ends = ruptures.Pelt(model="l2", min_size=_EDGE, jump=1).fit(rest).predict(pen=penalty)
    edges = [0, *ends]
    means = [rest[a:b].mean() for a, b in pairwise(edges)]
    found = []
    for place, before, after in zip(ends[:-1], means[:-1], means[1:], strict=True):
        inside = np.flatnonzero(places == place)
        if after < before and len(inside):
            gain = float((shapes[inside[0]] @ rest) ** 2)
            p = float((1 + (largest >= gain).sum()) / (1 + len(largest)))
            found.append((int(place), p))
    return found


def detect(curve: Curve, search: Search) -> dict[str, list[tuple[float, float]]]:
    """Transitions of one curve by each detector.

    Args:
        curve: as from :func:`binned`.
        search: levels and surrogates.

    Returns:
        Detector to (step, p); detections where the learning rate jumped are left out.
    """
    smooth = smooth_decay(curve)
    rest = curve.value - smooth
    rng = np.random.Generator(np.random.Philox(search.seed))
    null = surrogates(rest, search.n_surrogates, rng)
    places = {
        "pelt": _pelt_places(rest, null, search),
        "hinge": _hinge_places(curve.value, smooth, null, search),
    }
    return {
        name: [(float(curve.step[i]), p) for i, p in sorted(one) if not curve.masked[i]]
        for name, one in places.items()
    }


def searched(curve: Curve) -> tuple[float, float]:
    """First and last step at which all detectors can find a transition."""
    return float(curve.step[_REACH]), float(curve.step[-1 - _REACH])


def smooth_twin(curve: Curve, rng: np.random.Generator, drops: np.ndarray | tuple = ()) -> Curve:
    """A curve with the same smooth decay and like noise, and no transition but those planted.

    Args:
        curve: as from :func:`binned`.
        rng: of the noise.
        drops: bins at which the loss falls by `_DROP` log units.
    """
    smooth = smooth_decay(curve)
    noise = surrogates(curve.value - smooth, 1, rng)[0]
    bins = np.arange(len(smooth))
    fall = sum(_DROP / (1 + np.exp(-(bins - place) / _DROP_BINS)) for place in drops)
    return Curve(curve.step, smooth + noise - fall, curve.masked)


def planted_drops(n_bins: int, rng: np.random.Generator) -> np.ndarray:
    """Bins of `CLAIMED` drops in the searched part, in order; nearer together in short curves."""
    first, last = _REACH, n_bins - 1 - _REACH
    apart = min(_APART_BINS, (last - first) / (2 * CLAIMED))
    room = last - first - (CLAIMED - 1) * apart
    return first + np.sort(rng.uniform(0, room, CLAIMED)) + apart * np.arange(CLAIMED)


def half_drop(curve: Curve) -> float:
    """Step at which half of the drop of the log loss lies behind.

    It exists for every curve that falls, with or without transitions: the first crossing of the
    middle between the ends of the best falling curve (isotonic regression).

    Returns:
        A step; nan for a curve that does not fall.
    """
    fall = isotonic_regression(curve.value, increasing=False).x
    if fall[0] == fall[-1]:
        return np.nan
    # The abscissa of np.interp must grow; of equal levels the first counts.
    level, first = np.unique(-fall, return_index=True)
    return float(np.interp(-(fall[0] + fall[-1]) / 2, level, curve.step[first]))


def confirmed(
    found: Sequence[Mapping[str, list[tuple[float, float]]]], reach: float
) -> list[float]:
    """Places that every detector finds on every metric, each detection standing for one only.

    A gradual drop has several edges but one bend: at most as many transitions are confirmed as
    the detector with the fewest detections has.

    Args:
        found: for each metric the result of :func:`detect`; their order does not matter.
        reach: steps by which detections of one transition may differ.

    Returns:
        Mean step of each transition, in order.
    """
    lists = [sorted(step for step, _ in places) for one in found for places in one.values()]
    kept = []
    while all(lists):
        heads = [places[0] for places in lists]
        if max(heads) - min(heads) <= reach:
            kept.append(float(np.mean(heads)))
            lists = [places[1:] for places in lists]
        else:
            # Nothing that is left elsewhere is near enough to the earliest: it stands alone.
            lists[int(np.argmin(heads))].pop(0)
    return kept


def of_run(
    log: pd.DataFrame, metrics: Sequence[str], search: Search
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Transitions of every target of one run.

    Args:
        log: step, learning_rate, target and the metrics, > 0.
        metrics: columns that are continuous in the predictions, such as loss and absolute_error.
        search: levels and surrogates.

    Returns:
        Detections (target, metric, detector, step, p), and one row per target (target,
        n_transitions: what all detectors confirm on all metrics, half_drop_step of the first
        metric, searched_from, searched_to, last_step, and for the target `TOTAL` only n_null, the
        count on smooth twins, and planted_found, the share of `search.n_planted` smooth twins with
        `CLAIMED` planted drops in which so many are found).
    """
    rows, counts = [], []
    for target, part in log.groupby("target", sort=False):
        step, rate = (part[name].to_numpy(float) for name in ("step", "learning_rate"))
        curves = [binned(step, part[name].to_numpy(float), rate, search) for name in metrics]
        found = [detect(curve, search) for curve in curves]
        rows += [
            {"target": target, "metric": metric, "detector": detector, "step": step, "p": p}
            for metric, one in zip(metrics, found, strict=True)
            for detector, places in one.items()
            for step, p in places
        ]
        reach = search.tolerance * float(np.ptp(curves[0].step))
        twins = _twins(curves, search, reach) if target == TOTAL else {}
        counts.append(
            {
                "target": target,
                "n_transitions": len(confirmed(found, reach)),
                "n_null": np.nan,
                "planted_found": np.nan,
                "half_drop_step": half_drop(curves[0]),
                **dict(zip(_ENDS, searched(curves[0]), strict=True)),
                "last_step": part["step"].max(),
                **twins,
            }
        )
    detections = pd.DataFrame(rows, columns=["target", "metric", "detector", "step", "p"])
    return detections, pd.DataFrame(counts)


def _twins(curves: Sequence[Curve], search: Search, reach: float) -> dict[str, float]:
    """What is counted on smooth twins of the curves, without and with planted drops."""
    rng = np.random.Generator(np.random.Philox(search.seed))

    def count(drops: np.ndarray | tuple) -> int:
        twins = [smooth_twin(curve, rng, drops) for curve in curves]
        return len(confirmed([detect(twin, search) for twin in twins], reach))

    n_bins = len(curves[0].value)
    planted = [count(planted_drops(n_bins, rng)) for _ in range(search.n_planted)]
    return {"n_null": count(()), "planted_found": float(np.mean(np.equal(planted, CLAIMED)))}


def with_total(log: pd.DataFrame, weights: Mapping[str, float]) -> pd.DataFrame:
    """A run's log with one more target, the weighted sum over targets: what training minimises.

    Args:
        log: step, epoch, learning_rate, target, loss, absolute_error.
        weights: target to its weight.
    """
    weight = log["target"].map(weights)
    weighted = log.assign(
        loss=log["loss"] * weight, absolute_error=log["absolute_error"] * weight, target=TOTAL
    )
    keys = ["step", "epoch", "learning_rate", "target"]
    return pd.concat([log, weighted.groupby(keys, as_index=False).sum()], ignore_index=True)


def share_interval(counts: pd.DataFrame, column: str = "n_transitions") -> Interval:
    """Share of trainings with as many transitions as claimed; binomial, over seeds.

    Args:
        counts: seed, training (a name) and the count, one row per training.
        column: of the count.
    """
    hits = (counts[column] == CLAIMED).to_numpy(float)
    seeds, trainings = (counts[name].to_numpy() for name in ("seed", "training"))
    return statistics.share_intervals(hits, seeds, trainings)[0]


def delays(counts: pd.DataFrame, later: str, first: str) -> pd.Series:
    """How much later half of the drop lies behind on one dataset than on another, seed by seed.

    Args:
        counts: dataset, seed, half_drop_step, last_step; one row per training.
        later: dataset that is expected to be later.
        first: the other one.

    Returns:
        Percent of the longer training; seeds without either are left out.
    """
    pair = counts[counts["dataset"].isin([first, later])]
    step = pair.pivot(index="seed", columns="dataset", values="half_drop_step")
    step = step.reindex(columns=[first, later])
    # One length for both: training that stops early must not move a drop.
    share = 100 / pair.groupby("seed")["last_step"].max()
    return (share * (step[later] - step[first])).dropna()


def findings(
    counts: pd.DataFrame,
    pooled: Sequence[str],
    order: Mapping[str, str],
    *,
    targets: Sequence[str],
    planted_percent: float,
    seed: int = 0,
) -> pd.DataFrame:
    """Shares of trainings with two transitions, delays, and how often planted ones are found.

    Args:
        counts: dataset, backbone, protocol, seed and what :func:`of_run` counts.
        pooled: datasets that are also taken together, as dataset ``all``.
        order: dataset to the one that lacks what it adds, whose drop should come first.
        targets: whose drop is dated, the first that a protocol has.
        planted_percent: delay that is planted, percent of the training.
        seed: of the planted effects.

    Returns:
        Findings ``share_with_two_transitions`` (of the total loss; ``..._null``: of smooth twins;
        ``..._<target>``: of one target), ``two_transitions_power``,
        ``transitions_searched_from_percent`` and ``..._to_percent`` (which part of the training was
        searched), ``half_drop_delay_<dataset>_percent`` (of the training) and its ``..._power``.
    """
    rows = []
    named = counts.assign(training=counts["dataset"] + " " + counts["seed"].astype(str))
    both = pd.concat([named, named[named["dataset"].isin(pooled)].assign(dataset="all")])
    for names, part in conditions(both):
        found = _shares(part)
        if names["dataset"] == "all":
            found["two_transitions_power"] = _shares_found(part, seed)
        rows += [{"quantity": name, **names, **one.row()} for name, one in found.items()]
    for names, part in groups(counts, ["backbone", "protocol"]):
        target = next(one for one in targets if one in set(part["target"]))
        dated = part[part["target"] == target]
        for dataset, first in order.items():
            if {dataset, first} <= set(dated["dataset"]):
                quantity = f"half_drop_delay_{dataset}_percent"
                values = delays(dated, dataset, first).to_numpy()
                one = statistics.interval(values) if len(values) else statistics.unknown(0, 0)
                place = {"dataset": dataset, **names}
                rows.append({"quantity": quantity, **place, **one.row()})
                power = mean_found(values, planted_percent, (planted_percent / 2, None), seed)
                rows.append({"quantity": f"{quantity}_power", **place, **power.row()})
    return pd.DataFrame(rows)[list(FINDINGS)]


def _shares(part: pd.DataFrame) -> dict[str, Interval]:
    """Findings about the trainings of one condition, or of several."""
    total, name = part[part["target"] == TOTAL], "share_with_two_transitions"
    found = {name: share_interval(total), f"{name}_null": share_interval(total, "n_null")}
    for target, one in part[part["target"] != TOTAL].groupby("target", sort=False):
        found[f"{name}_{target}"] = share_interval(one)
    for end in _ENDS:
        percent = (100 * total[end] / total["last_step"]).to_numpy()
        found[f"transitions_{end}_percent"] = statistics.interval(percent, total["seed"].to_numpy())
    return found


def _shares_found(part: pd.DataFrame, seed: int) -> Interval:
    """How often trainings with two planted drops each would be found to have two, most of them."""
    total = part[part["target"] == TOTAL]

    def draw(rng: np.random.Generator) -> Interval:
        seeds = total["seed"].unique()
        drawn = pd.concat(
            total[total["seed"] == one].assign(seed=i)
            for i, one in enumerate(rng.choice(seeds, len(seeds)))
        )
        found = rng.random(len(drawn)) < drawn["planted_found"].to_numpy()
        every = np.arange(len(drawn))
        return share_interval(drawn.assign(n_transitions=CLAIMED * found, training=every))

    return share_found(draw, (0.5, 1.0), seed)
