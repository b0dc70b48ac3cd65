"""What happens to stability when a node's edges, or one edge's sign or weight, are changed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from patchwork.networks import cycles, spectral


def node_instability(weights: np.ndarray, strengthening: float, margin: float) -> pd.DataFrame:
    """The instability that each node causes: change of growth when its edges are changed.

    A node's edges are all that enter or leave it (its self-loop is its own damping and stays). They
    are strengthened, weakened (both by the same part) or removed, or the signs of those that enter
    it are turned, which turns every cycle through it; turning all of them would change no cycle.

    Args:
        weights: shape (n, n), 1 / time unit.
        strengthening: relative change of the weights, above 0.
        margin: of the Kreiss constant, see `spectral.kreiss_lower_bound`.

    Returns:
        One row per node: node to out_strength of the table ``nodes.csv``. Changes by weakening and
        removal are what goes with the edges, so in all columns more means more instability caused.
    """
    n = len(weights)
    touched = touched_edges(n)
    entering = touched & np.eye(n, dtype=bool)[:, :, None]
    stronger, weaker = (1 + s * strengthening * touched for s in (1, -1))
    factors = np.stack([stronger, weaker, 1.0 - touched, 1 - 2.0 * entering])
    change = spectral.spectral_abscissa(weights * factors) - spectral.spectral_abscissa(weights)
    changed = np.concatenate([weights[None], weights * stronger])
    kreiss = np.log(spectral.kreiss_lower_bound(changed, margin))
    own = np.abs(weights) * ~np.eye(n, dtype=bool)
    return pd.DataFrame(
        {
            "node": range(n),
            "abscissa_change": change[0],
            "weakening_change": -change[1],
            "removal_change": -change[2],
            "flip_change": change[3],
            "initial_growth_change": _change(spectral.numerical_abscissa(changed)),
            "transient_growth_change": _change(kreiss),
            "out_degree": (own > 0).sum(0),
            "out_strength": own.sum(0),
        }
    )


def touched_edges(n_nodes: int) -> np.ndarray:
    """Which matrix entries are edges of each node, self-loops left out.

    Args:
        n_nodes: >= 1.

    Returns:
        shape (n, n, n), boolean: [node, i, j].
    """
    eye = np.eye(n_nodes, dtype=bool)
    return (eye[:, :, None] | eye[:, None, :]) & ~eye[None]


def sweep_edge(weights: np.ndarray, edge: tuple[int, int], factors: np.ndarray) -> pd.DataFrame:
    """Eigenvalues and node scores as one edge's weight is multiplied by each factor.

    A factor of 1 is the network itself, -1 its edge with the sign turned, 0 the edge removed.

    Args:
        weights: shape (n, n).
        edge: (i, j) of a non-zero entry.
        factors: shape (k,).

    Returns:
        The table ``edge_sweeps.csv`` without network and edge, for real and imaginary parts, loop
        gains and sensitivity.
    """
    frames = []
    touched = touched_edges(len(weights))
    for factor in factors:
        changed = weights.copy()
        changed[edge] *= factor
        values = spectral.eigenvalue_sensitivities(changed)
        gains = cycles.loop_gain(changed)
        slope = touched * (spectral.abscissa_gradient(changed) * changed)
        columns = {
            "real": values["real"].to_numpy(),
            "imaginary": values["imaginary"].to_numpy(),
            "negative_loop_gain": gains[:, 0],
            "positive_loop_gain": gains[:, 1],
            "sensitivity": slope.sum(axis=(1, 2)),
        }
        wide = pd.DataFrame(columns).rename_axis("index").reset_index()
        frames.append(wide.melt("index", var_name="quantity").assign(factor=float(factor)))
    return pd.concat(frames, ignore_index=True)[["factor", "quantity", "index", "value"]]


def redraw_signs(
    weights: np.ndarray, log_sds: Sequence[float], n_signings: int, key: tuple[int, int]
) -> pd.DataFrame:
    """Stability of one graph under many signings of the same magnitudes.

    Each signing makes every edge negative with one chance, itself uniform between 0 and 1/2, so
    that balanced and frustrated signings both occur. Self-loops stay. Magnitudes are the network's
    own, then log-normal ones drawn once per law.

    Args:
        weights: shape (n, n), 1 / time unit.
        log_sds: standard deviations of the logarithms of magnitudes, one law each.
        n_signings: signings per law, >= 1.
        key: seed and number of the network, each >= 0.

    Returns:
        The table ``signings.parquet`` without network. At fixed magnitudes no signing has a larger
        abscissa or initial growth than the all-positive one (Perron and Frobenius).

    Source: nonnormality: Henrici 1962, Numerische Mathematik 4, 24-40.
    """
    rng = np.random.Generator(np.random.Philox(key=list(key)))
    n = len(weights)
    edges = (weights != 0) & ~np.eye(n, dtype=bool)
    laws = {"own": np.abs(weights)}
    for sd in log_sds:
        laws[f"lognormal_{sd:g}"] = np.exp(sd * rng.normal(size=(n, n)))
    frames = []
    for law, magnitudes in laws.items():
        chance = rng.uniform(0, 0.5, (n_signings, 1, 1))
        negative = (rng.random((n_signings, n, n)) < chance) & edges
        signed = edges * magnitudes * np.where(negative, -1.0, 1.0) + weights * np.eye(n)
        values = np.linalg.eigvals(signed)
        total = (signed**2).sum((1, 2))
        columns = {
            "law": law,
            "signing": range(n_signings),
            "frustration": cycles.frustration_index(signed),
            "negative_edges": negative.sum((1, 2)),
            "abscissa": values.real.max(1),
            "initial_growth": spectral.numerical_abscissa(signed),
            "nonnormality": np.sqrt(np.maximum(0, 1 - (np.abs(values) ** 2).sum(1) / total)),
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _change(values: np.ndarray) -> np.ndarray:
    return values[1:] - values[0]
