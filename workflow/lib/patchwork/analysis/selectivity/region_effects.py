"""Attention against ablation: does a head that looks at a region matter for the loss?"""

import numpy as np
import pandas as pd
from scipy import stats

from patchwork import statistics
from patchwork.analysis.selectivity.region_tables import KINDS, TUNED, semantics
from patchwork.statistics import Resampling
from patchwork.tables import CONDITION, FINDINGS, RUN, groups, join

# ASSUME: a head matters if the loss rises without it, at this false discovery rate over the heads
# of its network, images resampled.
Q = 0.05
COUNTS = ("looks_matters", "looks_only", "matters_only", "neither")
# Haldane and Anscombe: half a head more in each cell, so that an empty one has an odds ratio.
_HALF = 0.5


def looks_and_matters(
    verdicts: pd.DataFrame,
    effects: pd.DataFrame,
    region: str,
    *,
    variant: str = "cls",
    baseline: str = "zero",
    resampling: Resampling = statistics.DEFAULT,
) -> pd.DataFrame:
    """Each head's attention on one region beside what its ablation does.

    Args:
        verdicts: of `region_tables.verdicts`.
        effects: of `group_effects.group_effects`, kind heads, with the names of its run.
        region: what heads may look at.
        variant: of the attention.
        baseline: of the ablation.
        resampling: of the test whether a head matters.

    Returns:
        dataset, backbone, protocol, seed, layer, head, region, ratio (attention mass over area),
        looks (the region passes), kind (see `region_tables.semantics`), effect (percent of the
        intact loss), matters, n (images). One row per head of each run that is in both tables.

    Raises:
        ValueError: if no run is in both.
    """
    kinds = semantics(verdicts)
    keys = [*RUN, "state", "variant", "layer", "head"]
    seen = verdicts[verdicts["region"] == region].merge(kinds[[*keys, "kind"]], on=keys)
    seen = seen[(seen["state"] == TUNED) & (seen["variant"] == variant)]
    single = effects[(effects["groups"] == "heads") & (effects["baseline"] == baseline)]
    parts = []
    for names, part in groups(single, RUN):
        wide = part.pivot_table(index="example", columns=["layer", "head"], values="effect")
        table = statistics.effect_table(wide.to_numpy(), None, resampling=resampling)
        clean = part.groupby("example")["clean"].first().mean()
        matters = (table["q"] < Q) & (table["effect"] > 0)
        found = wide.columns.to_frame(index=False).assign(
            **names, effect=100 * table["effect"] / clean, matters=matters, n=table["n"]
        )
        parts.append(found)
    effect = join(parts)
    columns = [*RUN, "layer", "head", "region", "ratio", "passes", "kind"]
    both = seen[columns].merge(effect, on=[*RUN, "layer", "head"], validate="one_to_one")
    if both.empty:
        raise ValueError(f"verdicts and effects share no run with region {region!r}; allowed is 1+")
    both = both.rename(columns={"passes": "looks"})
    return both.astype({"looks": bool, "matters": bool})


def agreement_table(heads: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """The two by two of looking and mattering, with its odds ratio over seeds.

    Args:
        heads: of :func:`looks_and_matters`.
        resampling: of the interval.

    Returns:
        dataset, backbone, protocol, region, `COUNTS` (heads of all seeds), odds_ratio (geometric
        mean over seeds, half a head added to each cell), ci_low, ci_high, n (heads of a network),
        seeds.
    """
    rows = []
    for names, part in groups(heads, [*CONDITION, "region"]):
        per_seed = _per_seed(part)
        one = statistics.cluster_bootstrap(
            per_seed["looks_matters_log_odds_ratio"].to_numpy(), None, resampling=resampling
        )
        ends = dict(zip(("odds_ratio", "ci_low", "ci_high"),
                        np.exp([one.estimate, one.low, one.high]), strict=True))  # fmt: skip
        counts = dict(zip(COUNTS, _counts(part), strict=True))
        n = len(part[["layer", "head"]].drop_duplicates())
        rows.append({**names, **counts, **ends, "n": n, "seeds": len(per_seed)})
    return pd.DataFrame(rows)


def _counts(part: pd.DataFrame) -> list[int]:
    looks, matters = part["looks"].to_numpy(), part["matters"].to_numpy()
    cells = (looks & matters, looks & ~matters, ~looks & matters, ~looks & ~matters)
    return [int(cell.sum()) for cell in cells]


def _per_seed(part: pd.DataFrame) -> pd.DataFrame:
    """What one network's heads say, a row per seed; nan where it cannot say it."""
    rows = {}
    for seed, one in part.groupby("seed"):
        a, b, c, d = (count + _HALF for count in _counts(one))
        mono, poly = (one.loc[one["kind"] == kind, "effect"].mean() for kind in KINDS[:2])
        both = one["ratio"].nunique() > 1 and one["effect"].nunique() > 1
        rows[seed] = {
            "attention_effect_rank_correlation": (
                stats.spearmanr(one["ratio"], one["effect"]).statistic if both else np.nan
            ),
            "attention_predicts_mattering_auroc": _auroc(one["ratio"], one["matters"]),
            "looks_matters_log_odds_ratio": np.log(a * d / (b * c)),
            "effect_monosemantic_minus_polysemantic_percent": mono - poly,
            "share_of_heads_that_look": one["looks"].mean(),
            "share_of_heads_that_matter": one["matters"].mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _auroc(score: pd.Series, member: pd.Series) -> float:
    inside, outside = score[member], score[~member]
    if inside.empty or outside.empty:
        return np.nan
    return float(stats.mannwhitneyu(inside, outside).statistic / (len(inside) * len(outside)))


_ENDS = {
    "attention_effect_rank_correlation": (-1.0, 1.0),
    "attention_predicts_mattering_auroc": (0.0, 1.0),
    "share_of_heads_that_look": (0.0, 1.0),
    "share_of_heads_that_matter": (0.0, 1.0),
}


def agreement_findings(heads: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """How well attention to a region tells which heads matter, over seeds.

    That attention tells heads apart by what they attend to is true by definition; what they do is
    measured by ablation, so that is what attention is held against.

    Args:
        heads: of :func:`looks_and_matters`, of one region.
        resampling: of the intervals.

    Returns:
        Columns `tables.FINDINGS`: ``attention_effect_rank_correlation`` (Spearman, over heads),
        ``attention_predicts_mattering_auroc`` (0.5: attention tells nothing),
        ``looks_matters_log_odds_ratio`` (0: nothing),
        ``effect_monosemantic_minus_polysemantic_percent`` (mean effect on the loss),
        ``share_of_heads_that_look`` and ``share_of_heads_that_matter``. Seeds in which one cannot
        be computed (for one, no head matters) are left out of it.
    """
    rows = []
    for names, part in groups(heads, CONDITION):
        n = len(part[["layer", "head"]].drop_duplicates())
        for quantity, column in _per_seed(part).items():
            known = column.dropna().to_numpy()
            row = {"estimate": np.nan, "ci_low": np.nan, "ci_high": np.nan}
            if len(known):
                row = statistics.cluster_bootstrap(known, None, resampling=resampling).row()
                low, high = _ENDS.get(str(quantity), (-np.inf, np.inf))
                row |= {"ci_low": max(row["ci_low"], low), "ci_high": min(row["ci_high"], high)}
            rows.append({"quantity": quantity, **names, **row, "n": n, "seeds": len(known)})
    return pd.DataFrame(rows, columns=list(FINDINGS))
