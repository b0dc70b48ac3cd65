from dataclasses import replace
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patchwork.analysis.biases import transitions
from patchwork.analysis.biases.transitions import Search
from scipy.stats import binom

SEARCH = Search(n_surrogates=99)
DETECTORS = ("pelt", "hinge")


def curve(seed=0, n=600, drops=(), noise=0.08, width=8):
    """A power law with a floor, times sigmoid drops, with log-normal noise."""
    rng = np.random.Generator(np.random.Philox(seed))
    step = np.arange(n)
    loss = 2 * (step + 20.0) ** -0.6 + 0.05
    for place, size in drops:
        loss = loss * np.exp(-size / (1 + np.exp(-(step - place) / width)))
    return step, loss * np.exp(noise * rng.standard_normal(n))


METRICS = ["loss", "absolute_error"]
ONE_DROP = {"pelt": [(480.0, 0.01), (550.0, 0.01)], "hinge": [(510.0, 0.01)]}


def counted(seed=0, **shape):
    """What is counted in a loss and an error that fall together, each with noise of its own."""
    step, loss = curve(seed=2 * seed, **shape)
    error = curve(seed=2 * seed + 1, **shape)[1]
    return transitions.of_run(log_of(step, loss=loss, error=error), METRICS, SEARCH)[1]


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
    found = transitions.detect(transitions.binned(step, loss, np.ones(len(step)), SEARCH), SEARCH)
    for name in DETECTORS:
        assert any(abs(s - place) < 45 for s, _ in found[name]), (name, found)


def test_two_planted_drops_are_counted_twice():
    step, loss = curve(drops=[(170, 1.2), (400, 1.2)], noise=0.05)
    other = curve(seed=1, drops=[(170, 1.0), (400, 1.0)], noise=0.05)[1]
    _, counts = transitions.of_run(
        log_of(step, loss=loss, error=other), ["loss", "absolute_error"], SEARCH
    )
    assert counts["n_transitions"].tolist() == [2]
    assert counts["first_step"][0] == pytest.approx(170, abs=45)


@pytest.mark.parametrize("width", [10, 20, 25, 30, 40, 50])
def test_a_single_drop_counts_once_however_gradual(width):
    for seed in range(3):
        counts = counted(seed, n=1000, drops=[(500, 1.5)], noise=0.05, width=width)
        assert counts["n_transitions"].tolist() == [1], seed


@pytest.mark.parametrize("width", [3, 10, 20])
def test_two_drops_far_apart_count_twice_however_gradual(width):
    for seed in range(3):
        drops = [(300, 1.2), (650, 1.2)]
        counts = counted(seed, n=1000, drops=drops, noise=0.05, width=width)
        assert counts["n_transitions"].tolist() == [2], seed


def test_smooth_curves_are_rarely_confirmed():
    n = 40
    hits = sum(counted(seed, n=400)["n_transitions"][0] > 0 for seed in range(n))
    assert hits <= binom.ppf(0.999, n, SEARCH.alpha)


def test_two_edges_of_one_drop_are_one_transition():
    assert transitions.confirmed([ONE_DROP, ONE_DROP], 100) == [495.0]


PLACES = st.lists(st.integers(0, 60).map(float), max_size=4, unique=True)


@given(st.lists(PLACES, min_size=3, max_size=3), st.integers(1, 20))
def test_detections_are_matched_one_to_one_in_whatever_order(lists, reach):
    def kept(some):
        pelt, hinge, other = ([(step, 0.01) for step in one] for one in some)
        return transitions.confirmed([{"pelt": pelt, "hinge": hinge}, {"pelt": other}], reach)

    found = kept(lists)
    assert found == sorted(found)
    assert len(found) <= min(len(one) for one in lists)
    for order in permutations(lists):
        assert kept([one[::-1] for one in order]) == found
    # No way to match them one to one, tried one by one, confirms more.
    assert len(found) == most(lists, reach)


def most(lists, reach):
    """Largest number of disjoint triples within reach, by trial of all."""
    first, *others = lists
    if not first:
        return 0
    best = most([first[1:], *others], reach)
    for a in others[0]:
        for b in others[1]:
            if max(first[0], a, b) - min(first[0], a, b) <= reach:
                left = [
                    first[1:],
                    [x for x in others[0] if x != a],
                    [x for x in others[1] if x != b],
                ]
                best = max(best, 1 + most(left, reach))
    return best


@pytest.mark.parametrize(("place", "seen"), [(0.05, 0), (0.15, 1), (0.85, 1), (0.97, 0)])
def test_the_searched_part_is_told(place, seen):
    counts = counted(n=1200, drops=[(1200 * place, 1.2)], noise=0.05, width=4).iloc[0]
    assert counts["n_transitions"] == seen
    assert counts["last_step"] == 1199
    assert (counts["searched_from"] <= 1200 * place <= counts["searched_to"]) == bool(seen)
    # Eight of 80 bins of 15 steps on either side of the first and last place.
    assert counts["searched_from"] == 8 * 15 + 7
    assert counts["searched_to"] == 1199 - counts["searched_from"]


def test_smooth_curves_keep_the_level_of_the_test():
    n = 80
    hits = dict.fromkeys(DETECTORS, 0)
    for seed in range(n):
        step, loss = curve(seed=seed, n=400)
        found = transitions.detect(
            transitions.binned(step, loss, np.ones(len(step)), SEARCH), SEARCH
        )
        for name, places in found.items():
            hits[name] += bool(places)
    for name, count in hits.items():
        # Surrogates of a fitted curve are a little quieter than the curve: twice the level.
        assert count <= binom.ppf(0.999, n, 2 * SEARCH.alpha), (name, count)


def test_a_drop_where_the_rate_jumps_is_no_transition():
    step, loss = curve(drops=[(300, 1.2)])
    rate = np.where(step < 298, 1e-3, 5e-4)
    found = transitions.detect(transitions.binned(step, loss, rate, SEARCH), SEARCH)
    for places in found.values():
        assert not any(abs(s - 300) < 12 for s, _ in places)


def test_warm_up_is_left_out():
    step, loss = curve()
    kept = transitions.binned(step, loss, np.ones(len(step)), replace(SEARCH, warmup_steps=100))
    assert kept.step.min() > 100


def test_a_cosine_schedule_is_no_jump():
    step, loss = curve()
    rate = 1e-3 * 0.5 * (1 + np.cos(np.pi * step / len(step)))
    assert not transitions.binned(step, loss, rate, SEARCH).masked.any()


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
    twin = transitions.smooth_twin(transitions.binned(step, loss, np.ones(len(step)), SEARCH), 0)
    assert len(twin.value) == transitions.N_BINS


DELAYED = pd.DataFrame(
    {
        "dataset": ["a", "b"] * 3,
        "backbone": "pretrained",
        "protocol": "described",
        "seed": [0, 0, 1, 1, 2, 2],
        "n_transitions": 1,
        "n_null": 0,
        "first_step": [100.0, 150.0, 110.0, 158.0, 90.0, 142.0],
        "searched_from": 60,
        "searched_to": 450,
        "last_step": 500,
    }
)


@pytest.mark.parametrize("longer", [1, 10, 1000])
def test_a_delay_is_the_difference_within_seeds_in_percent_of_the_training(longer):
    steps = ["first_step", "last_step"]
    found = transitions.delay(DELAYED.assign(**DELAYED[steps] * longer), "a", "b")
    assert found.estimate == pytest.approx(10)
    assert found.low < 10 < found.high


def test_no_delay_is_given_where_a_transition_is_missing():
    for counts, later in ((DELAYED.assign(first_step=np.nan), "b"), (DELAYED, "c")):
        assert np.isnan(transitions.delay(counts, "a", later).estimate)


def test_training_that_stops_early_moves_no_transition():
    stopped = DELAYED.assign(first_step=100.0)
    stopped.loc[stopped["dataset"] == "b", "last_step"] = 250
    found = transitions.delay(stopped, "a", "b")
    assert (found.estimate, found.low, found.high) == (0, 0, 0)


def test_findings_give_the_delay_and_the_searched_part_in_percent():
    table = transitions.findings(DELAYED, ["a", "b"], ("a", ["b"])).set_index("quantity")
    delays = table.loc[["transition_delay_b_percent"]]
    assert delays[["dataset", "estimate"]].to_numpy().tolist() == [["b", pytest.approx(10)]]
    for end, percent in (("from", 12), ("to", 90)):
        part = table.loc[f"transitions_searched_{end}_percent"]
        assert part["dataset"].tolist() == ["a", "b", "all"]
        assert part["estimate"].tolist() == pytest.approx([percent] * 3)


@pytest.mark.parametrize(("change", "words"), [(0.0, "above 0"), (np.nan, "above 0")])
def test_a_curve_that_has_no_logarithm_is_refused(change, words):
    step, loss = curve()
    loss[5] = change
    with pytest.raises(ValueError, match=words):
        transitions.binned(step, loss, np.ones(len(step)), SEARCH)


def test_a_curve_of_a_few_steps_is_refused():
    with pytest.raises(ValueError, match="20 steps"):
        transitions.binned(np.arange(20.0), np.ones(20), np.ones(20), SEARCH)


def test_the_shortest_curve_that_is_allowed_can_be_searched():
    step, loss = curve(n=SEARCH.steps_min)
    found = transitions.detect(transitions.binned(step, loss, np.ones(len(step)), SEARCH), SEARCH)
    assert set(found) == set(DETECTORS)
