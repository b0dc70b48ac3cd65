"""Effects of heads, pairs and layers in percent of the loss, with intervals, and findings."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from patchwork import statistics
from patchwork.statistics import Resampling, Statistic
from patchwork.tables import CONDITION, FINDINGS, RUN, groups, join

# ASSUME: below the smallest published effect of a head (0.11 % of the loss) is no effect.
MARGIN_PERCENT = 0.1
# ASSUME: published layers are counted from 0 in a network of 12. A network of another depth has
# those layers in which their centres lie.
PUBLISHED_DEPTH = 12
EARLY, MIDDLE = (1, 2, 3), (6,)
LAYER_MEANS, PAIR_EXCESS, RANDOM_ORDER = "layer_means", "pair_excess", "layers_in_random_order"
_CELL = ("group", "layer", "head", "other_layer", "other_head", "baseline")
_ALPHA = 0.05


def published_layers(layers: Sequence[int], n_layers: int) -> list[int]:
    """The layers of a network at the relative depth of published ones."""
    return sorted({int((layer + 0.5) / PUBLISHED_DEPTH * n_layers) for layer in layers})


def derived(frame: pd.DataFrame) -> pd.DataFrame:
    """What follows from single heads and pairs, in the same columns, per image.

    Args:
        frame: of `group_effects.group_effects`, with the names of its run.

    Returns:
        With groups `LAYER_MEANS`: the mean effect of a single head of each layer; with
        `PAIR_EXCESS`: the effect of a pair beyond the sum of its two heads' effects, which is
        positive where either of two heads can stand in for the other.
    """
    single = frame[frame["groups"] == "heads"]
    keys = [*RUN, "layer", "baseline", "metric", "example"]
    layers = single.groupby(keys, sort=False)[["clean", "effect"]].mean().reset_index()
    none = dict.fromkeys(["head", "other_layer", "other_head"], -1)
    layers = layers.assign(groups=LAYER_MEANS, group=layers["layer"].astype(str), **none)
    return join([layers, _pair_excess(frame, single)])


def _pair_excess(frame: pd.DataFrame, single: pd.DataFrame) -> pd.DataFrame:
    pairs = frame[frame["groups"] == "pairs"]
    shared = [*RUN, "baseline", "metric", "example"]
    alone = single[[*shared, "layer", "head", "effect"]]
    other = alone.rename(columns={"layer": "other_layer", "head": "other_head"})
    both = pairs.merge(alone, on=[*shared, "layer", "head"], suffixes=("", "_one"))
    both = both.merge(other, on=[*shared, "other_layer", "other_head"], suffixes=("", "_other"))
    excess = both["effect"] - both["effect_one"] - both["effect_other"]
    kept = both.drop(columns=["effect_one", "effect_other"])
    return kept.assign(groups=PAIR_EXCESS, effect=excess)


def percent_table(
    frame: pd.DataFrame, resampling: Resampling, margin: float = MARGIN_PERCENT
) -> pd.DataFrame:
    """Effect of each group in percent of the intact loss, tested over the whole grid.

    Args:
        frame: dataset, backbone, protocol, seed, groups, group, layer, head, other_layer,
            other_head, baseline, metric, example, clean, effect.
        resampling: of the intervals; seeds and images are resampled.
        margin: of equivalence, percent, > 0.

    Returns:
        dataset, backbone, protocol, groups, group, layer, head, other_layer, other_head, baseline,
        metric, effect (percent: mean effect over mean intact loss), ci_low, ci_high, p, q
        (Benjamini-Hochberg over the groups of one kind), p_equivalent (two one-sided tests: the
        effect lies within the margin), equivalent, n, seeds.

    Raises:
        ValueError: if the margin is not positive.
    """
    if not margin > 0:
        raise ValueError(f"margin is {margin}; allowed is more than 0")
    parts = []
    for names, part in groups(frame, [*CONDITION, "groups", "metric"]):
        index = ["seed", "example"]
        wide = part.pivot_table(index=index, columns=list(_CELL), values="effect", sort=False)
        clean = part.groupby(index)["clean"].first().reindex(wide.index)
        table = _percent(wide, clean.to_numpy(), resampling, margin)
        seeds = wide.index.get_level_values("seed").nunique()
        cells = wide.columns.to_frame(index=False)
        parts.append(pd.concat([cells, table], axis=1).assign(**names, seeds=seeds))
    order = [*CONDITION, "groups", *_CELL, "metric", "effect", "ci_low", "ci_high", "p", "q"]
    return join(parts)[[*order, "p_equivalent", "equivalent", "n", "seeds"]]


def _percent(
    wide: pd.DataFrame, clean: np.ndarray, resampling: Resampling, margin: float
) -> pd.DataFrame:
    values = np.column_stack([wide.to_numpy(), clean])
    seeds = wide.index.get_level_values("seed").to_numpy()
    k = len(np.unique(seeds))
    count = k if k > 1 else len(values)
    drawn = statistics.bootstrap_means(
        values, seeds, resampling, wide.index.get_level_values("example").to_numpy()
    )
    percent = 100 * values.mean(0)[:-1] / values.mean(0)[-1]
    spread = np.nanstd(100 * drawn[:, :-1] / drawn[:, -1:], axis=0)
    error = spread * np.sqrt(count / (count - 1)) if count > 1 else np.full(len(percent), np.nan)
    half = stats.t.ppf((1 + resampling.confidence) / 2, count - 1) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where((percent == 0) & (error == 0), 0.0, np.abs(percent) / error)
        room = (margin - np.abs(percent)) / error
    p = 2 * stats.t.sf(t, count - 1)
    p_equivalent = stats.t.sf(room, count - 1)
    return pd.DataFrame(
        {
            "effect": percent,
            "ci_low": percent - half,
            "ci_high": percent + half,
            "p": p,
            "q": statistics.false_discovery_rate(p),
            "p_equivalent": p_equivalent,
            "equivalent": p_equivalent < _ALPHA,
            "n": len(values),
        }
    )


def percent_findings(
    frame: pd.DataFrame,
    resampling: Resampling,
    baseline: str = "zero",
    margin: float = MARGIN_PERCENT,
) -> pd.DataFrame:
    """What ablation does to the loss by depth, in percent, over seeds.

    Args:
        frame: effects of heads (and layers, pairs) with the names of their runs, as for
            :func:`percent_table`.
        resampling: of the intervals.
        baseline: of the ablation that counts.
        margin: of equivalence, percent, > 0.

    Returns:
        Columns `tables.FINDINGS`: ``layer<k>_percent_loss_increase`` (mean over single heads of
        layer k, from 0), ``layer<k>_joint_percent_loss_increase`` (all its heads at once),
        ``published_layers_1_to_3_percent_loss_increase``, ``published_layer_6_...``, their ratio
        ``published_layer_6_over_1_to_3``, ``last_third_over_first_third`` and
        ``last_third_minus_first_third_percent`` (single heads), ``pair_excess_percent``,
        ``equivalent_heads_share`` (heads without effect, by the margin) and
        ``random_order_difference_percent`` (largest difference between two orders of running).
    """
    chosen = frame[frame["baseline"] == baseline]
    chosen = join([chosen, derived(chosen)])
    rows = []
    for names, part in groups(chosen, CONDITION):
        wide = _columns(part)
        found = statistics.joint_bootstrap(
            _quantities(part, wide),
            wide.index.get_level_values("seed").to_numpy(),
            resampling=resampling,
            units=wide.index.get_level_values("example").to_numpy(),
        )
        rows += [{"quantity": name, **names, **one.row()} for name, one in found.items()]
        rows += [{**names, **row} for row in _single_numbers(part, resampling, margin)]
    return pd.DataFrame(rows, columns=list(FINDINGS))


def _columns(part: pd.DataFrame) -> pd.DataFrame:
    """One row per seed and image: mean effect of each kind of groups in each layer, and clean."""
    kinds = [LAYER_MEANS, "layers", PAIR_EXCESS]
    kept = part[part["groups"].isin(kinds)]
    layer = kept["layer"].where(kept["groups"] != PAIR_EXCESS, -1)
    wide = kept.assign(layer=layer).pivot_table(
        index=["seed", "example"], columns=["groups", "layer"], values="effect"
    )
    wide[("clean", -1)] = kept.groupby(["seed", "example"])["clean"].first()
    return wide


def _over(means: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return means[..., 0] / means[..., 1]


def _as_percent(means: np.ndarray) -> np.ndarray:
    return 100 * _over(means)


def _quantities(
    part: pd.DataFrame, wide: pd.DataFrame
) -> dict[str, tuple[np.ndarray, Statistic, None]]:
    clean = wide[("clean", -1)].to_numpy()
    n_layers = int(part["layer"].max()) + 1

    def of(kind: str, layers: Sequence[int]) -> np.ndarray:
        return wide[[(kind, layer) for layer in layers]].mean(axis=1).to_numpy()

    def percent(values: np.ndarray) -> tuple[np.ndarray, Statistic, None]:
        return np.column_stack([values, clean]), _as_percent, None

    def ratio(above: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, Statistic, None]:
        return np.column_stack([above, below]), _over, None

    found = {}
    for kind, joint in ((LAYER_MEANS, ""), ("layers", "_joint")):
        for layer in [one for one in range(n_layers) if (kind, one) in wide.columns]:
            found[f"layer{layer}{joint}_percent_loss_increase"] = percent(of(kind, [layer]))
    if (PAIR_EXCESS, -1) in wide.columns:
        found["pair_excess_percent"] = percent(of(PAIR_EXCESS, [-1]))
    early = of(LAYER_MEANS, published_layers(EARLY, n_layers))
    middle = of(LAYER_MEANS, published_layers(MIDDLE, n_layers))
    depth = (np.arange(n_layers) + 0.5) / n_layers
    first = of(LAYER_MEANS, np.flatnonzero(depth < 1 / 3).tolist() or [0])
    last = of(LAYER_MEANS, np.flatnonzero(depth > 2 / 3).tolist() or [n_layers - 1])
    return found | {
        "published_layers_1_to_3_percent_loss_increase": percent(early),
        "published_layer_6_percent_loss_increase": percent(middle),
        "published_layer_6_over_1_to_3": ratio(middle, early),
        "last_third_over_first_third": ratio(last, first),
        "last_third_minus_first_third_percent": percent(last - first),
    }


def _single_numbers(part: pd.DataFrame, resampling: Resampling, margin: float) -> list[dict]:
    """Findings that are no means over images."""
    heads = part[part["groups"] == "heads"]
    tables = [percent_table(one, resampling, margin) for _, one in heads.groupby("seed")]
    shares = np.array([table["equivalent"].mean() for table in tables])
    n, seeds = int(tables[0]["n"].iloc[0]), len(shares)
    one = statistics.cluster_bootstrap(shares, None, resampling=resampling)
    ends = {"ci_low": max(one.low, 0.0), "ci_high": min(one.high, 1.0)}
    name = "equivalent_heads_share"
    rows = [{"quantity": name, "estimate": one.estimate, **ends, "n": n, "seeds": seeds}]
    keys = ["seed", "group", "example"]
    shuffled = part[part["groups"] == RANDOM_ORDER].set_index(keys)["effect"]
    if len(shuffled):
        plain = part[part["groups"] == "layers"].set_index(keys)["effect"]
        apart = 100 * float((plain - shuffled).abs().max()) / float(part["clean"].mean())
        name = "random_order_difference_percent"
        same = dict.fromkeys(["estimate", "ci_low", "ci_high"], apart)
        rows.append({"quantity": name, **same, "n": n, "seeds": seeds})
    return rows


def spread_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of predictions, averaged over seeds.

    Args:
        frame: of `group_effects.prediction_spread`, with the names of its runs.

    Returns:
        dataset, backbone, protocol, label, baseline, layer, head, q05, q25, q50, q75, q95 (unit of
        the label), n (images of one seed), seeds.
    """
    keys = [*CONDITION, "label", "baseline", "layer", "head"]
    grouped = frame.groupby(keys, sort=False)
    quantiles = [name for name in frame.columns if name[0] == "q" and name[1:].isdigit()]
    table = grouped[quantiles].mean()
    return table.assign(n=grouped["n"].max(), seeds=grouped["seed"].nunique()).reset_index()
