"""Long tables of a set of networks: what a study writes and its figures read."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from patchwork.networks import (
    association,
    cycles,
    data,
    perturbation,
    released_attention,
    spectral,
    walks,
)
from patchwork.networks.data import Network
from patchwork.networks.graph_attention import AttentionTraining, train_attention

TRAINED = ("trained", "rewired", "untrained")
_NULL_DRAWS = 400
_MODELS_AT_ONCE = 100  # bounds the memory; a model does not depend on the others of its batch


def per_network(
    networks: Sequence[Network], table: Callable[[np.ndarray], pd.DataFrame]
) -> pd.DataFrame:
    """Apply one table to every network's weights.

    Args:
        networks: one or more.
        table: weights (n, n) -> frame.

    Returns:
        The frames below each other with a first column network (position in the sequence).
    """
    frames = [table(n.weights).assign(network=k) for k, n in enumerate(networks)]
    merged = pd.concat(frames, ignore_index=True)
    return merged[["network", *merged.columns.drop("network")]]


def edges(weights: np.ndarray) -> pd.DataFrame:
    """Non-zero entries: the table ``edges.csv`` without network."""
    source, target = np.nonzero(weights)
    return pd.DataFrame({"source": source, "target": target, "weight": weights[source, target]})


def structure(weights: np.ndarray, *, margin: float) -> pd.DataFrame:
    """One row of whole-network numbers.

    Args:
        weights: shape (n, n).
        margin: of the Kreiss constant, see `spectral.kreiss_lower_bound`.

    Returns:
        The table ``structure.csv`` without network.
    """
    own = weights - np.diag(np.diag(weights))
    row = {
        "nodes": len(weights),
        "edges": int(np.count_nonzero(own)),
        "negative_edges": int((own < 0).sum()),
        "spectral_abscissa": float(spectral.spectral_abscissa(weights)),
        "numerical_abscissa": float(spectral.numerical_abscissa(weights)),
        "kreiss_lower_bound": float(spectral.kreiss_lower_bound(weights, margin)),
        "frustration_index": int(cycles.frustration_index(weights)),
    }
    return pd.DataFrame([row])


def signings(
    networks: Sequence[Network], *, log_sds: Sequence[float], n_signings: int, seed: int
) -> pd.DataFrame:
    """Every network under many signings: ``signings.parquet``; as `perturbation.redraw_signs`."""
    frames = [
        perturbation.redraw_signs(n.weights, log_sds, n_signings, (seed, k)).assign(network=k)
        for k, n in enumerate(networks)
    ]
    return pd.concat(frames, ignore_index=True)


def two_step(weights: np.ndarray, p: float, q: float) -> pd.DataFrame:
    """Two-step walk scores as released, and stationary visits: ``walks.csv`` without network."""
    scores = {
        "two_step_walk": walks.two_step_scores(weights, p, q),
        "stationary_visits": walks.stationary_visits(weights, p, q),
    }
    return _by_node(scores)


def pseudospectra(weights: np.ndarray, n_points: int) -> pd.DataFrame:
    """Smallest singular value of z - A in two windows: all eigenvalues, and those near zero.

    Args:
        weights: shape (n, n).
        n_points: grid points per axis, >= 2.

    Returns:
        The table ``pseudospectrum.csv`` without network.
    """
    values = np.linalg.eigvals(weights)
    # the slower half of the spectrum decides stability and is invisible beside stiff eigenvalues
    near = np.abs(values) <= np.median(np.abs(values)) * (1 + 1e-9)
    frames = []
    for window, inside in (("whole", values), ("near_zero", values[near])):
        reach = 0.35 * max(np.ptp(inside.real), np.ptp(inside.imag), 1e-6)
        real = np.linspace(inside.real.min() - reach, inside.real.max() + reach, n_points)
        top = max(np.abs(inside.imag).max(), 0.0) + reach
        imaginary = np.linspace(-top, top, n_points)
        field = spectral.pseudospectrum(weights, real, imaginary)
        grid = {"real": np.tile(real, n_points), "imaginary": np.repeat(imaginary, n_points)}
        frames.append(
            pd.DataFrame(grid).assign(window=window, smallest_singular_value=field.ravel())
        )
    merged = pd.concat(frames, ignore_index=True)
    return merged[["window", "real", "imaginary", "smallest_singular_value"]]


def edge_sweeps(weights: np.ndarray, factors: Sequence[float], n_edges: int) -> pd.DataFrame:
    """Sweep the edges on whose weight the spectral abscissa depends most.

    Args:
        weights: shape (n, n).
        factors: of the edge's weight; -1 turns its sign.
        n_edges: how many edges.

    Returns:
        The table ``edge_sweeps.csv`` without network; an edge is "i to j".
    """
    pull = np.abs(spectral.abscissa_gradient(weights) * weights)
    np.fill_diagonal(pull, 0)
    frames = []
    for place in np.argsort(-pull, axis=None, kind="stable")[:n_edges]:
        i, j = (int(k) for k in np.unravel_index(place, pull.shape))
        swept = perturbation.sweep_edge(weights, (i, j), np.asarray(factors, dtype=float))
        frames.append(swept.assign(edge=f"{i} to {j}"))
    return pd.concat(frames, ignore_index=True)


def released_scores(
    weights: np.ndarray,
    rewired: np.ndarray,
    features: np.ndarray,
    targets: np.ndarray | None,
    *,
    n_seeds: int,
    graph_free_epochs: int,
) -> pd.DataFrame:
    """Scores of both released scripts over seeds.

    Args:
        weights: shape (n, n).
        rewired: shape (n, n), of `data.rewired`: the control.
        features: shape (n, f).
        targets: shape (n,); None leaves the graph-free script out.
        n_seeds: models per script, seeds 0, 1, ...
        graph_free_epochs: epochs of the graph-free script.

    Returns:
        The table ``released_scores.csv`` without network and factor.
    """
    seeds = np.arange(n_seeds)
    random_label = released_attention.random_label_scores
    runs = {
        "random_label": random_label(weights, features, seeds),
        "random_label_rewired": random_label(rewired, features, seeds),
    }
    if targets is not None:
        runs["graph_free"] = released_attention.graph_free_scores(
            weights, features, targets, seeds, graph_free_epochs
        )
    n = len(weights)
    frames = [
        pd.DataFrame(
            {
                "score": name,
                "seed": np.repeat(seeds, n),
                "node": np.tile(range(n), n_seeds),
                "value": run.scores.ravel(),
                "received": run.received.ravel(),
            }
        )
        for name, run in runs.items()
    ]
    return pd.concat(frames, ignore_index=True)


def score_spread(released: pd.DataFrame, attention: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over seeds of every attention score of every node.

    Args:
        released: columns network, factor, score, seed, node, value.
        attention: of `trained_attention`.

    Returns:
        The table ``score_spread.csv``.
    """
    named = attention.rename(columns={"attention": "trained"}).assign(factor=1.0)
    trained = named.melt(["network", "factor", "node"], list(TRAINED), "score", "value")
    keys = ["network", "factor", "score", "node"]
    groups = pd.concat([released, trained]).groupby(keys, sort=False)["value"]
    ends = {"low": groups.quantile(0.025), "high": groups.quantile(0.975)}
    return groups.agg(estimate="mean", seeds="count").assign(**ends).reset_index()


def summarise(nodes: pd.DataFrame, table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Associations with intervals over networks, or over nodes where there is one network.

    Args:
        nodes: as for `association.associations`.
        table: of `association.associations`.
        seed: of the random scores that are the baseline of a single network.

    Returns:
        The table ``associations.csv`` without dataset.
    """
    if nodes["network"].nunique() > 1:
        return association.over_networks(table)
    known = association.within_network(table[table["score"] != "random"])
    # one random score of a few nodes can correlate with anything; its distribution is the baseline
    null = association.random_baseline(nodes, n_draws=_NULL_DRAWS, seed=seed)
    return pd.concat([known, null], ignore_index=True)


def trained_attention(
    networks: Sequence[Network], training: AttentionTraining, n_seeds: int
) -> pd.DataFrame:
    """Attention of trained models per network, seed and node, and that of two controls.

    The controls are the same models untrained, and models of the rewired networks.

    Args:
        networks: one or more; those of one size are trained together, by the hundred.
        training: sizes and schedule.
        n_seeds: models per network, >= 1.

    Returns:
        The table ``trained_attention.csv``.
    """
    frames = []
    rewired = [data.rewired(network, k) for k, network in enumerate(networks)]
    for size in sorted({len(n.weights) for n in networks}):
        index = [k for k, n in enumerate(networks) if len(n.weights) == size]
        models = np.repeat(index, n_seeds)
        seeds = np.tile(np.arange(n_seeds), len(index))
        for first in range(0, len(models), _MODELS_AT_ONCE):
            chunk = slice(first, first + _MODELS_AT_ONCE)
            # a network's first model must not start from the same draws as its neighbour's
            draws = models[chunk] * n_seeds + seeds[chunk]
            own, other = (
                train_attention(
                    np.stack([several[k].weights for k in models[chunk]]), draws, training
                )
                for several in (networks, rewired)
            )
            columns = {
                "network": np.repeat(models[chunk], size),
                "seed": np.repeat(seeds[chunk], size),
                "node": np.tile(np.arange(size), len(draws)),
                "attention": own.received.ravel(),
                "untrained": own.untrained.ravel(),
                "rewired": other.received.ravel(),
                "test_r2": np.repeat(own.test_r2, size),
                "rewired_test_r2": np.repeat(other.test_r2, size),
            }
            frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def scored_nodes(
    nodes: pd.DataFrame, released: pd.DataFrame, attention: pd.DataFrame, seed: int
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Every node with its properties and every score, averaged over seeds.

    Args:
        nodes: columns network, node and the properties.
        released: columns network, factor, score, seed, node, value; factor 1 is used.
        attention: of `trained_attention`.
        seed: of the random score.

    Returns:
        The table ``scored_nodes.csv``, and the number of seeds behind each attention score.
    """
    keys = ["network", "node"]
    plain = released[released["factor"] == 1]
    wide = plain.groupby([*keys, "score"], sort=False)["value"].mean().unstack()
    named = attention.rename(columns={"attention": "trained"})
    trained = named.groupby(keys)[list(TRAINED)].mean()
    merged = nodes.merge(wide.reset_index(), on=keys).merge(trained.reset_index(), on=keys)
    seeds = {name: plain["seed"].nunique() for name in wide.columns}
    seeds |= dict.fromkeys(TRAINED, attention["seed"].nunique())
    rng = np.random.Generator(np.random.Philox(seed))
    return merged.assign(random=rng.random(len(merged))), seeds


def _by_node(scores: dict[str, np.ndarray]) -> pd.DataFrame:
    wide = pd.DataFrame(scores).rename_axis("node").reset_index()
    return wide.melt("node", var_name="score")
