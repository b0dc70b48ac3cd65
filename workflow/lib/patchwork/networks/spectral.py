"""Spectral stability: where eigenvalues lie, how they move, how far states grow at first."""

import numpy as np
import pandas as pd
from scipy.linalg import eig


def spectral_abscissa(weights: np.ndarray) -> np.ndarray:
    """Largest real part of the eigenvalues: the growth rate as time goes to infinity.

    Args:
        weights: shape (..., n, n), 1 / time unit.

    Returns:
        shape (...), 1 / time unit.
    """
    return np.linalg.eigvals(weights).real.max(axis=-1)


def numerical_abscissa(weights: np.ndarray) -> np.ndarray:
    """Largest eigenvalue of the symmetric part: the fastest growth rate at time zero.

    Args:
        weights: shape (..., n, n), 1 / time unit.

    Returns:
        shape (...), 1 / time unit; never below the spectral abscissa.

    Source: Trefethen & Embree 2005, Spectra and Pseudospectra, section 17.
    """
    symmetric = (weights + np.swapaxes(weights, -1, -2)) / 2
    return np.linalg.eigvalsh(symmetric)[..., -1]


def kreiss_lower_bound(weights: np.ndarray, margin: float, n_zooms: int = 4) -> np.ndarray:
    """Lower bound on the Kreiss constant sup over Re z > 0 of Re z * |(z - A)^-1|, after a shift.

    Each matrix is first shifted along the real axis to the spectral abscissa -margin * |A|, so the
    number measures transient growth alone and is finite for unstable matrices too. The ratio
    Re z / s_min(z - A) is evaluated on a grid (Re z logarithmic; Im z at the eigenvalues, at zero
    and uniform up to |A|), then on grids zoomed at the best point; every evaluated point is a lower
    bound, so the maximum is one.

    Args:
        weights: shape (..., n, n).
        margin: distance of the shifted abscissa from zero, in units of the 2-norm, > 0.
        n_zooms: refinements after the first grid.

    Returns:
        shape (...), unitless, >= 1 (the limit of large z).

    Source: Trefethen & Embree 2005, Spectra and Pseudospectra, theorem 18.5.
    """
    n = weights.shape[-1]
    flat = weights.reshape(-1, n, n)
    norms = np.linalg.norm(flat, 2, axis=(-2, -1))
    scaled = flat / np.where(norms > 0, norms, 1.0)[:, None, None]
    # ASSUME: the shift (margin) is ours; the constant is infinite for an unshifted unstable matrix
    scaled = scaled - (spectral_abscissa(scaled) + margin)[:, None, None] * np.eye(n)
    best = np.array([_resolvent_ratio(matrix, margin, n_zooms) for matrix in scaled])
    return best.reshape(weights.shape[:-2])


def pseudospectrum(weights: np.ndarray, real: np.ndarray, imaginary: np.ndarray) -> np.ndarray:
    """Smallest singular value of z - A: below epsilon, z is in the epsilon-pseudospectrum.

    Args:
        weights: shape (n, n).
        real: shape (a,), real parts of z.
        imaginary: shape (b,), imaginary parts of z.

    Returns:
        shape (b, a), the unit of the weights.

    Source: Trefethen & Embree 2005, Spectra and Pseudospectra, section 2.
    """
    z = real[None, :] + 1j * imaginary[:, None]
    return _smallest_singular(weights, z)


def eigenvalue_sensitivities(weights: np.ndarray) -> pd.DataFrame:
    """Eigenvalues with their condition numbers.

    Args:
        weights: shape (n, n), with distinct eigenvalues for finite condition numbers.

    Returns:
        One row per eigenvalue, by falling real part: real, imaginary, condition (|x| |y| / |y^H x|,
        unitless, >= 1, inf for a defective eigenvalue).

    Source: Wilkinson 1965; Trefethen & Embree 2005, section 52.
    """
    values, right, left, overlap = _eigensystem(weights)
    norms = np.linalg.norm(left, axis=0) * np.linalg.norm(right, axis=0)
    with np.errstate(divide="ignore"):
        condition = norms / np.abs(overlap)
    order = np.argsort(-values.real, kind="stable")
    table = {"real": values.real, "imaginary": values.imag, "condition": condition}
    return pd.DataFrame(table).iloc[order].reset_index(drop=True)


def abscissa_gradient(weights: np.ndarray) -> np.ndarray:
    """Derivative of the spectral abscissa by every entry, from left and right eigenvectors.

    Args:
        weights: shape (n, n); the rightmost eigenvalue must be simple.

    Returns:
        shape (n, n), unitless: d abscissa / d A[i, j] = Re(conj(y_i) x_j / y^H x).

    Source: Magnus 1985, Econometric Theory 1, 179-191.
    """
    values, right, left, overlap = _eigensystem(weights)
    k = int(np.argmax(values.real))
    return (np.outer(left[:, k].conj(), right[:, k]) / overlap[k]).real


def signed_laplacian(weights: np.ndarray, kind: str = "opposing") -> np.ndarray:
    """Laplacian of the signed graph, of the symmetrised weights without self-loops.

    Args:
        weights: shape (n, n).
        kind: "opposing" puts sums of |weight| on the diagonal (positive semidefinite; its smallest
            eigenvalue is zero if and only if a connected graph is balanced); "repelling" puts sums
            of weights there (rows sum to zero).

    Returns:
        shape (n, n), symmetric, the unit of the weights.

    Source: Kunegis et al. 2010, SIAM SDM, section 3; Shi, Altafini & Baras 2019, SIAM Review 61.
    """
    links = (weights + weights.T) / 2
    links = links - np.diag(np.diag(links))
    strength = np.abs(links) if kind == "opposing" else links
    return np.diag(strength.sum(axis=1)) - links


def spectra(weights: np.ndarray) -> pd.DataFrame:
    """Eigenvalues of the matrix and of both signed Laplacians in one long table.

    Args:
        weights: shape (n, n).

    Returns:
        The table ``spectra.csv`` without network.
    """
    tables = [eigenvalue_sensitivities(weights).assign(matrix="state")]
    for kind in ("opposing", "repelling"):
        values = np.linalg.eigvalsh(signed_laplacian(weights, kind))
        # a symmetric matrix has perfectly conditioned eigenvalues
        table = pd.DataFrame({"real": values, "imaginary": 0.0, "condition": 1.0})
        tables.append(table.assign(matrix=kind))
    merged = pd.concat([t.rename_axis("index").reset_index() for t in tables], ignore_index=True)
    return merged[["matrix", "index", "real", "imaginary", "condition"]]


def _eigensystem(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    values, left, right = eig(weights, left=True, right=True)
    return values, right, left, np.einsum("ik,ik->k", left.conj(), right)


def _smallest_singular(weights: np.ndarray, z: np.ndarray) -> np.ndarray:
    shifted = z[..., None, None] * np.eye(weights.shape[-1]) - weights
    return np.linalg.svd(shifted, compute_uv=False)[..., -1]


def _resolvent_ratio(matrix: np.ndarray, margin: float, n_zooms: int) -> float:
    """Largest Re z / s_min(z - A) found; 1, its limit for large z, where nothing exceeds it."""
    own = np.abs(np.linalg.eigvals(matrix).imag)
    heights = np.unique(np.concatenate([np.linspace(0, 1, 9), own]))
    # conjugate symmetry: the upper half plane is enough
    z = np.geomspace(0.03 * margin, 30.0, 16)[:, None] + 1j * heights[None]
    step, best = np.log(1000 / margin) / 15, 1.0
    steps = np.linspace(-1, 1, 5)
    for _ in range(n_zooms + 1):
        ratio = z.real / _smallest_singular(matrix, z)
        top = z.flat[ratio.argmax()]
        best = max(best, float(ratio.max()))
        # the resolvent varies over a distance of Re z, so both directions are zoomed in that unit
        z = top.real * np.exp(step * steps)[:, None] + 1j * (top.imag + top.real * step * steps)
        step /= 2
    return best
