"""Scores of events: cases worked out by hand, and the package timescoring on the same events."""

import numpy as np
import pytest
from patchwork.recordings import scores
from patchwork.recordings.scores import STRICT, SZCORE

DAY = 86_400.0
TRUE = [(100.0, 110.0), (400.0, 412.0), (2000.0, 2700.0)]
FOUND = [(80.0, 85.0), (405.0, 407.0), (460.0, 462.0), (1000.0, 1010.0), (2100.0, 2101.0)]


def counts(one: scores.Scores) -> tuple[int, int, int]:
    return one.n_true, one.n_hit, one.n_false


def test_the_rules_of_seizure_detection():
    """700 s are three pieces; of the found ones 405 and 460 are joined, and 1000 is false."""
    found = scores.score_events(TRUE, FOUND, 3600.0, SZCORE)
    assert counts(found) == (5, 3, 1)
    assert found.sensitivity == 3 / 5
    assert found.precision == 3 / 4
    assert found.f1 == pytest.approx(2 / 3)
    assert found.false_per_day == 24


def test_the_strict_rules_ask_for_overlap():
    true = [(100.0, 110.0), (120.0, 130.0), (200.0, 210.0)]
    found = [(100.5, 107.5), (126.0, 130.0), (202.0, 230.0), (240.0, 241.0)]
    # 7 of 12 s; 4 of 12 s: no hit, and so false; 9 of 12 s; false.
    assert counts(scores.score_events(true, found, 600.0, STRICT)) == (3, 2, 2)
    # By the other rules 100 to 130 s, and everything that is found, are one.
    assert counts(scores.score_events(true, found, 600.0, SZCORE)) == (1, 1, 0)


def test_samples_are_seconds():
    found = scores.score_samples([(10.0, 20.0)], [(15.0, 30.0)], 100.0)
    assert counts(found) == (10, 5, 10)
    assert found.duration_s == 100


def test_nothing_found_and_nothing_there():
    for rules in (SZCORE, STRICT):
        none = scores.score_events([], [], DAY, rules)
        assert counts(none) == (0, 0, 0)
        assert np.isnan([none.sensitivity, none.precision, none.f1]).all()
        assert none.false_per_day == 0
        assert scores.score_events([], [(10.0, 12.0)], DAY, rules).false_per_day == 1
        assert scores.score_events([(10.0, 12.0)], [], DAY, rules).sensitivity == 0


def events(rng: np.random.Generator, n: int, duration_s: float) -> list[tuple[float, float]]:
    """Apart from each other, in order, to a tenth of a second."""
    ends = np.sort(rng.choice(np.arange(1, round(duration_s * 10)), 2 * n, replace=False)) / 10
    return [(float(a), float(b)) for a, b in ends.reshape(-1, 2)]


# What timescoring 0.0.7 counts for `events` of these seeds: true, hit and false, by its own rules,
# by `STRICT`, and by the second.
COUNTED = {
    0: ((0, 0, 11), (0, 0, 37), (0, 0, 1197)),
    1: ((19, 10, 5), (19, 6, 6), (5276, 1781, 1331)),
    3: ((20, 13, 8), (20, 6, 11), (5978, 2052, 1636)),
    4: ((36, 32, 13), (37, 20, 24), (8818, 4939, 4148)),
    6: ((5, 5, 1), (21, 13, 4), (647, 480, 506)),
    7: ((16, 16, 2), (21, 10, 27), (2533, 1188, 1586)),
}


@pytest.mark.parametrize("seed", COUNTED)
def test_counts_are_those_of_timescoring(seed):
    assert ours(seed) == COUNTED[seed]


def case(seed: int) -> tuple[list, list, float]:
    rng = np.random.Generator(np.random.Philox(seed))
    duration_s = float(rng.integers(600, 20_000))
    n_true, n_found = rng.integers(0, 40, 2)
    return events(rng, n_true, duration_s), events(rng, n_found, duration_s), duration_s


def ours(seed: int) -> tuple[tuple[int, int, int], ...]:
    true, found, duration_s = case(seed)
    return (
        counts(scores.score_events(true, found, duration_s, SZCORE)),
        counts(scores.score_events(true, found, duration_s, STRICT)),
        counts(scores.score_samples(true, found, duration_s)),
    )


def test_the_package_agrees_where_it_is_installed():
    scoring = pytest.importorskip("timescoring.scoring")
    for seed in range(200):
        assert ours(seed) == theirs(scoring, seed), seed


def theirs(scoring, seed: int) -> tuple[tuple[int, int, int], ...]:
    from timescoring.annotations import Annotation

    true, found, duration_s = case(seed)
    masks = [Annotation(spans, 10, round(duration_s * 10)) for spans in (true, found)]
    strict = scoring.EventScoring.Parameters(
        STRICT.before_s, STRICT.after_s, STRICT.overlap, STRICT.longest_s, STRICT.gap_s
    )
    results = (
        scoring.EventScoring(*masks), scoring.EventScoring(*masks, strict),
        scoring.SampleScoring(*masks, 1),
    )  # fmt: skip
    return tuple((int(one.refTrue), int(one.tp), int(one.fp)) for one in results)
