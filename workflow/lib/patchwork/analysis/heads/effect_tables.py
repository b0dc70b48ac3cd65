"""Effects of heads, pairs and layers over seeds: tables and findings."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from patchwork import statistics
from patchwork.statistics import Estimates, Interval
from patchwork.statistics.power import Planted, redrawn, share_found
from patchwork.tables import CONDITION, FINDINGS, RUN, groups, join

# ASSUME: sweeps in fp32 agree with plain forward passes to about this share of an effect. A cell
# that never exceeds it holds rounding, which many images would make pass for a tiny effect.
_ROUNDING = 1e-5
# ASSUME: below the smallest published effect of a head (0.11 % of the loss) is no effect.
MARGIN_PERCENT = 0.1
# Published layers are counted from 0 in a network of 12; in another they are no such layers.
PUBLISHED_DEPTH = 12
EARLY, MIDDLE = (1, 2, 3), (6,)
# ASSUME: percent of the loss; a hundredth of the published effect, and what logarithms see of less.
_LEAST_PERCENT = 0.001
LAYER_MEANS, PAIR_EXCESS = "layer_means", "pair_excess"
RANDOM_ORDER = "layers_in_random_order"
_CELL = ("group", "layer", "head", "other_layer", "other_head", "baseline")


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


def _labels(wide: pd.DataFrame | pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Seed and example of each row."""
    seeds, examples = (wide.index.get_level_values(name) for name in ("seed", "example"))
    return seeds.to_numpy(), examples.to_numpy()


def ablation_table(frame: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Effect of ablating each head with its interval, tested over the whole grid.

    Args:
        frame: dataset, backbone, protocol, metric, seed, example, layer, head, baseline, effect.
        seed: of sign flips and the split.

    Returns:
        The table ``tables/head_effects.csv``; a cell whose every effect is nan has nan and n of 0,
        and the other cells are tested without it.

    Raises:
        ValueError: if some effects of a cell are nan, or all of the grid, or there are fewer than 4
            examples.
    """
    cells = ["layer", "head", "baseline"]
    parts = []
    for names, part in groups(frame, [*CONDITION, "metric"]):
        wide, grid = _wide(part, cells)
        values = _without_rounding(wide.to_numpy())
        seeds, examples = _labels(wide)
        table = statistics.effect_table(values, seeds, units=examples)
        table["p_family"] = statistics.max_t_p(values, examples, seed=seed)
        halves = statistics.split_half(values, examples, seed=seed)
        confirmed = halves.loc[halves["confirmed"].astype(bool), "cell"].to_numpy(int)
        table = _on_grid(table, wide.columns, grid)
        again = grid.isin(wide.columns[confirmed])
        parts.append(table.assign(**names, confirmed=again, seeds=len(np.unique(seeds))))
    order = [*CONDITION, *cells, "metric", "effect", "ci_low", "ci_high", "p", "q", "p_family"]
    return join(parts)[[*order, "confirmed", "n", "seeds"]]


def patching_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Share of the clean-corrupted difference that each patch carries over, with its interval.

    Args:
        frame: dataset, backbone, protocol, metric, seed, example, component, layer, position,
            direction, effect, base, source.

    Returns:
        The table ``tables/patch_effects.csv``; a cell whose every effect is nan has nan and n of 0;
        one seed with one example has no interval, p or q (nan).

    Raises:
        ValueError: if some effects of a cell are nan, or all of the grid.
    """
    cells = ["layer", "position", "component"]
    parts = []
    for names, part in groups(frame, [*CONDITION, "metric", "direction"]):
        wide, grid = _wide(part, cells)
        ends = part.drop_duplicates(["seed", "example"]).set_index(["seed", "example"])
        gap = (ends["source"] - ends["base"]).reindex(wide.index).to_numpy()
        values, (seeds, examples) = _without_rounding(wide.to_numpy()), _labels(wide)
        table = statistics.ratio_table(values, gap, seeds, units=examples)
        table = table.rename(columns={"mean": "effect", "ratio": "recovery"})
        n_seeds = len(np.unique(seeds))
        parts.append(_on_grid(table, wide.columns, grid).assign(**names, seeds=n_seeds))
    order = [*CONDITION, *cells, "direction", "metric", "effect", "recovery"]
    return join(parts)[[*order, "ci_low", "ci_high", "p", "q", "n", "seeds"]]


def derived(frame: pd.DataFrame) -> pd.DataFrame:
    """What follows from single heads and pairs, in the same columns, per image.

    Args:
        frame: of `effects.group_effects`, with the names of its run.

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


def percent_table(frame: pd.DataFrame, margin: float = MARGIN_PERCENT) -> pd.DataFrame:
    """Effect of each group in percent of the intact loss, tested over the whole grid.

    Args:
        frame: dataset, backbone, protocol, seed, groups, group, layer, head, other_layer,
            other_head, baseline, metric, example, clean, effect.
        margin: of equivalence, percent, > 0.

    Returns:
        The table ``tables/group_effects.csv``; q is corrected over the groups of one kind.
    """
    parts = []
    for names, part in groups(frame, [*CONDITION, "groups", "metric"]):
        index = ["seed", "example"]
        wide = part.pivot_table(index=index, columns=list(_CELL), values="effect", sort=False)
        clean = part.groupby(index)["clean"].first().reindex(wide.index).to_numpy()
        seeds, examples = _labels(wide)
        table = statistics.ratio_table(
            wide.to_numpy(), clean, seeds, units=examples, scale=100, margin=margin
        ).rename(columns={"ratio": "effect"})  # fmt: skip
        cells = wide.columns.to_frame(index=False)
        n_seeds = len(np.unique(seeds))
        parts.append(pd.concat([cells, table], axis=1).assign(**names, seeds=n_seeds))
    order = [*CONDITION, "groups", *_CELL, "metric", "effect", "ci_low", "ci_high", "p", "q"]
    return join(parts)[[*order, "p_equivalent", "equivalent", "n", "seeds"]]


def percent_findings(
    frame: pd.DataFrame,
    baseline: str = "zero",
    margin: float = MARGIN_PERCENT,
    planted: Mapping[str, Planted] | None = None,
) -> pd.DataFrame:
    """What ablation does to the loss by depth, in percent, over seeds.

    Args:
        frame: effects of heads (and layers, pairs) with the names of their runs, as for
            :func:`percent_table`.
        baseline: of the ablation that counts.
        margin: of equivalence, percent, > 0.
        planted: positive controls, by quantity.

    Returns:
        Columns `tables.FINDINGS`: ``layer<k>_percent_loss_increase`` (mean over single heads of
        layer k, from 0), ``layer<k>_joint_percent_loss_increase`` (all its heads at once),
        ``pair_excess_percent``, ``equivalent_heads_share`` (heads without effect, by the margin),
        ``n_heads`` and ``n_layers`` (of one network) and ``random_order_difference_percent``
        (largest difference between two orders of running); of networks of twelve layers those of
        :func:`published_findings`.
    """
    chosen = frame[frame["baseline"] == baseline]
    chosen = join([chosen, derived(chosen)])
    rows = []
    for names, part in groups(chosen, CONDITION):
        found = _quantities(part, _columns(part))
        rows += [{"quantity": name, **names, **one.row()} for name, one in found.items()]
        rows += [{**names, **row} for row in _single_numbers(part, margin)]
    published = published_findings(frame, planted or {})
    return join([pd.DataFrame(rows), published])[list(FINDINGS)]


def published_findings(frame: pd.DataFrame, planted: Mapping[str, Planted]) -> pd.DataFrame:
    """Effects in the layers that the paper names, on a logarithmic scale, over seeds and images.

    Args:
        frame: as for :func:`percent_findings`.
        planted: positive controls, by quantity.

    Returns:
        Columns `tables.FINDINGS`, of conditions whose networks have twelve layers, for each
        baseline: ``log2_percent_layers_1_to_3_<baseline>``, mean over networks of the base-2
        logarithm of the mean percent loss increase by a head, and ``log2_layer_6_over_1_to_3_...``,
        that of layer 6 minus it; with ``_found``, how often a planted one would be found.
    """
    rows: list[dict] = []
    single = frame[frame["groups"] == "heads"]
    for names, part in groups(single, [*CONDITION, "baseline"]):
        if int(part["layer"].max()) + 1 != PUBLISHED_DEPTH:
            continue
        baseline = names.pop("baseline")
        whole = part.groupby(["seed", "example"])
        clean, (seeds, images) = whole["clean"].first().to_numpy(), _labels(whole["clean"].first())
        early, middle = (
            _log2_percent(
                part[part["layer"].isin(layers)].groupby(["seed", "example"])["effect"].mean(),
                clean,
                seeds,
            )
            for layers in (EARLY, MIDDLE)
        )
        found = {
            f"log2_percent_layers_1_to_3_{baseline}": early,
            f"log2_layer_6_over_1_to_3_{baseline}": Estimates(
                middle.value - early.value, middle.influence - early.influence
            ),
        }
        for name, one in found.items():
            row = statistics.intervals_of(one, seeds, images)[0].row()
            rows.append({"quantity": name, **names, **row})
            if name in planted:
                draw = redrawn(one, planted[name].effect, seeds, images)
                row = share_found(draw, planted[name].claimed, 0).row()
                rows.append({"quantity": f"{name}_found", **names, **row})
    return pd.DataFrame(rows, columns=list(FINDINGS))


def _log2_percent(effect: pd.Series, clean: np.ndarray, seeds: np.ndarray) -> Estimates:
    """Mean over networks of log2 of effect over clean in percent, at least `_LEAST_PERCENT`."""
    codes = np.unique(seeds, return_inverse=True)[1]
    size = np.bincount(codes)
    top, bottom = (np.bincount(codes, one) / size for one in (effect.to_numpy(), clean))
    percent = 100 * top / bottom
    value = np.log2(np.maximum(percent, _LEAST_PERCENT))
    mean = np.average(value, weights=size)
    seen = (percent > _LEAST_PERCENT)[codes]
    with np.errstate(divide="ignore", invalid="ignore"):
        own = effect.to_numpy() / top[codes] - clean / bottom[codes]
    return Estimates(
        np.array([mean]), (np.where(seen, own, 0) / np.log(2) + value[codes] - mean)[:, None]
    )


def _columns(part: pd.DataFrame) -> pd.DataFrame:
    """One row per seed and image: mean effect of each kind of groups in each layer, and clean."""
    kept = part[part["groups"].isin([LAYER_MEANS, "layers", PAIR_EXCESS])]
    layer = kept["layer"].where(kept["groups"] != PAIR_EXCESS, -1)
    wide = kept.assign(layer=layer).pivot_table(
        index=["seed", "example"], columns=["groups", "layer"], values="effect"
    )
    wide[("clean", -1)] = kept.groupby(["seed", "example"])["clean"].first()
    return wide


def _quantities(part: pd.DataFrame, wide: pd.DataFrame) -> dict[str, Interval]:
    n_layers = int(part["layer"].max()) + 1

    def of(kind: str, layers: Sequence[int]) -> np.ndarray:
        return wide[[(kind, layer) for layer in layers]].mean(axis=1).to_numpy()

    clean = of("clean", [-1])

    def percent(values: np.ndarray) -> Interval:
        share = statistics.ratios(values, clean)
        found = Estimates(100 * share.value, 100 * share.influence)
        return statistics.intervals_of(found, *_labels(wide))[0]

    found = {}
    for kind, joint in ((LAYER_MEANS, ""), ("layers", "_joint")):
        for layer in [one for one in range(n_layers) if (kind, one) in wide.columns]:
            found[f"layer{layer}{joint}_percent_loss_increase"] = percent(of(kind, [layer]))
    if (PAIR_EXCESS, -1) in wide.columns:
        found["pair_excess_percent"] = percent(of(PAIR_EXCESS, [-1]))
    return found


def _single_numbers(part: pd.DataFrame, margin: float) -> list[dict]:
    """Findings that are no means over images."""
    heads = part[part["groups"] == "heads"]
    tables = [percent_table(one, margin).assign(run=seed) for seed, one in heads.groupby("seed")]
    table = join(tables)
    one, n = statistics.share_over_seeds(table["equivalent"], table["run"]), int(table["n"].max())
    n_heads = len(heads[["layer", "head"]].drop_duplicates())
    size = statistics.exact(n_heads, n, 0)  # no training made it
    rows: list[dict] = [
        {"quantity": "equivalent_heads_share", **one.row(), "n": n},
        {"quantity": "n_heads", **size.row()},
        {"quantity": "n_layers", **statistics.exact(heads["layer"].nunique(), n, 0).row()},
    ]
    keys = ["seed", "group", "example"]
    shuffled = part[part["groups"] == RANDOM_ORDER].set_index(keys)["effect"]
    if len(shuffled):
        plain = part[part["groups"] == "layers"].set_index(keys)["effect"]
        apart = 100 * float((plain - shuffled).abs().max()) / float(part["clean"].mean())
        name = "random_order_difference_percent"
        rows.append({"quantity": name, **statistics.exact(apart, n, len(tables)).row()})
    return rows


def spread_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of predictions, averaged over seeds.

    Args:
        frame: of `effects.prediction_spread`, with the names of its runs.

    Returns:
        The table ``tables/prediction_spread.csv``.
    """
    keys = [*CONDITION, "label", "baseline", "layer", "head"]
    grouped = frame.groupby(keys, sort=False)
    quantiles = [name for name in frame.columns if name[0] == "q" and name[1:].isdigit()]
    table = grouped[quantiles].mean()
    return table.assign(n=grouped["n"].max(), seeds=grouped["seed"].nunique()).reset_index()
