import numpy as np
import pandas as pd
import pytest
from patchwork.analysis import transitions
from patchwork.analysis.transitions import Search
from patchwork.settings import STEPS_MIN
from scipy.stats import binom

SEARCH = Search(n_surrogates=99)


def curve(seed=0, n=600, drops=(), noise=0.08):
    """A power law with a floor, times sigmoid drops, with log-normal noise."""
    rng = np.random.Generator(np.random.Philox(seed))
    step = np.arange(n)
    loss = 2 * (step + 20.0) ** -0.6 + 0.05
    for place, size in drops:
        loss = loss * np.exp(-size / (1 + np.exp(-(step - place) / 8)))
    return step, loss * np.exp(noise * rng.standard_normal(n))


def log_of(step, *, loss, error=None, rate=None, target="angle"):
    return pd.DataFrame(
        {
            "step": step,
            "learning_rate": np.full(len(step), 1e-3) if rate is None else rate,
            "target": target,
            "loss": loss,
            "absolute_error": loss if error is None else error,
        }
    )


@pytest.mark.parametrize("place", [200, 350])
def test_a_planted_drop_is_found_by_both_detectors(place):
    step, loss = curve(drops=[(place, 1.2)])
    found = transitions.detect(transitions.binned(step, loss, np.ones(len(step))), SEARCH)
    for name in transitions.DETECTORS:
        assert any(abs(s - place) < 45 for s, _ in found[name]), (name, found)


def test_two_planted_drops_are_counted_twice():
    step, loss = curve(drops=[(170, 1.2), (400, 1.2)], noise=0.05)
    other = curve(seed=1, drops=[(170, 1.0), (400, 1.0)], noise=0.05)[1]
    _, counts = transitions.of_run(
        log_of(step, loss=loss, error=other), ["loss", "absolute_error"], SEARCH
    )
    assert counts["n_transitions"].tolist() == [2]
    assert counts["first_step"][0] == pytest.approx(170, abs=45)


def test_smooth_curves_keep_the_level_of_the_test():
    n = 80
    hits = dict.fromkeys(transitions.DETECTORS, 0)
    for seed in range(n):
        step, loss = curve(seed=seed, n=400)
        found = transitions.detect(transitions.binned(step, loss, np.ones(len(step))), SEARCH)
        for name, places in found.items():
            hits[name] += bool(places)
    for name, count in hits.items():
        # Surrogates of a fitted curve are a little quieter than the curve: twice the level.
        assert count <= binom.ppf(0.999, n, 2 * SEARCH.alpha), (name, count)


def test_a_drop_where_the_rate_jumps_is_no_transition():
    step, loss = curve(drops=[(300, 1.2)])
    rate = np.where(step < 298, 1e-3, 5e-4)
    found = transitions.detect(transitions.binned(step, loss, rate), SEARCH)
    for places in found.values():
        assert not any(abs(s - 300) < 12 for s, _ in places)


def test_warm_up_is_left_out():
    step, loss = curve()
    kept = transitions.binned(step, loss, np.ones(len(step)), warmup_steps=100)
    assert kept.step.min() > 100


def test_a_cosine_schedule_is_no_jump():
    step, loss = curve()
    rate = 1e-3 * 0.5 * (1 + np.cos(np.pi * step / len(step)))
    assert not transitions.binned(step, loss, rate).masked.any()


def test_what_one_metric_alone_shows_is_not_confirmed():
    step, loss = curve(drops=[(250, 1.2)])
    smooth = curve(seed=5)[1]
    _, counts = transitions.of_run(
        log_of(step, loss=loss, error=smooth), ["loss", "absolute_error"], SEARCH
    )
    assert counts["n_transitions"].tolist() == [0]
    assert np.isnan(counts["first_step"][0])


def test_a_smooth_twin_has_no_transition():
    step, loss = curve(drops=[(300, 1.2)], noise=0.03)
    twin = transitions.smooth_twin(transitions.binned(step, loss, np.ones(len(step))), 0)
    assert len(twin.value) == transitions.N_BINS


def test_a_delay_is_the_difference_within_seeds():
    counts = pd.DataFrame(
        {
            "dataset": ["a", "b"] * 3,
            "seed": [0, 0, 1, 1, 2, 2],
            "first_step": [100.0, 150.0, 110.0, 158.0, 90.0, 142.0],
        }
    )
    found = transitions.delay(counts, "a", "b")
    assert found.estimate == pytest.approx(50)
    assert found.low < 50 < found.high
    assert np.isnan(transitions.delay(counts.assign(first_step=np.nan), "a", "b").estimate)
    assert np.isnan(transitions.delay(counts, "a", "c").estimate)


@pytest.mark.parametrize(("change", "words"), [(0.0, "above 0"), (np.nan, "above 0")])
def test_a_curve_that_has_no_logarithm_is_refused(change, words):
    step, loss = curve()
    loss[5] = change
    with pytest.raises(ValueError, match=words):
        transitions.binned(step, loss, np.ones(len(step)))


def test_a_curve_of_a_few_steps_is_refused():
    with pytest.raises(ValueError, match="20 steps"):
        transitions.binned(np.arange(20.0), np.ones(20), np.ones(20))


def test_the_shortest_curve_that_is_allowed_can_be_searched():
    step, loss = curve(n=STEPS_MIN)
    found = transitions.detect(transitions.binned(step, loss, np.ones(len(step))), SEARCH)
    assert set(found) == set(transitions.DETECTORS)
