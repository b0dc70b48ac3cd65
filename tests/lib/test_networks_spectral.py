import numpy as np
import pytest
from patchwork.networks import cycles, data, spectral
from scipy.linalg import expm
from scipy.optimize import minimize


def _matrix(seed, n=6):
    return np.random.default_rng(seed).normal(size=(n, n))


def test_abscissas_of_a_normal_matrix_agree():
    symmetric = _matrix(0) + _matrix(0).T
    assert spectral.numerical_abscissa(symmetric) == pytest.approx(
        spectral.spectral_abscissa(symmetric)
    )
    assert spectral.numerical_abscissa(_matrix(1)) > spectral.spectral_abscissa(_matrix(1))


def test_numerical_abscissa_is_the_initial_growth_rate():
    matrix = _matrix(2)
    slope = (np.linalg.norm(expm(1e-6 * matrix), 2) - 1) / 1e-6
    assert spectral.numerical_abscissa(matrix) == pytest.approx(slope, rel=1e-4)


def test_kreiss_constant_is_one_for_normal_matrices():
    assert spectral.kreiss_lower_bound(np.diag([-1.0, -2, -3]), 0.05) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_kreiss_bound_is_near_the_supremum_and_below_the_largest_growth(seed):
    margin, matrix = 0.05, _matrix(seed)
    bound = spectral.kreiss_lower_bound(matrix, margin)
    scaled = matrix / np.linalg.norm(matrix, 2)
    scaled -= (spectral.spectral_abscissa(scaled) + margin) * np.eye(6)

    def negative(v):
        z = np.exp(v[0]) + 1j * v[1]
        return -z.real / np.linalg.svd(z * np.eye(6) - scaled, compute_uv=False)[-1]

    starts = [(np.log(margin * a), b) for a in (0.3, 3, 30) for b in (0, 0.2, 0.5, 1)]
    supremum = max(1.0, *(-minimize(negative, s, method="Nelder-Mead").fun for s in starts))
    assert bound <= supremum * (1 + 1e-6)
    assert bound >= supremum * 0.999
    growth = max(np.linalg.norm(expm(t * scaled), 2) for t in np.linspace(0, 60, 300))
    assert bound <= growth * 1.001


def test_kreiss_is_batched_and_scale_free():
    stack = np.stack([_matrix(0), _matrix(1)])
    both = spectral.kreiss_lower_bound(stack, 0.05)
    singly = [spectral.kreiss_lower_bound(m, 0.05) for m in stack]
    np.testing.assert_allclose(both, singly)
    np.testing.assert_allclose(both, spectral.kreiss_lower_bound(7 * stack, 0.05))


def test_pseudospectrum_is_zero_at_eigenvalues_and_distance_for_normal_matrices():
    matrix = np.diag([1.0, -2.0])
    real, imaginary = np.array([-2.0, 0.0, 1.0]), np.array([0.0, 3.0])
    distance = np.abs((real + 1j * imaginary[:, None])[..., None] - np.array([1.0, -2.0])).min(-1)
    np.testing.assert_allclose(
        spectral.pseudospectrum(matrix, real, imaginary), distance, atol=1e-12
    )


def test_gradient_is_the_finite_difference():
    weights, step = data.actuator().weights, 1e-6
    gradient = spectral.abscissa_gradient(weights)
    for i, j in [(0, 1), (3, 0), (6, 7), (2, 3), (1, 1)]:
        up, down = weights.copy(), weights.copy()
        up[i, j] += step
        down[i, j] -= step
        slope = (spectral.spectral_abscissa(up) - spectral.spectral_abscissa(down)) / (2 * step)
        assert gradient[i, j] == pytest.approx(slope, rel=1e-3, abs=1e-8)


def test_condition_numbers():
    table = spectral.eigenvalue_sensitivities(np.array([[-1.0, 100.0], [0, -2.0]]))
    np.testing.assert_allclose(table["condition"], np.sqrt(1 + 100**2))
    np.testing.assert_allclose(table["real"], [-1, -2])
    normal = spectral.eigenvalue_sensitivities(np.diag([1.0, 2.0]))
    np.testing.assert_allclose(normal["condition"], 1)


def test_opposing_laplacian_is_singular_exactly_for_balanced_graphs():
    for seed in range(30):
        settings = data.RandomNetworks(n_nodes=6, mean_degree=1.5)
        weights = data.random_network(settings, seed, 0).weights
        # antiparallel edges of unequal sign would cancel in the symmetrised graph
        weights = np.triu(weights, 1)
        laplacian = spectral.signed_laplacian(weights)
        lowest = np.linalg.eigvalsh(laplacian)[0]
        connected = np.linalg.eigvalsh(spectral.signed_laplacian(np.abs(weights)))[1] > 1e-9
        if connected:
            assert (lowest < 1e-9) == (cycles.frustration_index(weights) == 0)


def test_repelling_laplacian_rows_sum_to_zero():
    np.testing.assert_allclose(
        spectral.signed_laplacian(_matrix(5), "repelling").sum(1), 0, atol=1e-12
    )


def test_spectra_hold_all_three_matrices():
    table = spectral.spectra(data.actuator().weights)
    assert table.groupby("matrix").size().to_dict() == {"state": 8, "opposing": 8, "repelling": 8}
    trace = np.trace(data.actuator().weights)
    assert table.loc[table.matrix == "state", "real"].sum() == pytest.approx(trace)
