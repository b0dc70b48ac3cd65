"""A small part of the coverage study (`make coverage-study`): not too narrow, not too wide."""

import coverage_study as study
import numpy as np
import pandas as pd
import pytest
from coverage_study import NEW, NORMAL, Setting

TRIALS = 500


def rows_of(found):
    table = pd.DataFrame(found)
    assert study.outside(table).empty, study.outside(table).to_string()
    return table[(table["method"] == NEW) & (table["level"] == 0.95)]


@pytest.mark.parametrize("k", study.SEEDS)
@pytest.mark.parametrize(
    "sds", [(0, 1, 0.3), (0.05, 1, 0.3), (0.05, 0.3, 0.3), (0.3, 0, 1), (1, 0.3, 0), (0, 0, 1)]
)
def test_means_are_covered(k, sds):
    rows_of(study.means_of(Setting(NORMAL, k, 200, *sds), TRIALS))


@pytest.mark.parametrize(("k", "widest"), [(3, 1.15), (5, 1.06), (10, 1.04)])
def test_images_that_dominate_cost_no_width_for_few_seeds(k, widest):
    table = rows_of(study.means_of(Setting(NORMAL, k, 200, 0, 1, 0.3), TRIALS))
    assert table["width"].item() < widest


@pytest.mark.parametrize("k", [3, 10])
@pytest.mark.parametrize("chance", [0.5, 0.1, 0.02])
def test_shares_are_covered(k, chance):
    rows_of(study.shares_of(Setting("share", k, 200, 0.3, 1), chance, TRIALS))


@pytest.mark.parametrize("k", [3, 10])
def test_correlations_are_covered(k):
    rows_of(study.correlations_of(Setting("correlation", k, 200, 0.05, 0.3, 1), TRIALS))


@pytest.mark.parametrize("name", study.DESIGNS)
def test_other_designs_are_covered(name):
    rows_of(study.design_of(name, 3, TRIALS))


@pytest.mark.parametrize("k", [3, 10])
def test_differences_of_groups_and_ratios_are_covered(k):
    rows_of([*study.groups_of(k, TRIALS), *study.ratios_of(k, TRIALS // 2)])


def test_the_study_finds_what_is_too_narrow_and_what_is_too_wide():
    """t over seeds misses the images; the enlarged bootstrap is as wide as seeds could ask."""
    found = pd.DataFrame(
        study.means_of(Setting(NORMAL, 3, 200, 0, 1, 0.3), 4 * TRIALS, rivals=True)
    )
    for name in ("t over seeds", "pigeonhole bootstrap x k / (k - 1), t of seeds - 1"):
        assert len(study.outside(found[found["method"] == name].assign(method=NEW))) == 2


def test_two_t_variables_keep_small_levels_where_one_t_does_not():
    alarms = study.false_alarms(seeds=(3,), levels=(1e-3,)).set_index("test")["greatest"]
    assert alarms[NEW] < 1.01
    assert alarms["Satterthwaite"] > 10


def test_settings_have_draws_of_their_own():
    one, other = (Setting(NORMAL, 3, 5, *sds) for sds in ((0, 1, 1), (0, 1, 0.3)))
    labels = one.labels()
    assert not np.allclose(one.values(*labels, 3), other.values(*labels, 3))
    assert np.array_equal(one.values(*labels, 3), one.values(*labels, 3))
