"""The baselines find planted chirps, and little where there are none."""

import itertools

import numpy as np
import pytest
from patchwork.analysis.chirps import baselines
from scipy import ndimage

FIND = {
    "ridge_tracker": baselines.ridge_tracker,
    "matched_filter": baselines.matched_filter,
}
COLUMN_S, ROW_HZ = 60 / 128, 100 / 128
ENDS = ("start_s", "duration_s", "start_hz", "end_hz")
BINS = np.array([COLUMN_S, COLUMN_S, ROW_HZ, ROW_HZ])


def planted(chirps, noise_sd=0.0, height=1.0, seed=0, background=None):
    """Smoothed spectrograms (n, 128, 128) with a straight ridge each; None: noise alone."""
    rng = np.random.Generator(np.random.Philox(seed))
    times, rows = (np.arange(128) + 0.5) * COLUMN_S, np.arange(128)[:, None]
    arrays = noise_sd * rng.standard_normal((len(chirps), 128, 128))
    for array, chirp in zip(arrays, chirps, strict=True):
        if chirp is not None:
            start, duration, low, high = chirp
            share = (times - start) / duration
            place = (low + (high - low) * share) / ROW_HZ - 0.5
            array += height * np.exp(-((rows - place) ** 2)) * ((share >= 0) & (share <= 1))
    arrays = ndimage.gaussian_filter(arrays, (0, 1, 1))
    return (arrays if background is None else background * arrays).astype(np.float32)


def drawn(n, seed=1):
    rng = np.random.Generator(np.random.Philox(seed))
    low = rng.uniform(0, 100, n)
    high = np.clip(low + rng.uniform(-30, 30, n), 0, 100)
    return np.stack([rng.uniform(0, 45, n), rng.uniform(3, 15, n), low, high], axis=1)


def errors(found, chirps):
    """In bins, one row per chirp."""
    return np.abs(found[list(ENDS)].to_numpy() - np.asarray(chirps)) / BINS


@pytest.fixture(scope="module")
def half_empty():
    """120 chirps that one can see with some care, and as many images of noise."""
    chirps = drawn(120)
    arrays = planted([*chirps, *[None] * 120], noise_sd=0.25, seed=2)
    return chirps, {name: find(arrays) for name, find in FIND.items()}


@pytest.mark.parametrize("name", FIND)
def test_an_almost_clean_ridge_is_found_within_two_bins(name):
    chirps = drawn(60, seed=3)
    apart = errors(FIND[name](planted(chirps, noise_sd=0.02, seed=3)), chirps)
    assert np.quantile(apart, 0.95, axis=0).max() < 2
    assert np.median(apart, axis=0).max() < 0.7


@pytest.mark.parametrize("name", FIND)
def test_a_chirp_in_noise_is_found_within_two_bins_mostly(name, half_empty):
    chirps, found = half_empty
    apart = errors(found[name][:120], chirps)
    assert (apart < 2).mean(axis=0).min() > 0.85


@pytest.mark.parametrize("name", FIND)
def test_noise_alone_scores_low(name, half_empty):
    _, found = half_empty
    scores = found[name]["score"].to_numpy()
    wins = [a > b for a, b in itertools.product(scores[:120], scores[120:])]
    assert np.mean(wins) > 0.97


@pytest.mark.parametrize("name", FIND)
def test_scores_without_signal_are_chance(name):
    scores = FIND[name](planted([None] * 160, noise_sd=0.3, seed=4))["score"].to_numpy()
    wins = [a > b for a, b in itertools.product(scores[:80], scores[80:])]
    assert abs(np.mean(wins) - 0.5) < 0.15


def test_a_shorter_template_loses_to_that_of_the_planted_length():
    # What a filter is matched for: the longer the chirp, the larger the response, as its root.
    chirps = [(10.0, duration, 40.0, 50.0) for duration in (3.75, 15.0)]
    pairs = planted(chirps * 20, noise_sd=0.2, height=0.7, seed=5)
    scores = FIND["matched_filter"](pairs)["score"].to_numpy().reshape(20, 2).mean(0)
    assert scores[1] / scores[0] == pytest.approx(2, rel=0.15)


def test_the_response_of_the_truth_is_reached():
    chirps = drawn(30, seed=6)
    arrays = planted(chirps, noise_sd=0.25, seed=6)
    z = baselines.whitened(arrays)
    found = FIND["matched_filter"](arrays)
    for i, chirp in enumerate(chirps):
        ends = [found.loc[i, key] for key in ENDS]
        assert mean_along(z[i], ends) > 0.9 * mean_along(z[i], chirp)


def mean_along(z, chirp):
    """Naive mean of the whitened array along a straight chirp."""
    start, duration, low, high = chirp
    values = []
    for column in range(128):
        share = ((column + 0.5) * COLUMN_S - start) / duration
        if 0 <= share <= 1:
            row = round((low + (high - low) * share) / ROW_HZ - 0.5)
            values.append(z[min(max(row, 0), 127), column])
    return np.mean(values)


@pytest.mark.parametrize("name", FIND)
def test_unit_offset_and_uneven_noise_change_little(name):
    chirps = drawn(40, seed=7)
    uneven = (10 / (np.arange(128) + 5.0))[:, None]
    arrays = planted(chirps, noise_sd=0.15, seed=7)
    plain = FIND[name](arrays)
    scaled = FIND[name](3 * arrays - 50)
    assert np.abs(scaled[list(ENDS)] - plain[list(ENDS)]).median().max() < 0.05
    steep = FIND[name](planted(chirps, noise_sd=0.15, seed=7, background=uneven))
    hits, plain_hits = ((errors(one, chirps) < 2).mean() for one in (steep, plain))
    assert hits > max(plain_hits, 0.9) - 0.1


@pytest.mark.parametrize("name", FIND)
def test_time_reversal_swaps_the_ends(name):
    chirps = drawn(30, seed=8)
    arrays = planted(chirps, noise_sd=0.1, seed=8)
    forth, back = FIND[name](arrays), FIND[name](arrays[:, :, ::-1].copy())
    assert np.median(np.abs(forth["start_hz"] - back["end_hz"])) < ROW_HZ / 2
    end = 60 - back["start_s"] - back["duration_s"]
    assert np.median(np.abs(forth["start_s"] - end)) < COLUMN_S / 2


def test_the_best_path_is_that_of_a_naive_search():
    rng = np.random.Generator(np.random.Philox(9))
    z = rng.standard_normal((3, 9, 8)).astype(np.float32) + 1.5
    path, inside, score = baselines._best_path(z)
    for i in range(3):
        gains = naive_gains(z[i])
        assert score[i] == pytest.approx(gains.max(), rel=1e-5)
        columns = np.flatnonzero(inside[i])
        assert (np.diff(columns) == 1).all()
        rows = path[i, columns].astype(int)
        walked = (z[i][rows, columns] - 2).sum() - 0.2 * np.abs(np.diff(rows)).sum()
        assert walked == pytest.approx(score[i], rel=1e-5)


def naive_gains(z):
    gains = np.zeros(z.shape)
    for column, row in itertools.product(range(z.shape[1]), range(z.shape[0])):
        before = [gains[other, column - 1] - 0.2 * abs(row - other) for other in range(len(z))]
        gains[row, column] = z[row, column] - 2 + max([0, *(before if column else [])])
    return gains


@pytest.mark.parametrize("name", FIND)
def test_images_do_not_depend_on_their_neighbours(name):
    arrays = planted(drawn(70, seed=10), noise_sd=0.2, seed=10)
    together, alone = FIND[name](arrays), FIND[name](arrays[66:67])
    assert alone.iloc[0].to_numpy() == pytest.approx(together.iloc[66].to_numpy(), abs=1e-4)


@pytest.mark.parametrize("name", FIND)
def test_blank_images_and_none_at_all_are_no_accident(name):
    blank = FIND[name](np.full((2, 128, 128), 7.0, np.float32))
    assert np.isfinite(blank.to_numpy()).all()
    assert (blank["score"].abs() < 1e-3).all()
    empty = FIND[name](np.empty((0, 128, 128), np.float32))
    assert list(empty.columns) == list(baselines.COLUMNS)
    assert len(empty) == 0


@pytest.mark.parametrize("name", FIND)
def test_other_grids_and_ranges_are_scaled(name):
    chirps = drawn(20, seed=11)
    arrays = planted(chirps, noise_sd=0.1, seed=11)
    wide = baselines.Plane(duration_s=120.0, frequency_max_hz=50.0)
    plain, scaled = FIND[name](arrays), FIND[name](arrays, wide)
    assert scaled["start_s"].to_numpy() == pytest.approx(2 * plain["start_s"].to_numpy())
    assert scaled["end_hz"].to_numpy() == pytest.approx(plain["end_hz"].to_numpy() / 2)


@pytest.mark.parametrize("name", FIND)
@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (np.zeros((128, 128)), "shape"),
        (np.zeros((1, 4, 128)), "shape"),
        (np.full((1, 16, 16), np.nan), "nan"),
    ],
)
def test_what_is_no_spectrogram_is_refused_in_one_line(name, arrays, words):
    with pytest.raises(ValueError, match=words) as error:
        FIND[name](arrays)
    assert "\n" not in str(error.value)
