"""Effects and similarities of heads over seeds: tables with intervals, and findings."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from patchwork import statistics
from patchwork.statistics import Resampling
from patchwork.tables import CONDITION, groups, join

AGNOSTIC = 0.9
_UNTOUCHED = "untouched"
# ASSUME: sweeps in fp32 agree with plain forward passes to about this share of an effect. A cell
# that never exceeds it holds rounding, which many images would make pass for a tiny effect.
_ROUNDING = 1e-5


def _wide(frame: pd.DataFrame, cells: list[str]) -> tuple[pd.DataFrame, pd.Index]:
    """One row per seed and example, one column per measured cell; and every cell of the sweep."""
    # The pivot leaves out cells whose every effect is nan.
    table = frame.pivot_table(index=["seed", "example"], columns=cells, values="effect")
    if table.empty:
        raise ValueError("effect is nan in every row; allowed is one number or more")
    return table, frame.groupby(cells, observed=True).size().index


def _on_grid(table: pd.DataFrame, measured: pd.Index, grid: pd.Index) -> pd.DataFrame:
    """Rows of measured cells in their places; a cell without any effect has nan and n of 0."""
    placed = table.set_index(measured).reindex(grid)
    return placed.assign(n=placed["n"].fillna(0).astype(int)).reset_index()


def _without_rounding(values: np.ndarray) -> np.ndarray:
    """Zero in cells whose every example is below the resolution of the sweep."""
    largest = np.abs(values).max(0)
    return np.where(largest < _ROUNDING * largest.max(), 0.0, values)


def ablation_table(frame: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """Effect of ablating each head with its interval, tested over the whole grid.

    Args:
        frame: dataset, backbone, protocol, metric, seed, example, layer, head, baseline, effect.
        resampling: of intervals, sign flips and the split.

    Returns:
        dataset, backbone, protocol, layer, head, baseline, metric, effect, ci_low, ci_high, p, q
        (Benjamini-Hochberg), p_family (max-T over the grid), confirmed (found in one half of the
        images and again in the other), n (0 in a cell whose every effect is nan; its numbers are
        nan, and the other cells are tested without it), seeds.

    Raises:
        ValueError: if some effects of a cell are nan, or all of the grid, or there are fewer than 4
            examples.
    """
    cells = ["layer", "head", "baseline"]
    parts = []
    for names, part in groups(frame, [*CONDITION, "metric"]):
        wide, grid = _wide(part, cells)
        values = _without_rounding(wide.to_numpy())
        seeds = wide.index.get_level_values("seed").to_numpy()
        examples = wide.index.get_level_values("example").to_numpy()
        table = statistics.effect_table(values, seeds, resampling=resampling, units=examples)
        family = statistics.max_t_p(values, examples, seed=resampling.seed)
        halves = statistics.split_half(values, examples, resampling=resampling)
        confirmed = halves.loc[halves["confirmed"].astype(bool), "cell"].to_numpy(int)
        parts.append(
            _on_grid(table.assign(p_family=family), wide.columns, grid).assign(
                **names,
                confirmed=grid.isin(wide.columns[confirmed]),
                seeds=len(np.unique(seeds)),
            )
        )
    order = [*CONDITION, *cells, "metric", "effect", "ci_low", "ci_high", "p", "q", "p_family"]
    return join(parts)[[*order, "confirmed", "n", "seeds"]]


def patching_table(frame: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """Share of the clean-corrupted difference that each patch carries over, with its interval.

    Args:
        frame: dataset, backbone, protocol, metric, seed, example, component, layer, position,
            direction, effect, base, source.
        resampling: of the intervals.

    Returns:
        dataset, backbone, protocol, layer, position, component, direction, metric, effect (loss),
        recovery (no unit), ci_low, ci_high (of the recovery), p, q, n, seeds. A cell whose every
        effect is nan has nan and n of 0; one seed with one example has no interval, p or q (nan).

    Raises:
        ValueError: if some effects of a cell are nan, or all of the grid.
    """
    cells = ["layer", "position", "component"]
    parts = []
    for names, part in groups(frame, [*CONDITION, "metric", "direction"]):
        wide, grid = _wide(part, cells)
        ends = part.drop_duplicates(["seed", "example"]).set_index(["seed", "example"])
        gap = (ends["source"] - ends["base"]).reindex(wide.index).to_numpy()
        table = _recovery(wide, gap, resampling)
        parts.append(
            _on_grid(table, wide.columns, grid).assign(
                **names,
                seeds=wide.index.get_level_values("seed").nunique(),
            )
        )
    order = [*CONDITION, *cells, "direction", "metric", "effect", "recovery"]
    return join(parts)[[*order, "ci_low", "ci_high", "p", "q", "n", "seeds"]]


def _recovery(wide: pd.DataFrame, gap: np.ndarray, resampling: Resampling) -> pd.DataFrame:
    """Ratio of the mean effect to the mean gap, per cell."""
    values = np.column_stack([_without_rounding(wide.to_numpy()), gap])
    seeds = wide.index.get_level_values("seed").to_numpy()
    examples = wide.index.get_level_values("example").to_numpy()
    k = len(np.unique(seeds))
    count = k if k > 1 else len(values)
    drawn = statistics.bootstrap_means(values, seeds, resampling, examples)
    effect, whole = values.mean(0)[:-1], values.mean(0)[-1]
    ratio = effect / whole
    error = statistics.standard_error(drawn[:, :-1] / drawn[:, -1:], count)
    half = stats.t.ppf((1 + resampling.confidence) / 2, count - 1) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        # A patch that carries the same share in every replicate is certain, unless it is none.
        t = np.where(ratio == 0, 0.0, np.abs(ratio) / error)
    p = 2 * stats.t.sf(t, count - 1)
    return pd.DataFrame(
        {
            "effect": effect,
            "recovery": ratio,
            "ci_low": ratio - half,
            "ci_high": ratio + half,
            "p": p,
            "q": statistics.false_discovery_rate(p),
            "n": len(values),
        }
    )


def similarity_table(frame: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """Similarity of each head between tasks, and with the untouched backbone, over seeds.

    Args:
        frame: backbone, protocol, seed, one, other, layer, head, map_correlation, linear_cka, n.
        resampling: of the intervals.

    Returns:
        backbone, protocol, compared (`tasks` or `untouched`), layer, head, measure, similarity,
        ci_low, ci_high, n (images), seeds.
    """
    rows = []
    long = _long(frame)
    keys = ["backbone", "protocol", "compared", "layer", "head", "measure"]
    for names, part in groups(long, keys):
        # Pairs of tasks share networks, so a seed counts once.
        means = part.groupby("seed")["similarity"].mean()
        one = statistics.cluster_bootstrap(
            means.to_numpy(), means.index.to_numpy(), resampling=resampling
        )
        # Neither lies beyond one.
        ends = {"ci_low": max(one.low, -1.0), "ci_high": min(one.high, 1.0)}
        row = names | {"similarity": one.estimate, **ends}
        rows.append({**row, "n": int(part["n"].iloc[0]), "seeds": len(means)})
    return pd.DataFrame(rows)


def _long(frame: pd.DataFrame) -> pd.DataFrame:
    compared = np.where(frame["other"] == _UNTOUCHED, _UNTOUCHED, "tasks")
    keys = ["backbone", "protocol", "seed", "one", "other", "compared", "layer", "head", "n"]
    return frame.assign(compared=compared).melt(
        keys,
        ["map_correlation", "linear_cka"],
        "measure",
        "similarity",
    )


def similarity_findings(
    frame: pd.DataFrame, resampling: Resampling, untrained: Sequence[str] = ()
) -> pd.DataFrame:
    """How alike heads are over all heads, per backbone and protocol, with intervals over seeds.

    Args:
        frame: as for :func:`similarity_table`.
        resampling: of the intervals.
        untrained: backbones that nothing has trained, whose similarity is the null of the others.

    Returns:
        quantity, dataset (``all``), backbone, protocol, estimate, ci_low, ci_high, n, seeds:
        ``cross_task_head_similarity`` (mean linear CKA of a head's outputs between two tasks),
        ``cross_task_map_correlation``, ``similarity_to_untouched`` (linear CKA),
        ``share_of_agnostic_heads``: heads whose CKA is at least 0.9 between all pairs of tasks,
        ``n_agnostic_layers``: layers all of whose heads are, and for each untrained backbone
        ``head_similarity_excess_over_<name>``: cross-task similarity minus that of the untrained
        backbone with the same seed, over the pairs of tasks that both were tuned on.
    """
    between = frame[frame["other"] != _UNTOUCHED]
    keys = ["backbone", "protocol", "seed"]
    lowest = between.groupby([*keys, "layer", "head"])["linear_cka"].min().ge(AGNOSTIC)
    per_seed = {
        "cross_task_head_similarity": between.groupby(keys)["linear_cka"].mean(),
        "cross_task_map_correlation": between.groupby(keys)["map_correlation"].mean(),
        "similarity_to_untouched": frame[frame["other"] == _UNTOUCHED]
        .groupby(keys)["linear_cka"]
        .mean(),
        "share_of_agnostic_heads": lowest.groupby(keys).mean(),
        "n_agnostic_layers": lowest.groupby([*keys, "layer"]).all().groupby(keys).sum(),
        **{f"head_similarity_excess_over_{name}": _excess(between, name) for name in untrained},
    }
    rows, n_layers = [], frame["layer"].nunique()
    for quantity, values in per_seed.items():
        table = values.astype(float).rename("value").reset_index()
        for names, part in groups(table, ["backbone", "protocol"]):
            one = statistics.cluster_bootstrap(
                part["value"].to_numpy(), part["seed"].to_numpy(), resampling=resampling
            ).row()
            # No share and no count lies below zero, no similarity below -1 or, but counts, above 1.
            counts, shares = quantity.startswith("n_"), quantity.startswith("share")
            least = 0.0 if counts or shares else -1.0
            most = float(n_layers) if counts else 1.0
            one |= {"ci_low": max(one["ci_low"], least), "ci_high": min(one["ci_high"], most)}
            one |= {"n": int(frame["n"].iloc[0])}
            rows.append({"quantity": quantity, "dataset": "all", **names, **one})
    return pd.DataFrame(rows)


def _excess(between: pd.DataFrame, untrained: str) -> pd.Series:
    """Cross-task similarity above that of an untrained backbone, per other backbone and seed."""
    ends = np.sort(between[["one", "other"]].to_numpy(str), axis=1)
    named = between.assign(first=ends[:, 0], second=ends[:, 1])
    shared = ["protocol", "seed", "first", "second"]
    means = named.groupby(["backbone", *shared])["linear_cka"].mean().reset_index()
    null = means["backbone"] == untrained
    both = means[~null].merge(means[null], on=shared, suffixes=("", "_null"))
    excess = (both["linear_cka"] - both["linear_cka_null"]).rename("linear_cka")
    return excess.groupby([both[key] for key in ("backbone", "protocol", "seed")]).mean()
