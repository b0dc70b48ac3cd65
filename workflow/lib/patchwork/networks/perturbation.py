"""What happens to stability when a node's edges, or one edge's sign or weight, are changed."""

import numpy as np
import pandas as pd

from patchwork.networks import cycles, spectral


def node_instability(weights: np.ndarray, strengthening: float, margin: float) -> pd.DataFrame:
    """The instability that each node causes: change of growth when its edges are strengthened.

    All edges into and out of a node (its self-loop is its own damping and stays) are multiplied by
    1 + strengthening.

    Args:
        weights: shape (n, n), 1 / time unit.
        strengthening: relative change of the weights, not 0.
        margin: of the Kreiss constant, see `spectral.kreiss_lower_bound`.

    Returns:
        One row per node: node to degree of the table ``nodes.csv``. The sensitivity is found from
        left and right eigenvectors.
    """
    n = len(weights)
    touched = touched_edges(n)
    changed = np.concatenate([weights[None], weights * (1 + strengthening * touched)])
    kreiss = np.log(spectral.kreiss_lower_bound(changed, margin))
    slope = spectral.abscissa_gradient(weights) * weights
    edges = cycles.total_degree(weights - np.diag(np.diag(weights)))
    return pd.DataFrame(
        {
            "node": range(n),
            "abscissa_change": _change(spectral.spectral_abscissa(changed)),
            "initial_growth_change": _change(spectral.numerical_abscissa(changed)),
            "transient_growth_change": _change(kreiss),
            "sensitivity": (touched * slope).sum(axis=(1, 2)),
            "degree": edges,
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


def polarity_shares(weights: np.ndarray, n_redraws: int, seed: int) -> dict[str, float]:
    """How much of the abscissa's variance comes from signs rather than from weights.

    Signs are permuted over the edges with magnitudes in place, and magnitudes with signs in place
    (self-loops stay). The control turns all edges between a random half of the nodes and the rest:
    as many signs move, but every cycle keeps its sign, so the spectrum cannot move.

    Args:
        weights: shape (n, n).
        n_redraws: permutations of each kind, >= 2.
        seed: of the permutations.

    Returns:
        polarity_share = V_signs / (V_signs + V_magnitudes) and balanced_share, the same with the
        balance-preserving changes of sign; both in [0, 1], nan if nothing moves the abscissa.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    n = len(weights)
    edges = (weights != 0) & ~np.eye(n, dtype=bool)
    own = np.where(edges, weights, 0.0)
    base = weights - own
    signs, magnitudes = [], []
    for _ in range(n_redraws):
        signs.append(_permuted(np.sign(own), edges, rng) * np.abs(own) + base)
        magnitudes.append(_permuted(np.abs(own), edges, rng) * np.sign(own) + base)
    sides = rng.choice([-1.0, 1.0], (n_redraws, n))
    turned = sides[:, :, None] * weights * sides[:, None, :]
    spread = [float(spectral.spectral_abscissa(np.stack(m)).var()) for m in (signs, magnitudes)]
    balanced = float(spectral.spectral_abscissa(turned).var())
    return {
        "polarity_share": _share(spread[0], spread[1]),
        "balanced_share": _share(balanced, spread[1]),
    }


def _change(values: np.ndarray) -> np.ndarray:
    return values[1:] - values[0]


def _permuted(values: np.ndarray, edges: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    permuted = np.zeros_like(values)
    permuted[edges] = rng.permutation(values[edges])
    return permuted


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest > 0 else float("nan")
