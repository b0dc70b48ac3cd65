import numpy as np
import pytest
from matplotlib import colormaps, colors
from patchwork.stimuli import spectrograms
from patchwork.stimuli.spectrograms import COLUMN_S, GRID, ROW_HZ, SWEEPS, Chirp
from scipy import ndimage, signal

TIMES = (np.arange(GRID) + 0.5) * COLUMN_S
ROWS = (np.arange(GRID) + 0.5) * ROW_HZ
DEGENERATE = [(0, 0), (0, 30), (30, 0), (30, 30), (100, 100), (100, 70), (0.2, 0.1)]


def _bits(n, seed=0):
    return np.random.default_rng(seed).integers(0, 2**16, n).astype(np.uint16)


def _chirp(start_hz=20.0, end_hz=45.0, sweep="linear", start_s=11.0, duration_s=9.0):
    return Chirp(start_s, duration_s, start_hz, end_hz, sweep)


@pytest.mark.parametrize(
    ("sweep", "method"),
    [("linear", "linear"), ("exponential", "logarithmic"), ("curved", "quadratic")],
)
@pytest.mark.parametrize(("start_hz", "end_hz"), [(20, 45), (60, 31), (5, 5)])
def test_sweeps_are_those_of_scipy(sweep, method, start_hz, end_hz):
    time_s = np.linspace(0, 9, 4001)
    ours = np.cos(2 * np.pi * _chirp(start_hz, end_hz, sweep).cycles(11 + time_s))
    theirs = signal.chirp(time_s, start_hz, 9, end_hz, method)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.parametrize(("start_hz", "end_hz"), [(20, 45), *DEGENERATE])
def test_cycles_are_the_integral_of_frequency(sweep, start_hz, end_hz):
    chirp, time_s = _chirp(start_hz, end_hz, sweep), np.linspace(11, 20, 40001)
    hz = chirp.frequency_hz(time_s)
    area = np.sum((hz[1:] + hz[:-1]) / 2) * (time_s[1] - time_s[0])
    assert chirp.cycles(np.array([11.0]))[0] == 0
    assert chirp.cycles(np.array([20.0]))[0] == pytest.approx(area, abs=1e-4)


@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.parametrize(("start_hz", "end_hz"), DEGENERATE)
def test_degenerate_sweeps_start_and_end_where_they_should(sweep, start_hz, end_hz):
    chirp = _chirp(start_hz, end_hz, sweep)
    floor = spectrograms.EXPONENTIAL_FLOOR_HZ if sweep == "exponential" else 0
    ends = chirp.frequency_hz(np.array([11.0, 20.0]))
    np.testing.assert_allclose(ends, np.maximum([start_hz, end_hz], floor), atol=1e-9)
    between = chirp.frequency_hz(np.linspace(11, 20, 101))
    assert (np.diff(between) * np.sign(end_hz - start_hz) >= 0).all()
    assert floor <= ROW_HZ / 2
    weights = spectrograms.ridge_weights(chirp)
    assert (weights.max(axis=0)[chirp.columns()] >= np.exp(-0.25) - 1e-6).all()
    assert np.isfinite(
        spectrograms.waveform(chirp, 0.0, 0.1, _bits(spectrograms.N_WAVEFORM_BITS))
    ).all()


@pytest.mark.parametrize("sweep", ["linear", "exponential"])
def test_a_ridge_is_what_the_text_says(sweep):
    chirp, sd, bits = _chirp(90, 99.9, sweep), 0.2, _bits(GRID * GRID)
    expected = np.zeros((GRID, GRID))
    for j, time in enumerate(TIMES):
        share = (time - 11) / 9
        if 0 <= share <= 1:
            hz = 90 + 9.9 * share if sweep == "linear" else 90 * (99.9 / 90) ** share
            place = hz * 128 / 100 - 0.5
            for k in sorted(range(GRID + 4), key=lambda k: abs(k - place))[:5]:
                if k < GRID:
                    expected[k, j] = np.exp(-((k - place) ** 2))
    np.testing.assert_allclose(spectrograms.ridge_weights(chirp), expected, atol=1e-5)
    plain = spectrograms.ridge(None, sd, bits)
    both = spectrograms.ridge(chirp, sd, bits)
    np.testing.assert_allclose(both - plain, ndimage.gaussian_filter(expected, 1), atol=1e-5)


def test_noise_of_a_ridge_has_its_level_before_smoothing():
    arrays = [spectrograms.ridge(None, 0.25, _bits(GRID * GRID, seed)) for seed in range(8)]
    kernel = ndimage.gaussian_filter(np.eye(1, 41, 20).ravel(), 1)
    assert np.std(arrays) == pytest.approx(0.25 * np.sum(kernel**2), rel=0.02)
    assert np.mean(arrays) == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.parametrize(("start_hz", "end_hz"), [(20, 45), (95, 70), *DEGENERATE])
def test_the_mask_of_a_ridge_is_where_it_is_drawn(sweep, start_hz, end_hz):
    chirp = _chirp(start_hz, end_hz, sweep)
    mask = spectrograms.ridge_mask(chirp, smeared=False)
    np.testing.assert_array_equal(mask, spectrograms.ridge_weights(chirp) > 0)
    smeared = spectrograms.ridge_mask(chirp, smeared=True)
    assert (smeared >= mask).all()
    assert not smeared[:, (TIMES < 11) | (TIMES > 20)].any()


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_strong_chirp_shows_where_its_mask_is(sweep):
    chirp = _chirp(80, 52, sweep, duration_s=4.0)
    array = spectrograms.waveform(chirp, 20.0, 0.3, _bits(spectrograms.N_WAVEFORM_BITS))
    peaks, columns = array.argmax(axis=0), chirp.columns()
    inner = columns[1:-1]
    hz = chirp.frequency_hz(TIMES[inner])
    assert np.abs(ROWS[peaks[inner]] - hz).max() < 2 * ROW_HZ
    mask = spectrograms.ridge_mask(chirp, smeared=True)
    assert array[mask].mean() > array[~mask].mean() + 20


def test_power_over_time_is_what_shorttimefft_gives():
    bits, chirp = _bits(spectrograms.N_WAVEFORM_BITS), _chirp(sweep="curved")
    samples = spectrograms.recording(chirp, -3.0, 0.2, bits)
    rate = 128 * 141 / 60
    judge = signal.ShortTimeFFT(
        signal.get_window("hann", 301),
        141,
        rate,
        mfft=770,
        fft_mode="onesided2X",
        scale_to="psd",
    )
    middle = 192 + 70
    density = judge.spectrogram(samples, p0=0, p1=GRID, k_offset=middle)[1:256:2]
    array = spectrograms.waveform(chirp, -3.0, 0.2, bits)
    np.testing.assert_allclose(array, 10 * np.log10(density), atol=1e-4)
    np.testing.assert_allclose(judge.f[1:256:2], ROWS, atol=0.01)
    np.testing.assert_allclose((np.arange(GRID) * 141 + 70.5) / rate, TIMES, atol=1e-9)


def test_noise_falls_as_one_over_frequency_and_has_unit_power():
    rate = spectrograms.SAMPLE_RATE_HZ
    records = np.stack(
        [
            spectrograms.recording(None, 0, 0, _bits(spectrograms.N_WAVEFORM_BITS, seed))
            for seed in range(20)
        ]
    )
    hz, density = signal.welch(records, rate, nperseg=4096, detrend=False)
    density = density.mean(axis=0)
    used = (hz > 1) & (hz < 140)
    slope = np.polyfit(np.log(hz[used]), np.log(density[used]), 1)[0]
    assert slope == pytest.approx(-1, abs=0.03)
    filtered = np.fft.rfft(records)
    filtered[:, np.fft.rfftfreq(records.shape[1], 1 / rate) > 100] = 0
    power = np.mean(np.fft.irfft(filtered, records.shape[1]) ** 2)
    assert power == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("snr_db", [-20.0, 6.0])
def test_a_chirp_has_its_power(snr_db):
    bits, chirp = _bits(spectrograms.N_WAVEFORM_BITS), _chirp()
    difference = spectrograms.recording(chirp, snr_db, 0.4, bits) - spectrograms.recording(
        None, snr_db, 0.4, bits
    )
    time_s = (np.arange(len(difference)) - 192 + 0.5) / spectrograms.SAMPLE_RATE_HZ
    inside = (time_s >= 11) & (time_s <= 20)
    assert np.abs(difference[~inside]).max() == 0
    assert 10 * np.log10(np.mean(difference[inside] ** 2)) == pytest.approx(snr_db, abs=0.05)


def test_a_waveform_repeats_scipys_chirp():
    bits, chirp = _bits(spectrograms.N_WAVEFORM_BITS), _chirp()
    both = [spectrograms.recording(given, 0.0, 0.25, bits) for given in (chirp, None)]
    time_s = (np.arange(len(bits)) - 192 + 0.5) / spectrograms.SAMPLE_RATE_HZ
    inside = (time_s >= 11) & (time_s <= 20)
    judge = np.sqrt(2) * signal.chirp(time_s[inside] - 11, 20, 9, 45, phi=90)
    np.testing.assert_allclose((both[0] - both[1])[inside], judge, atol=1e-8)


def test_colours_are_matplotlibs():
    array = spectrograms.ridge(_chirp(), 0.2, _bits(GRID * GRID))
    expected = colormaps["viridis"](colors.Normalize()(array), bytes=True)[..., :3]
    found = spectrograms.colour_table()[spectrograms.colour_indices(array)]
    np.testing.assert_array_equal(found, expected)
    assert (spectrograms.colour_indices(np.full((3, 3), 2, np.float32)) == 0).all()
