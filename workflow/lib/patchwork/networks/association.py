"""Attention and instability: rank correlations within networks, intervals over networks."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from patchwork.networks import cycles, perturbation, walks
from patchwork.statistics import DECIDING, LEVEL, Interval, rank_correlation_ends, t_interval
from patchwork.tables import ENDS

_KEYS = ["score", "outcome", "kind"]
COVARIATES = ("out_degree", "out_strength")
OUTCOMES = (
    "abscissa_change",
    "weakening_change",
    "removal_change",
    "flip_change",
    "initial_growth_change",
    "transient_growth_change",
    "negative_loop_gain",
    "positive_loop_gain",
    "frustration",
)
CONTRAST = "polarity_contrast"


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
    gains = cycles.loop_gain(weights)
    return perturbation.node_instability(weights, strengthening, margin).assign(
        negative_loop_gain=gains[:, 0],
        positive_loop_gain=gains[:, 1],
        frustration=cycles.node_frustration(weights),
        walk_visits=walks.stationary_visits(weights, p, q),
    )


def residual_ranks(values: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    """Ranks within each network that ranks of other variables do not explain.

    Args:
        values: shape (m, n), a row per network.
        given: shape (m, n, k), variables held fixed; None: none.

    Returns:
        shape (m, n), each row with mean zero; zero where nothing is left.
    """
    ranks = stats.rankdata(values, axis=1)
    return _residuals(ranks - ranks.mean(1, keepdims=True), given)


def rank_correlations(
    score: np.ndarray, outcome: np.ndarray, given: np.ndarray | None = None
) -> np.ndarray:
    """Spearman's correlation of score and outcome within each network, plain or partial.

    Args:
        score: shape (m, n), a row per network.
        outcome: shape (m, n).
        given: shape (m, n, k), variables whose ranks are held fixed; None: none.

    Returns:
        shape (m,), in [-1, 1]; nan where either side is constant or fully given by `given`.

    Source: Kendall 1942, Biometrika 32, 277-283, applied to ranks.
    """
    x, y = _unit(residual_ranks(score, given)), _unit(residual_ranks(outcome, given))
    return np.clip((x * y).sum(1), -1, 1)


def with_shifted_correlation(
    score: np.ndarray,
    outcome: np.ndarray,
    given: np.ndarray | None,
    shift: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """An outcome whose (partial) rank correlation with a score is higher by a known amount.

    Args:
        score: shape (m, n), a row per network.
        outcome: shape (m, n).
        given: as for `rank_correlations`.
        shift: added to the mean correlation, in [-1, 1]; that of a network ends at 1 and -1.
        rng: of distances between ranks.

    Returns:
        shape (m, n), unitless.
    """
    # Ranks are evenly spaced, so a small shift would reorder none: they get random distances.
    order = np.argsort(np.argsort(outcome, axis=1, kind="stable"), axis=1)
    values = np.take_along_axis(np.sort(rng.random(outcome.shape), axis=1), order, axis=1)
    values -= values.mean(1, keepdims=True)
    rest = _residuals(values, given)
    x, y = _unit(residual_ranks(score, given)), _unit(rest)
    now = (x * y).sum(1, keepdims=True)
    other = _unit(y - now * x)
    wanted = np.clip(now + shift, -0.999, 0.999)
    size = np.linalg.norm(rest, axis=1, keepdims=True)
    shifted = values - rest + size * (wanted * x + np.sqrt(1 - wanted**2) * other)
    return np.where(np.isfinite(shifted), shifted, values)


def associations(nodes: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    """Rank correlation of every score with every outcome in every network.

    Args:
        nodes: columns network, `COVARIATES`, the scores and `OUTCOMES`; one row per network and
            node, networks of equal size.
        scores: score columns.

    Returns:
        Columns network, score, outcome, kind (rank; partial: with `COVARIATES` held fixed),
        correlation, nodes. The partial correlations of a covariate are left out. Outcome
        `CONTRAST`: correlation with negative minus that with positive loop gain, in [-2, 2].
    """
    given = matrices(nodes, COVARIATES)
    of = {name: matrices(nodes, [name])[..., 0] for name in (*scores, *OUTCOMES)}
    frames = []
    for score in scores:
        for kind, fixed in (("rank", None), ("partial", given)):
            if fixed is not None and score in COVARIATES:
                continue
            found = {name: rank_correlations(of[score], of[name], fixed) for name in OUTCOMES}
            found[CONTRAST] = found["negative_loop_gain"] - found["positive_loop_gain"]
            wide = pd.DataFrame(found).assign(network=nodes["network"].unique())
            long = wide.melt("network", var_name="outcome", value_name="correlation")
            frames.append(long.assign(score=score, kind=kind, nodes=given.shape[1]))
    return pd.concat(frames, ignore_index=True)


def matrices(nodes: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Columns of nodes by network, shape (networks, nodes, columns).

    Raises:
        ValueError: if networks differ in size.
    """
    sizes = nodes.groupby("network", sort=False).size().unique()
    if len(sizes) > 1:
        raise ValueError(f"nodes has networks of {sizes.tolist()} nodes; allowed is one size")
    return nodes[list(names)].to_numpy(float).reshape(-1, sizes[0], len(names))


def random_baseline(nodes: pd.DataFrame, *, n_draws: int, seed: int) -> pd.DataFrame:
    """Correlations of random scores in one network: the null distribution.

    Args:
        nodes: columns network (one value), `COVARIATES` and `OUTCOMES`.
        n_draws: random scores.
        seed: of the draws.

    Returns:
        The columns of `within_network` for score random; the estimate is the mean over draws and
        the intervals hold 95 % and 90 % of them.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    many = pd.concat([nodes.assign(network=k) for k in range(n_draws)], ignore_index=True)
    table = associations(many.assign(random=rng.random(len(many))), ["random"])
    groups = table[table["outcome"] != CONTRAST].groupby(_KEYS, sort=False)["correlation"]
    tails = dict(zip(ENDS, (0.025, 0.975, 0.05, 0.95), strict=True))
    ends = {name: groups.quantile(tail) for name, tail in tails.items()}
    return groups.agg(estimate="mean").assign(**ends, n=len(nodes)).reset_index()


def over_networks(table: pd.DataFrame) -> pd.DataFrame:
    """Mean correlation over networks with Student's interval over networks.

    Args:
        table: of `associations`, with two networks or more.

    Returns:
        The table ``associations.csv`` without dataset; n counts the networks in which the
        correlation exists.
    """
    rows = [
        {**dict(zip(_KEYS, keys, strict=True)), **mean_interval(part.to_numpy()).row()}
        for keys, part in table.groupby(_KEYS, sort=False)["correlation"]
    ]
    return pd.DataFrame(rows).drop(columns="seeds")


def mean_interval(values: np.ndarray) -> Interval:
    """Mean over the networks in which a correlation exists, with Student's interval."""
    return t_interval(values[~np.isnan(values)])


def rank_profiles(
    nodes: pd.DataFrame, scores: Sequence[str], outcomes: Sequence[str]
) -> pd.DataFrame:
    """Mean rank of each score among the nodes of its network, by the rank of an outcome.

    Args:
        nodes: columns network, the scores and the outcomes; networks of equal size.
        scores: score columns.
        outcomes: outcome columns.

    Returns:
        The table ``rank_profiles.csv``; ties share ranks by order.
    """
    ranks = nodes.groupby("network")[[*scores, *outcomes]].rank()
    places = nodes.groupby("network")[list(outcomes)].rank(method="first").astype(int)
    rows = []
    for outcome in outcomes:
        for score in scores:
            for rank, values in ranks[score].groupby(places[outcome]):
                found = t_interval(values.to_numpy())
                rows.append({"outcome": outcome, "score": score, "rank": rank, **found.row()})
    return pd.DataFrame(rows).drop(columns="seeds")


def within_network(table: pd.DataFrame) -> pd.DataFrame:
    """Correlation in one network with an interval over its nodes.

    Args:
        table: of `associations`, with one network.

    Returns:
        The table ``associations.csv`` without dataset; n counts nodes. The contrast has no
        interval, for its two correlations share the nodes.
    """
    given = (table["kind"] == "partial").to_numpy() * len(COVARIATES)
    rho, n = table["correlation"].to_numpy(), table["nodes"].to_numpy()
    contrast = (table["outcome"] == CONTRAST).to_numpy()
    shown, deciding = (rank_correlation_ends(rho, n, given, level) for level in (LEVEL, DECIDING))
    ends = {
        name: np.where(contrast, np.nan, end)
        for name, end in zip(ENDS, (*shown, *deciding), strict=True)
    }
    return table[_KEYS].assign(estimate=table["correlation"], **ends, n=table["nodes"])


def _unit(values: np.ndarray) -> np.ndarray:
    """Rows of length one; nan where a row is zero."""
    with np.errstate(invalid="ignore"):
        return values / np.linalg.norm(values, axis=1, keepdims=True)


def _residuals(centred: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    """What ranks of other variables do not explain of rows with mean zero."""
    if given is None:
        return centred
    fixed = stats.rankdata(given, axis=1)
    fixed -= fixed.mean(1, keepdims=True)
    # The pseudoinverse allows covariates that are constant or each other's copies.
    rest = centred - (fixed @ (np.linalg.pinv(fixed, rcond=1e-9) @ centred[..., None]))[..., 0]
    explained = (rest**2).sum(1) <= 1e-9 * (centred**2).sum(1)
    return np.where(explained[:, None], 0.0, rest)
