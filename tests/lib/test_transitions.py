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

SEARCH = Search(n_surrogates=99, n_planted=1)
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


def test_a_smooth_twin_has_the_drops_that_are_planted():
    step, loss = curve(drops=[(300, 1.2)], noise=0.03)
    found = transitions.binned(step, loss, np.ones(len(step)), SEARCH)
    rng = np.random.default_rng(0)
    places = transitions.planted_drops(len(found.value), rng)
    low, high = transitions.searched(found)
    assert low <= found.step[int(places[0])] < found.step[int(places[1])] <= high
    twins = [transitions.smooth_twin(found, np.random.default_rng(0), d) for d in ((), places)]
    fall = twins[0].value - twins[1].value
    assert fall[0] == pytest.approx(0, abs=1e-6)
    assert fall[-1] == pytest.approx(2 * 0.4, abs=1e-6)


@pytest.mark.parametrize(("noise", "least", "most"), [(0.02, 0.7, 1), (0.6, 0, 0.3)])
def test_planted_transitions_are_found_where_noise_allows(noise, least, most):
    step, loss = curve(n=1600, noise=noise)
    log = log_of(step, loss=loss, target=transitions.TOTAL)
    search = replace(SEARCH, n_planted=10)
    counts = transitions.of_run(log, ["loss", "absolute_error"], search)[1]
    assert least <= counts["planted_found"][0] <= most


@pytest.mark.parametrize("place", [150, 300, 450])
def test_half_of_the_drop_lies_behind_a_planted_drop(place):
    step = np.arange(600)
    loss = np.exp(-3 / (1 + np.exp(-(step - place) / 8)) + 0.1 * curve()[1])
    found = transitions.half_drop(transitions.binned(step, loss, np.ones(600), SEARCH))
    assert found == pytest.approx(place, abs=15)


def test_half_of_an_exponential_decay_is_halfway_and_noise_moves_it_little():
    rng = np.random.default_rng(0)
    step = np.arange(600)
    loss = np.exp(-step / 200 + 0.05 * rng.standard_normal(600))
    found = transitions.half_drop(transitions.binned(step, loss, np.ones(600), SEARCH))
    assert found == pytest.approx(300, abs=25)


def counts_of(steps: dict, found=2, null=0, planted=1.0) -> pd.DataFrame:
    """Trainings of 500 steps whose loss of two targets drops at given steps, seed by seed."""
    return pd.DataFrame(
        [
            {
                "dataset": dataset, "backbone": "b", "protocol": "p", "seed": seed,
                "target": target, "n_transitions": found, "half_drop_step": place,
                "n_null": null if target == transitions.TOTAL else np.nan,
                "planted_found": planted if target == transitions.TOTAL else np.nan,
                "searched_from": 60, "searched_to": 450, "last_step": 500,
            }
            for dataset, places in steps.items()
            for seed, place in enumerate(places)
            for target in ("angle", transitions.TOTAL)
        ]
    )  # fmt: skip


STEPS = {"a": [100.0, 110.0, 90.0], "b": [150.0, 158.0, 142.0]}


def found_in(counts, order=None, percent=10):
    table = transitions.findings(
        counts, ["a", "b"], order or {"b": "a"}, targets=["angle"], planted_percent=percent
    )
    return table.set_index(["dataset", "quantity"])


def test_a_delay_is_the_difference_within_seeds_in_percent_of_the_training():
    table = found_in(counts_of(STEPS))
    row = table.loc[("b", "half_drop_delay_b_percent")]
    assert row["estimate"] == pytest.approx(10)
    assert row["ci_low"] < 10 < row["ci_high"]
    assert row["seeds"] == 3
    assert table.loc[("b", "half_drop_delay_b_percent_power"), "estimate"] > 0.9
    longer = counts_of(STEPS).assign(last_step=5000)
    longer["half_drop_step"] *= 10
    assert found_in(longer).loc[("b", "half_drop_delay_b_percent"), "estimate"] == pytest.approx(10)


def test_a_delay_that_seeds_scatter_over_would_not_be_found():
    steps = {"a": [100.0, 300.0, 50.0], "b": [300.0, 100.0, 250.0]}
    power = found_in(counts_of(steps)).loc[("b", "half_drop_delay_b_percent_power")]
    assert power["estimate"] < 0.3


def test_no_delay_is_given_where_a_dataset_is_missing():
    assert "half_drop_delay_c_percent" not in found_in(counts_of(STEPS), {"c": "a"}).index


@pytest.mark.parametrize(("found", "share"), [(2, 1), (1, 0), (3, 0)])
def test_counts_that_are_all_the_same_have_an_interval(found, share):
    table = found_in(counts_of(STEPS, found))
    row = table.loc[("all", "share_with_two_transitions")]
    assert row["estimate"] == share
    # Clopper and Pearson of 6 trainings.
    assert abs(row["ci_high"] - row["ci_low"]) == pytest.approx(0.4593, abs=1e-3)
    assert table.loc[("all", "share_with_two_transitions_null"), "estimate"] == 0
    assert table.loc[("a", "share_with_two_transitions_angle"), "estimate"] == share


def test_transitions_that_cannot_be_found_have_no_power():
    power = {x: found_in(counts_of(STEPS, planted=x)).loc[("all", "two_transitions_power")]
             for x in (0.2, 1.0)}  # fmt: skip
    assert power[0.2]["estimate"] < 0.1
    assert power[1.0]["estimate"] == 1


def test_findings_give_the_searched_part_in_percent():
    table = found_in(counts_of(STEPS))
    for end, percent in (("from", 12), ("to", 90)):
        part = table.xs(f"transitions_searched_{end}_percent", level="quantity")
        assert set(part.index) == {"a", "b", "all"}
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
