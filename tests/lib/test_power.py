"""Shares of planted effects that an analysis finds."""

import numpy as np
import pytest
from patchwork import statistics
from patchwork.statistics.power import share_found
from scipy import stats

N, SD = 16, 1.0


def planted(effect, n=N):
    return lambda rng: statistics.interval(effect + rng.normal(0, SD, n))


@pytest.mark.parametrize("effect", [0.0, 0.5, 1.0])
def test_the_share_is_the_power_of_the_t_test(effect):
    found = share_found(planted(effect), [0, None], seed=3, n_draws=400)
    # One-sided at 5 %: the mean lies further above 0 than half of the 90 % interval.
    power = stats.nct.sf(stats.t.ppf(0.95, N - 1), N - 1, effect / SD * np.sqrt(N))
    assert found.estimate == pytest.approx(power, abs=0.06)
    assert found.low <= found.low90 <= found.estimate <= found.high90 <= found.high
    assert (found.n, found.clusters) == (400, 0)
    assert found.row()["seeds"] == 0


def test_both_borders_count_and_an_unknown_interval_finds_nothing():
    assert share_found(planted(0.5), (-9, 9), seed=0, n_draws=20).estimate == 1
    assert share_found(planted(0.5), (0, 0.6), seed=0, n_draws=20).estimate == 0
    assert share_found(planted(9, n=1), (0, None), seed=0, n_draws=20).estimate == 0
    none = share_found(planted(9, n=1), (0, None), seed=0, n_draws=20)
    assert (none.low, none.high) == (0, pytest.approx(stats.beta.ppf(0.975, 1, 20)))


def test_each_draw_has_a_generator_of_its_own():
    def drawn(waste, n_draws):
        seen = []

        def draw(rng):
            seen.append(rng.normal())
            rng.normal(size=waste)
            return statistics.unknown(1, 1)

        share_found(draw, (0, 1), seed=5, n_draws=n_draws)
        return seen

    assert drawn(0, 5) == drawn(7, 8)[:5]
    assert len(set(drawn(0, 5))) == 5
    with pytest.raises(ValueError, match="n_draws is 0; allowed is 1 or more"):
        drawn(0, 0)
