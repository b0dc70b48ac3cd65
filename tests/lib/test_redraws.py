"""Planted effects are found as often as their size and the spread of the data allow."""

import numpy as np
import pytest
from patchwork import statistics
from patchwork.statistics.power import Planted, planted_of, redrawn, share_found

K, M = 6, 80


def crossed(seed_sd: float, image_sd: float, own: float) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    seeds, images = (one.ravel() for one in np.indices((K, M)))
    values = (
        own + seed_sd * rng.standard_normal(K)[seeds] + image_sd * rng.standard_normal(M)[images]
    )
    return values + rng.standard_normal(K * M), seeds, images


@pytest.mark.parametrize("own", [0.0, 40.0])
def test_what_is_planted_does_not_depend_on_the_effect_of_the_data(own):
    values, seeds, images = crossed(0.5, 0.5, own)
    draw = redrawn(statistics.means(values), 2.0, seeds, images)
    drawn = [draw(rng) for rng in np.random.default_rng(1).spawn(200)]
    estimates = np.array([one.estimate for one in drawn])
    error = statistics.interval(values, seeds, units=images).error
    assert estimates.mean() == pytest.approx(2, abs=0.1)
    assert estimates.std() == pytest.approx(error, rel=0.35)
    covered = np.mean([one.low90 <= 2 <= one.high90 for one in drawn])
    assert covered > 0.8


def test_large_effects_are_found_and_small_ones_are_not():
    values, seeds, images = crossed(0.5, 0.5, 0.0)
    found = statistics.means(values)
    large = share_found(redrawn(found, 2.0, seeds, images), (0.5, None), 0)
    small = share_found(redrawn(found, 0.55, seeds, images), (0.5, None), 0)
    assert large.estimate > 0.9 > 0.3 > small.estimate


def test_seeds_alone_and_other_scales():
    z = np.random.default_rng(2).normal(0, 0.1, 12)
    draw = redrawn(statistics.means(z), np.arctanh(0.6), np.arange(12), function=np.tanh)
    drawn = [draw(rng) for rng in np.random.default_rng(1).spawn(100)]
    assert np.mean([one.estimate for one in drawn]) == pytest.approx(0.6, abs=0.03)
    assert all(-1 < one.low90 < one.estimate < one.high90 < 1 for one in drawn)


def test_plain_mappings_become_planted_effects():
    assert planted_of({"x": {"effect": 1, "claimed": [0, None]}}) == {"x": Planted(1, (0, None))}
