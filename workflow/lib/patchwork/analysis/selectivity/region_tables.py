"""Head selectivity by attention to known regions, and against ablation: tests, shares, findings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from patchwork import statistics
from patchwork.statistics import Interval
from patchwork.statistics.power import Planted, redrawn, share_found
from patchwork.tables import CONDITION, FINDINGS, PERMUTED, RUN, TUNED, UNTOUCHED, groups, join

# ASSUME: a region passes for a head if its attention mass exceeds the null's at this false
# discovery rate over all layers, heads and regions of a network ...
Q = 0.05
# ... and ranks the region's patches above others at least this well: what Hosmer and Lemeshow call
# acceptable discrimination ...
AUROC_LEAST = 0.7
# ... and is this much more than the null's. Many images make any small excess significant, and
# ranks alone pass for attention that is all but uniform; these two ask for a size.
EXCESS_LEAST = 1.25
# ASSUME: a head has an effect if the loss rises without it, at this false discovery rate over the
# heads of its network, images resampled.
Q_EFFECT = 0.05
KINDS = ("monosemantic", "polysemantic", "neither")
# ASSUME: published layers are counted from 0 in a network of 12; a network of another depth is
# cut at the same relative depth of the layers' centres.
PARTS = {"early": (0.0, 1 / 3), "late": (1 / 2, 1.0), "all": (0.0, 1.0)}
_HEAD = ("state", "variant", "layer", "head")


def relative_depth(layer: pd.Series) -> pd.Series:
    """Centre of each layer, 0 (input) to 1 (output); the largest number is the last layer."""
    return (layer + 0.5) / (layer.max() + 1)


def selectivity_tests(frame: pd.DataFrame, regions: Sequence[str]) -> pd.DataFrame:
    """Test each region of each head, with one false discovery rate per network and variant.

    Args:
        frame: dataset, backbone, protocol, seed, state (`TUNED` or `UNTOUCHED`), variant, layer,
            head, region, ratio, ratio_null, p, auroc, and of masks elsewhere ratio_drawn, p_drawn
            and null_auroc.
        regions: those that heads are tested on; others stay in no table.

    Returns:
        The rows of the tested regions with q and passes (q below `Q`, `EXCESS_LEAST` and
        `AUROC_LEAST` reached); with state `PERMUTED`, the same tests of fine-tuned networks on
        masks elsewhere, of which those that pass do so by chance.

    Raises:
        ValueError: if a region is nowhere in the frame.
    """
    lacking = [name for name in regions if name not in set(frame["region"])]
    if lacking:
        known = sorted(set(frame["region"]))
        raise ValueError(f"tested_regions names {lacking[0]!r}; the frame has {known}")
    parts = []
    kept = frame[frame["region"].isin(regions)]
    tuned = kept[kept["state"] == TUNED]
    drawn = {"ratio": tuned["ratio_drawn"], "p": tuned["p_drawn"], "auroc": tuned["null_auroc"]}
    kept = join([kept, tuned.assign(state=PERMUTED, **drawn)])
    for _, part in groups(kept, [*RUN, "state", "variant"]):
        q = statistics.false_discovery_rate(part["p"].to_numpy())
        above = part["ratio"] >= EXCESS_LEAST * part["ratio_null"]
        passes = (q < Q) & above & (part["auroc"] >= AUROC_LEAST)
        parts.append(part.assign(q=q, passes=passes))
    return join(parts)


def head_selectivity(tests: pd.DataFrame) -> pd.DataFrame:
    """Kind of each head: one region passes (monosemantic), several (polysemantic), or none.

    Args:
        tests: of :func:`selectivity_tests`; rollout, which has no heads, is left out.

    Returns:
        dataset, backbone, protocol, seed, state, variant, layer, head, kind (of `KINDS`), region
        (the one that passes; empty text otherwise), regions (number that pass).
    """
    heads = tests[tests["head"] >= 0]
    keys = [*RUN, *_HEAD]
    count = heads.groupby(keys, sort=False)["passes"].sum().rename("regions").reset_index()
    kinds = [KINDS[0], KINDS[1]]
    count["kind"] = np.select([count["regions"] == 1, count["regions"] > 1], kinds, KINDS[2])
    one = heads[heads["passes"]].drop_duplicates(keys)[[*keys, "region"]]
    named = count.merge(one, on=keys, how="left", validate="one_to_one")
    mono = named["kind"] == KINDS[0]
    return named.assign(region=named["region"].where(mono, ""))


def share_table(heads: pd.DataFrame) -> pd.DataFrame:
    """Share of each layer's heads that are of a kind, with intervals over seeds.

    Args:
        heads: of :func:`head_selectivity`.

    Returns:
        The table ``tables/head_selectivity.csv``; monosemantic heads have one row per region that
        any head of the condition is selective for, and one, ``any``, for all.
    """
    rows = []
    for names, part in groups(heads, [*CONDITION, "state", "variant"]):
        mono = part["kind"] == KINDS[0]
        found = sorted(set(part.loc[mono, "region"]))
        wanted = {(KINDS[0], "any"): mono} | {
            (KINDS[0], name): mono & (part["region"] == name) for name in found
        }
        wanted |= {(kind, ""): part["kind"] == kind for kind in KINDS[1:]}
        for layer, here in part.groupby("layer"):
            for (kind, region), member in wanted.items():
                one = statistics.share_over_seeds(member[here.index], here["seed"]).row()
                row = names | {"layer": layer, "kind": kind, "region": region}
                rows.append(row | one | {"n": here["head"].nunique()})
    return pd.DataFrame(rows)


def region_table(tests: pd.DataFrame) -> pd.DataFrame:
    """How each head's attention falls on each region, over seeds.

    Args:
        tests: of :func:`selectivity_tests`.

    Returns:
        The table ``tables/region_attention.csv``; p and q are of the excess over the null, over
        seeds (nan with one seed).
    """
    cells = [*_HEAD[2:], "region"]
    measures = ["ratio", "ratio_null", "mass", "area", "hit", "auroc", "mass_high_norm"]
    parts = []
    true = tests[tests["state"] != PERMUTED]
    for names, part in groups(true, [*CONDITION, "state", "variant"]):
        seeds = part.pivot_table(index="seed", columns=cells, values=["ratio", "ratio_null"])
        table = part.groupby(cells)[[*measures, "prefix_share", "passes"]].mean()
        table["null"] = part.groupby(cells)["null"].first()
        table["n"] = part.groupby(cells)["n"].max()
        wide: list[Any] = [seeds[name] for name in measures[:2]]
        ratio, null = (one.reindex(columns=table.index) for one in wide)
        table[["ci_low", "ci_high", "p", "q"]] = _tested(ratio, null)
        parts.append(table.reset_index().assign(**names, seeds=len(seeds)))
    order = [*CONDITION, *_HEAD, "region", "null", "ratio", "ci_low", "ci_high", "p", "q"]
    order += [*measures[1:], "prefix_share", "passes", "n", "seeds"]
    return join(parts)[order]


def _tested(ratio: pd.DataFrame, null: pd.DataFrame) -> np.ndarray:
    """Interval of the ratio, and p and q of its excess over the null; rows are cells."""
    # A region that some seeds lack (tokens of high norm) has no interval over seeds.
    complete = ratio.notna().all().to_numpy()
    found = np.full((ratio.shape[1], 4), np.nan)
    if len(ratio) < 2 or not complete.any():
        return found
    values = ratio.loc[:, complete].to_numpy()
    interval = statistics.effect_table(values, None)
    excess = values - null.loc[:, complete].to_numpy()
    tested = statistics.effect_table(excess, None)
    found[complete, :2] = interval[["ci_low", "ci_high"]].clip(lower=0)
    found[complete, 2:] = tested[["p", "q"]]
    return found


def share_findings(
    heads: pd.DataFrame,
    region_sets: Mapping[str, Sequence[str]],
    planted: Mapping[str, Planted],
    variant: str = "cls",
) -> pd.DataFrame:
    """Shares of monosemantic and polysemantic heads by depth, over seeds, and their null.

    Args:
        heads: of :func:`head_selectivity`.
        region_sets: name to the regions that it stands for, such as clutter: text and frame.
        planted: positive controls, by quantity.
        variant: of the attention that counts.

    Returns:
        Columns `tables.FINDINGS`. With `PARTS` early (first third), late (last half) and all:
        ``share_monosemantic_<name>_<part>`` for each of the sets,
        ``share_monosemantic_any_<part>`` and ``share_polysemantic_<part>``, of fine-tuned networks;
        with ``_untouched`` behind, of their backbones as they were before; with ``_permuted``, on
        masks elsewhere, which is by chance; and with ``_found``, how often a planted share would be
        found.
    """
    rows = []
    counted = heads[heads["variant"] == variant]
    for names, part in groups(counted, CONDITION):
        depth = relative_depth(part["layer"])
        for name, (low, high) in PARTS.items():
            here = part[(depth > low) & (depth < high)]
            n = int(here.groupby("seed")[["layer", "head"]].apply(_n_heads).max())
            for quantity, member in _members(here, region_sets).items():
                named = f"{quantity}_{name}"
                for state, suffix in _SUFFIXES.items():
                    own = here["state"] == state
                    if own.any():
                        one = statistics.share_over_seeds(member[own], here.loc[own, "seed"])
                        found = {"quantity": named + suffix, **names, **one.row()}
                        rows.append(found | {"n": n})
                if named in planted:
                    own = here["state"] == TUNED
                    found_share = _share_found(member[own], here.loc[own, "seed"], planted[named])
                    rows.append({"quantity": f"{named}_found", **names, **found_share.row()})
    return pd.DataFrame(rows, columns=list(FINDINGS))


def _n_heads(heads: pd.DataFrame) -> int:
    return len(heads[["layer", "head"]].drop_duplicates())


def _members(heads: pd.DataFrame, region_sets: Mapping[str, Sequence[str]]) -> dict[str, pd.Series]:
    mono = heads["kind"] == KINDS[0]
    found = {
        f"share_monosemantic_{name}": mono & heads["region"].isin(regions)
        for name, regions in region_sets.items()
    }
    return found | {
        "share_monosemantic_any": mono,
        "share_polysemantic": heads["kind"] == KINDS[1],
    }


_SUFFIXES = {TUNED: "", UNTOUCHED: "_untouched", PERMUTED: "_permuted"}


def _share_found(member: pd.Series, seeds: pd.Series, planted: Planted) -> Interval:
    """Heads drawn anew around a planted share, networks as far apart as they are."""
    grouped = member.groupby(seeds)
    shares, n = grouped.mean(), grouped.size().mean()
    by_chance = (shares * (1 - shares)).mean() / n
    sd = np.sqrt(max(float(shares.var(ddof=1)) - by_chance, 0.0)) if len(shares) > 1 else 0.0
    codes = seeds.rank(method="dense").to_numpy(int) - 1

    def draw(rng: np.random.Generator) -> Interval:
        chances = np.clip(planted.effect + sd * rng.standard_normal(len(shares)), 0, 1)
        return statistics.share_over_seeds(rng.random(len(codes)) < chances[codes], codes)

    return share_found(draw, planted.claimed, 0)


def attention_and_effect(
    tests: pd.DataFrame,
    effects: pd.DataFrame,
    region: str,
    *,
    variant: str = "cls",
    baseline: str = "zero",
) -> pd.DataFrame:
    """Each head's attention on one region beside what its ablation does to the loss.

    Args:
        tests: of :func:`selectivity_tests`.
        effects: of `effects.group_effects`, kind heads, with the names of its run.
        region: what heads may attend to.
        variant: of the attention.
        baseline: of the ablation.

    Returns:
        The table ``tables/attention_and_effect.csv``: each head of a run that is in both tables.

    Raises:
        ValueError: if no run is in both.
    """
    kinds = head_selectivity(tests)
    keys = [*RUN, "state", "variant", "layer", "head"]
    named = kinds[[*keys, "kind", "region"]].rename(columns={"region": "selective_for"})
    seen = tests[(tests["region"] == region) & (tests["variant"] == variant)].merge(named, on=keys)
    place = [*RUN, "layer", "head"]
    before = seen[seen["state"] == UNTOUCHED].set_index(place)["ratio"].rename("ratio_untouched")
    seen = seen[seen["state"] == TUNED].join(before, on=place)
    single = effects[(effects["groups"] == "heads") & (effects["baseline"] == baseline)]
    parts = []
    for names, part in groups(single, RUN):
        wide = part.pivot_table(index="example", columns=["layer", "head"], values="effect")
        table = statistics.effect_table(wide.to_numpy(), None)
        clean = part.groupby("example")["clean"].first().mean()
        has_effect = (table["q"] < Q_EFFECT) & (table["effect"] > 0)
        found = wide.columns.to_frame(index=False).assign(
            **names, effect=100 * table["effect"] / clean, has_effect=has_effect, n=table["n"]
        )
        parts.append(found)
    effect = join(parts)
    columns = [*place, "region", "ratio", "ratio_untouched", "passes", "kind", "selective_for"]
    both = seen[columns].merge(effect, on=[*RUN, "layer", "head"], validate="one_to_one")
    if both.empty:
        raise ValueError(f"tests and effects share no run with region {region!r}; allowed is 1+")
    both = both.rename(columns={"passes": "attends"})
    return both.astype({"attends": bool, "has_effect": bool})


_CORRELATION = "attention_effect_partial_rank_correlation"


def agreement_findings(heads: pd.DataFrame, planted: Mapping[str, Planted]) -> pd.DataFrame:
    """How well attention to a region predicts the effects of heads, over networks.

    That attention distinguishes heads by what they attend to is true by definition; what they do is
    measured by ablation, so attention is compared with that.

    Args:
        heads: of :func:`attention_and_effect`, of one region.
        planted: positive controls, by quantity.

    Returns:
        Columns `tables.FINDINGS`: ``attention_effect_partial_rank_correlation``, the mean over
        networks of the correlation of the ranks, within a network, of attention and effect, each
        less its layer's mean; with ``_untouched`` behind, of attention before fine-tuning with the
        effect after it; with ``_found``, how often a planted correlation would be found;
        ``share_of_heads_that_attend`` and ``share_of_heads_with_effect``.
    """
    rows = []
    for names, part in groups(heads, CONDITION):
        n, seeds = _n_heads(part), part["seed"]
        for measure in ("attends", "has_effect"):
            one = statistics.share_over_seeds(part[measure], seeds)
            quantity = {"attends": "that_attend", "has_effect": "with_effect"}[measure]
            found = {"quantity": f"share_of_heads_{quantity}", **names, **one.row(), "n": n}
            rows.append(found)
        for column, suffix in (("ratio", ""), ("ratio_untouched", "_untouched")):
            if part[column].isna().any():
                continue
            x, y = (_within_layers(part, name) for name in (column, "effect"))
            z = statistics.fisher_z(x, y, seeds.to_numpy())
            one = statistics.intervals_of(z, seeds.to_numpy())[0].mapped(np.tanh)
            rows.append({"quantity": _CORRELATION + suffix, **names, **one.row(), "n": n})
            if not suffix and _CORRELATION in planted:
                wanted = planted[_CORRELATION]
                draw = redrawn(z, np.arctanh(wanted.effect), seeds.to_numpy(), function=np.tanh)
                found = share_found(draw, wanted.claimed, 0).row()
                rows.append({"quantity": f"{_CORRELATION}_found", **names, **found})
    return pd.DataFrame(rows, columns=list(FINDINGS))


def _within_layers(heads: pd.DataFrame, column: str) -> np.ndarray:
    """Ranks among the heads of a network, less the mean of the layer."""
    ranks = heads.groupby("seed")[column].rank()
    return (ranks - ranks.groupby([heads["seed"], heads["layer"]]).transform("mean")).to_numpy()
