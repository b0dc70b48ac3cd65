"""Attention and instability: rank correlations within networks, intervals over networks."""

import numpy as np
import pandas as pd
from scipy import stats

from patchwork.networks import cycles, perturbation, walks
from patchwork.statistics import DECIDING, LEVEL, percentile_interval, rank_correlation_ends
from patchwork.tables import ENDS

_KEYS = ["score", "outcome", "kind"]
OUTCOMES = (
    "abscissa_change",
    "abscissa_shift",
    "sensitivity",
    "initial_growth_change",
    "transient_growth_change",
    "negative_loop_gain",
    "positive_loop_gain",
    "frustration",
)


def node_properties(
    weights: np.ndarray, *, strengthening: float, margin: float, p: float, q: float
) -> pd.DataFrame:
    """Every property of the nodes that attention may follow.

    Args:
        weights: shape (n, n).
        strengthening: relative change of a node's edges, see `perturbation.node_instability`.
        margin: of the Kreiss constant, see `spectral.kreiss_lower_bound`.
        p: return parameter of the biased walk.
        q: in-out parameter of the biased walk.

    Returns:
        The table ``nodes.csv`` without network.
    """
    table = perturbation.node_instability(weights, strengthening, margin)
    gains = cycles.loop_gain(weights)
    return table.assign(
        abscissa_shift=table["abscissa_change"].abs(),
        negative_loop_gain=gains[:, 0],
        positive_loop_gain=gains[:, 1],
        frustration=cycles.node_frustration(weights),
        walk_visits=walks.stationary_visits(weights, p, q),
    )


def rank_correlation(score: np.ndarray, outcome: np.ndarray) -> float:
    """Spearman's rho; nan where either side is constant.

    Args:
        score: shape (n,).
        outcome: shape (n,).

    Returns:
        In [-1, 1] or nan.
    """
    if np.ptp(score) == 0 or np.ptp(outcome) == 0:
        return float("nan")
    return float(np.corrcoef(stats.rankdata(score), stats.rankdata(outcome))[0, 1])


def partial_rank_correlation(score: np.ndarray, outcome: np.ndarray, given: np.ndarray) -> float:
    """Spearman's rho of score and outcome with the ranks of a third variable held fixed.

    Args:
        score: shape (n,).
        outcome: shape (n,).
        given: shape (n,); a constant one changes nothing.

    Returns:
        In [-1, 1]; nan where either side is constant or fully given by the third.

    Source: Kendall 1942, Biometrika 32, 277-283, applied to ranks.
    """
    plain = rank_correlation(score, outcome)
    if np.ptp(given) == 0:
        return plain
    by_score, by_outcome = rank_correlation(score, given), rank_correlation(outcome, given)
    rest = (1 - by_score**2) * (1 - by_outcome**2)
    if not rest > 1e-12:
        return float("nan")
    return float((plain - by_score * by_outcome) / np.sqrt(rest))


def associations(nodes: pd.DataFrame, scores: list[str]) -> pd.DataFrame:
    """Rank correlation of every score with every outcome in every network, plain and given degree.

    Args:
        nodes: columns network, degree, the scores and `OUTCOMES`; one row per network and node.
        scores: score columns.

    Returns:
        Columns network, score, outcome, kind (rank, partial), correlation, nodes. The partial
        correlation of degree itself is left out.
    """
    rows = []
    for network, part in nodes.groupby("network", sort=False):
        for score in scores:
            for outcome in OUTCOMES:
                x, y, degree = (part[c].to_numpy(float) for c in (score, outcome, "degree"))
                rows.append((network, score, outcome, "rank", rank_correlation(x, y), len(x)))
                if score != "degree":
                    value = partial_rank_correlation(x, y, degree)
                    rows.append((network, score, outcome, "partial", value, len(x)))
    return pd.DataFrame(
        rows, columns=["network", "score", "outcome", "kind", "correlation", "nodes"]
    )


def polarity_contrasts(table: pd.DataFrame) -> pd.DataFrame:
    """What a score follows in negative cycles beyond what it follows in positive ones.

    Args:
        table: of `associations`.

    Returns:
        The columns of `associations`; outcome is polarity_contrast and correlation the difference
        of the correlations with negative_loop_gain and positive_loop_gain, in [-2, 2].
    """
    keys = ["network", "score", "kind", "nodes"]
    sides = [
        table[table["outcome"] == f"{sign}_loop_gain"].set_index(keys)["correlation"]
        for sign in cycles.SIGNS
    ]
    contrast = (sides[0] - sides[1]).reset_index().assign(outcome="polarity_contrast")
    return contrast[table.columns]


def random_baseline(nodes: pd.DataFrame, *, n_draws: int, seed: int) -> pd.DataFrame:
    """Correlations of random scores in one network: the null distribution.

    Args:
        nodes: columns network (one value), degree and `OUTCOMES`.
        n_draws: random scores.
        seed: of the draws.

    Returns:
        The columns of `within_network` for score random; the estimate is the mean over draws and
        the intervals hold 95 % and 90 % of them.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    draws = [
        associations(nodes.assign(random=rng.random(len(nodes))), ["random"])
        for _ in range(n_draws)
    ]
    groups = pd.concat(draws).groupby(_KEYS, sort=False)["correlation"]
    tails = dict(zip(ENDS, (0.025, 0.975, 0.05, 0.95), strict=True))
    ends = {name: groups.quantile(tail) for name, tail in tails.items()}
    return groups.agg(estimate="mean").assign(**ends, n=len(nodes)).reset_index()


def over_networks(table: pd.DataFrame, *, n_resamples: int, seed: int) -> pd.DataFrame:
    """Mean correlation over networks with a bootstrap interval over networks.

    Args:
        table: of `associations`, with two networks or more.
        n_resamples: bootstrap resamples.
        seed: of the resampling.

    Returns:
        The table ``associations.csv`` without dataset; n counts the networks in which the
        correlation exists.
    """
    rows = []
    for keys, part in table.groupby(_KEYS, sort=False):
        values = part["correlation"].dropna().to_numpy()
        found = percentile_interval(values, n_resamples=n_resamples, seed=seed)
        rows.append({**dict(zip(_KEYS, keys, strict=True)), **found.row()})
    return pd.DataFrame(rows).drop(columns="seeds")


def rank_profiles(
    nodes: pd.DataFrame, scores: list[str], outcomes: list[str], *, n_resamples: int, seed: int
) -> pd.DataFrame:
    """Mean rank of each score among the nodes of its network, by the rank of an outcome.

    Args:
        nodes: columns network, the scores and the outcomes; networks of equal size.
        scores: score columns.
        outcomes: outcome columns.
        n_resamples: bootstrap resamples over networks.
        seed: of the resampling.

    Returns:
        The table ``rank_profiles.csv``; ties share ranks by order.
    """
    ranks = nodes.groupby("network")[[*scores, *outcomes]].rank()
    places = nodes.groupby("network")[outcomes].rank(method="first").astype(int)
    rows = []
    for outcome in outcomes:
        for score in scores:
            for rank, values in ranks[score].groupby(places[outcome]):
                found = percentile_interval(values.to_numpy(), n_resamples=n_resamples, seed=seed)
                rows.append({"outcome": outcome, "score": score, "rank": rank, **found.row()})
    return pd.DataFrame(rows).drop(columns="seeds")


def within_network(table: pd.DataFrame) -> pd.DataFrame:
    """Correlation in one network with an interval over its nodes.

    Args:
        table: of `associations`, with one network.

    Returns:
        The table ``associations.csv`` without dataset; n counts nodes.
    """
    # The partial correlation holds the degree fixed.
    given = (table["kind"] == "partial").to_numpy()
    rho, n = table["correlation"].to_numpy(), table["nodes"].to_numpy()
    shown, deciding = (rank_correlation_ends(rho, n, given, level) for level in (LEVEL, DECIDING))
    ends = dict(zip(ENDS, (*shown, *deciding), strict=True))
    return table[_KEYS].assign(estimate=table["correlation"], **ends, n=table["nodes"])
