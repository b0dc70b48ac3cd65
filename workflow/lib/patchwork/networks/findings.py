"""Rows from which claims on networks are decided, with planted effects as positive controls."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from patchwork.networks import association
from patchwork.networks.association import CONTRAST, COVARIATES
from patchwork.statistics import (
    DECIDING,
    LEVEL,
    Interval,
    rank_correlation_ends,
    t_interval,
    unknown,
)
from patchwork.statistics.power import share_found

# Attention scores with the controls that follow the graph but nothing that was learnt from it.
CONTROLS = {"trained": ("rewired", "untrained"), "random_label": ("random_label_rewired",)}
RELEASED = ("random_label", "random_label_rewired", "graph_free")
PRIMARY = ("abscissa_change", CONTRAST)
SIGNING_OUTCOMES = ("abscissa", "initial_growth", "nonnormality")


def of_networks(
    nodes: pd.DataFrame,
    table: pd.DataFrame,
    summary: pd.DataFrame,
    seeds: dict[str, int],
    *,
    least: float,
    n_draws: int,
    seed: int,
) -> pd.DataFrame:
    """Findings on what attention follows.

    Args:
        nodes: of `tables.scored_nodes`.
        table: of `association.associations` of the same.
        summary: of `tables.summarise` of the same.
        seeds: seeds behind each attention score.
        least: the smallest correlation that would matter, above 0; twice as much is planted.
        n_draws: planted data sets per positive control.
        seed: of the planted effects.

    Returns:
        Columns of findings without dataset. `<score>_<outcome>_<kind>_correlation`; for several
        networks, also, of partial correlations, `<score>_<outcome>_excess`, by how much it exceeds
        the control that it exceeds least, and `planted_<score>_<outcome>`, the share of planted
        effects found.
    """
    names = summary[["score", "outcome", "kind"]].agg("_".join, axis=1) + "_correlation"
    rows = summary.drop(columns=["score", "outcome", "kind"]).assign(
        quantity=names,
        protocol=summary["score"].map(_protocol),
        seeds=summary["score"].map(seeds).fillna(1).astype(int),
    )
    more = []
    if nodes["network"].nunique() > 1:
        partial = table[table["kind"] == "partial"]
        wide = partial.pivot(index="network", columns=["score", "outcome"], values="correlation")
        for score, controls in CONTROLS.items():
            for outcome in PRIMARY:
                excesses = [
                    association.mean_interval((wide[score, outcome] - wide[c, outcome]).to_numpy())
                    for c in controls
                ]
                smallest = min(excesses, key=lambda one: one.low90)
                plant = _Planted(nodes, score, outcome, least)
                found = share_found(plant, (least, None), seed, n_draws)
                more += [
                    _row(f"{score}_{outcome}_excess", smallest, seeds[score], score),
                    _row(f"planted_{score}_{outcome}", found, seeds[score], score),
                ]
    return _joined([rows, pd.DataFrame(more)])


def of_competence(attention: pd.DataFrame) -> pd.DataFrame:
    """Whether trained models predict their trajectories: `trained_test_r2`, `rewired_test_r2`.

    Args:
        attention: of `tables.trained_attention`.

    Returns:
        Columns of findings without dataset; the mean over networks, or over the models of a single
        one, of the share of variance explained.
    """
    by = "network" if attention["network"].nunique() > 1 else "seed"
    names = {"trained_test_r2": "test_r2", "rewired_test_r2": "rewired_test_r2"}
    n_seeds = attention["seed"].nunique()
    means = attention.groupby(by)[list(names.values())].mean()
    rows = [_row(q, t_interval(means[c].to_numpy()), n_seeds, "trained") for q, c in names.items()]
    return _joined([pd.DataFrame(rows)])


def of_signings(
    signings: pd.DataFrame, *, least: float, n_draws: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Findings on what signs do at fixed magnitudes.

    Args:
        signings: of `tables.signings`.
        least: as for `of_networks`.
        n_draws: as for `of_networks`.
        seed: as for `of_networks`.

    Returns:
        Columns of findings without dataset, per outcome and law: `frustration_<outcome>_<law>`, the
        rank correlation within a network over signings; `negative_edges_<outcome>_<law>`, the same
        of the number of negative edges with frustration held fixed; `planted_frustration_<outcome>_
        <law>`. The law `greatest` has the greatest correlation with frustration. And the
        correlations of each network, the table ``sign_effects.csv``.
    """
    rows, effects = [], []
    laws = signings["law"].unique()
    for outcome in SIGNING_OUTCOMES:
        found = {}
        for law in laws:
            part = signings[signings["law"] == law].sort_values(["network", "signing"])
            shape = (part["network"].nunique(), -1)
            y, x, edges = (
                part[c].to_numpy(float).reshape(shape)
                for c in (outcome, "frustration", "negative_edges")
            )
            rho = association.rank_correlations(x, y)
            plant = _PlantedSigns(x, y, 2 * least)
            found[law] = {
                f"frustration_{outcome}": _over(rho, x.shape[1]),
                f"negative_edges_{outcome}": _over(
                    association.rank_correlations(edges, y, x[..., None]), x.shape[1], 1
                ),
                f"planted_frustration_{outcome}": share_found(plant, (least, None), seed, n_draws),
            }
            names = {"network": part["network"].unique(), "law": law, "outcome": outcome}
            effects.append(pd.DataFrame({**names, "correlation": rho}))
        known = {k: one[f"frustration_{outcome}"].estimate for k, one in found.items()}
        best = max(known, key=lambda law: np.nan_to_num(known[law], nan=-2.0))
        for law, one in {**found, "greatest": found[best]}.items():
            rows += [_row(f"{name}_{law}", value, 1, "signs") for name, value in one.items()]
    return _joined([pd.DataFrame(rows)]), pd.concat(effects, ignore_index=True)


class _Planted:
    """Networks drawn with replacement, their own effect removed and one planted."""

    def __init__(self, nodes: pd.DataFrame, score: str, outcome: str, least: float) -> None:
        names = [f"{sign}_loop_gain" for sign in ("negative", "positive")]
        columns = names if outcome == CONTRAST else [outcome]
        self.score = association.matrices(nodes, [score])[..., 0]
        self.outcomes = np.moveaxis(association.matrices(nodes, columns), 2, 0)
        self.given = association.matrices(nodes, COVARIATES)
        self.shift = 2 * least

    def __call__(self, rng: np.random.Generator) -> Interval:
        """The interval of the planted effect."""
        m = len(self.score)
        drawn = rng.integers(m, size=m)
        score, given, outcomes = self.score[drawn], self.given[drawn], self.outcomes[:, drawn]
        if len(outcomes) == 2:
            # Exchanging the signs of the cycles in half of the networks removes the contrast.
            swap = rng.random(m) < 0.5
            outcomes = np.where(swap[:, None], outcomes[::-1], outcomes)
            shifts: Sequence[float] = (self.shift / 2, -self.shift / 2)
        else:
            rest = association.residual_ranks(outcomes[0], given)
            ranks = stats.rankdata(outcomes[0], axis=1)
            outcomes = (ranks - rest + rng.permuted(rest, axis=1))[None]
            shifts = (self.shift,)
        planted = [
            association.rank_correlations(
                score, association.with_shifted_correlation(score, y, given, shift, rng), given
            )
            for y, shift in zip(outcomes, shifts, strict=True)
        ]
        return association.mean_interval(planted[0] - (planted[1] if len(planted) == 2 else 0))


class _PlantedSigns:
    """Signings whose outcomes are shuffled within networks and follow frustration by a plant."""

    def __init__(self, frustration: np.ndarray, outcome: np.ndarray, shift: float) -> None:
        self.x, self.y, self.shift = frustration, outcome, shift

    def __call__(self, rng: np.random.Generator) -> Interval:
        """The interval of the planted effect."""
        drawn = rng.integers(len(self.x), size=len(self.x))
        x, y = self.x[drawn], rng.permuted(self.y[drawn], axis=1)
        y = association.with_shifted_correlation(x, y, None, self.shift, rng)
        return _over(association.rank_correlations(x, y), x.shape[1])


def _over(correlations: np.ndarray, n_signings: int, n_given: int = 0) -> Interval:
    """Over networks, or over the signings of a single one."""
    if len(correlations) > 1:
        return association.mean_interval(correlations)
    rho = float(correlations[0])
    if np.isnan(rho):
        return unknown(n_signings, 1)
    ends = [
        float(end[0])
        for level in (LEVEL, DECIDING)
        for end in rank_correlation_ends(correlations, np.array([n_signings]), n_given, level)
    ]
    return Interval(rho, ends[0], ends[1], ends[2], ends[3], n_signings, 1)


def _protocol(score: str) -> str:
    return "released" if score in RELEASED else "corrected"


def _row(quantity: str, found: Interval, seeds: int, score: str) -> dict:
    return {**found.row(), "quantity": quantity, "protocol": _protocol(score), "seeds": seeds}


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    kept = [part for part in parts if len(part)]
    return pd.concat(kept, ignore_index=True).assign(backbone="none")
