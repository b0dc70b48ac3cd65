"""Which heads mean what, by attention to known regions: verdicts, shares, findings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from patchwork import statistics
from patchwork.statistics import Resampling
from patchwork.tables import CONDITION, FINDINGS, RUN, groups, join

# ASSUME: a region passes for a head if its attention mass exceeds the null's at this false
# discovery rate over all layers, heads and regions of a network ...
Q = 0.05
# ... and ranks the region's patches above others at least this well: what Hosmer and Lemeshow call
# acceptable discrimination ...
AUROC_LEAST = 0.7
# ... and is this much more than the null's. Many images make any small excess significant, and
# ranks alone pass for attention that is all but uniform; these two ask for a size.
EXCESS_LEAST = 1.25
KINDS = ("monosemantic", "polysemantic", "neither")
TUNED, UNTOUCHED = "tuned", "untouched"
# ASSUME: published layers are counted from 0 in a network of 12; a network of another depth is
# cut at the same relative depth of the layers' centres.
PARTS = {"early": (0.0, 1 / 3), "late": (1 / 2, 1.0), "all": (0.0, 1.0)}
_HEAD = ("state", "variant", "layer", "head")


def relative_depth(layer: pd.Series) -> pd.Series:
    """Centre of each layer, 0 (input) to 1 (output); the largest number is the last layer."""
    return (layer + 0.5) / (layer.max() + 1)


def verdicts(frame: pd.DataFrame, judged: Sequence[str]) -> pd.DataFrame:
    """Test each region of each head, with one false discovery rate per network and variant.

    Args:
        frame: dataset, backbone, protocol, seed, state (`TUNED` or `UNTOUCHED`), variant, layer,
            head, region, ratio, ratio_null, p, auroc.
        judged: the regions that a head may mean; others stay in no table.

    Returns:
        The rows of the judged regions with q and passes (q below `Q`, `EXCESS_LEAST` and
        `AUROC_LEAST` reached).

    Raises:
        ValueError: if a judged region is nowhere in the frame.
    """
    lacking = [name for name in judged if name not in set(frame["region"])]
    if lacking:
        raise ValueError(f"judged names {lacking[0]!r}; the frame has {sorted(set(frame.region))}")
    parts = []
    kept = frame[frame["region"].isin(judged)]
    for _, part in groups(kept, [*RUN, "state", "variant"]):
        q = statistics.false_discovery_rate(part["p"].to_numpy())
        above = part["ratio"] >= EXCESS_LEAST * part["ratio_null"]
        passes = (q < Q) & above & (part["auroc"] >= AUROC_LEAST)
        parts.append(part.assign(q=q, passes=passes))
    return join(parts)


def semantics(verdicts: pd.DataFrame) -> pd.DataFrame:
    """What each head means: one region passes (monosemantic), several (polysemantic), or none.

    Args:
        verdicts: of :func:`verdicts`; rollout, which has no heads, is left out.

    Returns:
        dataset, backbone, protocol, seed, state, variant, layer, head, kind (of `KINDS`), region
        (the one that passes; empty text otherwise), regions (number that pass).
    """
    heads = verdicts[verdicts["head"] >= 0]
    keys = [*RUN, *_HEAD]
    count = heads.groupby(keys, sort=False)["passes"].sum().rename("regions").reset_index()
    kinds = [KINDS[0], KINDS[1]]
    count["kind"] = np.select([count["regions"] == 1, count["regions"] > 1], kinds, KINDS[2])
    one = heads[heads["passes"]].drop_duplicates(keys)[[*keys, "region"]]
    named = count.merge(one, on=keys, how="left", validate="one_to_one")
    mono = named["kind"] == KINDS[0]
    return named.assign(region=named["region"].where(mono, ""))


def _over_seeds(per_seed: pd.Series, resampling: Resampling, n: int) -> dict[str, float | int]:
    """Interval of a share over seeds; no share lies outside 0 to 1."""
    one = statistics.cluster_bootstrap(per_seed.to_numpy(float), None, resampling=resampling).row()
    one |= {"ci_low": max(one["ci_low"], 0.0), "ci_high": min(one["ci_high"], 1.0)}
    return one | {"n": n, "seeds": len(per_seed)}


def share_table(heads: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """Share of each layer's heads that are of a kind, with intervals over seeds.

    Args:
        heads: of :func:`semantics`.
        resampling: of the intervals.

    Returns:
        dataset, backbone, protocol, state, variant, layer, kind, region (empty text but for
        monosemantic heads, which have one row per region that any head of the condition means, and
        one, ``any``, for all), estimate (share, 0 to 1), ci_low, ci_high, n (heads of a layer),
        seeds.
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
                per_seed = member[here.index].groupby(here["seed"]).mean()
                row = names | {"layer": layer, "kind": kind, "region": region}
                rows.append(row | _over_seeds(per_seed, resampling, here["head"].nunique()))
    return pd.DataFrame(rows)


def region_table(verdicts: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """How each head's attention falls on each region, over seeds.

    Args:
        verdicts: of :func:`verdicts`.
        resampling: of the intervals.

    Returns:
        dataset, backbone, protocol, state, variant, layer, head, region, null, ratio (attention
        mass over area) with ci_low, ci_high, p and q (of the excess over the null, seeds
        resampled; nan with one seed), ratio_null, mass, area, hit, auroc, mass_high_norm,
        prefix_share, passes (share of seeds), n (images), seeds.
    """
    cells = [*_HEAD[2:], "region"]
    measures = ["ratio", "ratio_null", "mass", "area", "hit", "auroc", "mass_high_norm"]
    parts = []
    for names, part in groups(verdicts, [*CONDITION, "state", "variant"]):
        seeds = part.pivot_table(index="seed", columns=cells, values=["ratio", "ratio_null"])
        table = part.groupby(cells)[[*measures, "prefix_share", "passes"]].mean()
        table["null"] = part.groupby(cells)["null"].first()
        table["n"] = part.groupby(cells)["n"].max()
        wide: list[Any] = [seeds[name] for name in measures[:2]]
        ratio, null = (one.reindex(columns=table.index) for one in wide)
        table[["ci_low", "ci_high", "p", "q"]] = _tested(ratio, null, resampling)
        parts.append(table.reset_index().assign(**names, seeds=len(seeds)))
    order = [*CONDITION, *_HEAD, "region", "null", "ratio", "ci_low", "ci_high", "p", "q"]
    order += [*measures[1:], "prefix_share", "passes", "n", "seeds"]
    return join(parts)[order]


def _tested(ratio: pd.DataFrame, null: pd.DataFrame, resampling: Resampling) -> np.ndarray:
    """Interval of the ratio, and p and q of its excess over the null; rows are cells."""
    # A region that some seeds lack (tokens of high norm) has no interval over seeds.
    complete = ratio.notna().all().to_numpy()
    found = np.full((ratio.shape[1], 4), np.nan)
    if len(ratio) < 2 or not complete.any():
        return found
    values = ratio.loc[:, complete].to_numpy()
    interval = statistics.effect_table(values, None, resampling=resampling)
    excess = values - null.loc[:, complete].to_numpy()
    tested = statistics.effect_table(excess, None, resampling=resampling)
    found[complete, :2] = interval[["ci_low", "ci_high"]].clip(lower=0)
    found[complete, 2:] = tested[["p", "q"]]
    return found


def share_findings(
    heads: pd.DataFrame,
    meanings: Mapping[str, Sequence[str]],
    resampling: Resampling,
    variant: str = "cls",
) -> pd.DataFrame:
    """Shares of monosemantic and polysemantic heads by depth, over seeds, and their null.

    Args:
        heads: of :func:`semantics`.
        meanings: name to the regions that it stands for, such as clutter: text and frame.
        resampling: of the intervals.
        variant: of the attention that counts.

    Returns:
        Columns `tables.FINDINGS`. With `PARTS` early (first third), late (last half) and all:
        ``share_monosemantic_<name>_<part>`` for each of the meanings,
        ``share_monosemantic_any_<part>`` and ``share_polysemantic_<part>``, of fine-tuned networks;
        with ``_untouched`` behind, of their backbones as they were before; and with
        ``_excess_over_untouched``, the difference.
    """
    rows = []
    counted = heads[heads["variant"] == variant]
    for names, part in groups(counted, CONDITION):
        depth = relative_depth(part["layer"])
        for name, (low, high) in PARTS.items():
            here = part[(depth > low) & (depth < high)]
            for quantity, member in _meant(here, meanings).items():
                per_seed = member.groupby([here["state"], here["seed"]]).mean()
                n = here.groupby("seed")[["layer", "head"]].apply(
                    lambda h: len(h.drop_duplicates())
                )
                rows += [
                    {"quantity": f"{quantity}_{name}{suffix}", **names, **row}
                    for suffix, row in _states(per_seed, resampling, int(n.max()))
                ]
    return pd.DataFrame(rows, columns=list(FINDINGS))


def _meant(heads: pd.DataFrame, meanings: Mapping[str, Sequence[str]]) -> dict[str, pd.Series]:
    mono = heads["kind"] == KINDS[0]
    found = {
        f"share_monosemantic_{name}": mono & heads["region"].isin(regions)
        for name, regions in meanings.items()
    }
    return found | {
        "share_monosemantic_any": mono,
        "share_polysemantic": heads["kind"] == KINDS[1],
    }


def _states(
    per_seed: pd.Series, resampling: Resampling, n: int
) -> list[tuple[str, dict[str, float | int]]]:
    """Rows of fine-tuned networks, of their backbones, and of the difference where both are."""
    state = per_seed.index.get_level_values(0)
    tuned = per_seed[state == TUNED].droplevel(0)
    before = per_seed[state == UNTOUCHED].droplevel(0)
    rows = [("", _over_seeds(tuned, resampling, n))] if len(tuned) else []
    if len(before):
        rows.append(("_untouched", _over_seeds(before, resampling, n)))
    if len(before) and len(tuned):
        excess = (tuned - before).dropna()
        one = statistics.cluster_bootstrap(excess.to_numpy(), None, resampling=resampling).row()
        one |= {"ci_low": max(one["ci_low"], -1.0), "ci_high": min(one["ci_high"], 1.0)}
        rows.append(("_excess_over_untouched", one | {"n": n, "seeds": len(excess)}))
    return rows
