"""How strong an event is: what was planted is read off again."""

import numpy as np
import pytest
from patchwork.recordings import measures, pictures
from patchwork.stimuli import spectrograms
from patchwork.stimuli.common import rng
from patchwork.stimuli.spectrograms import Chirp

CHIRPS = [
    Chirp(10, 8, 20, 45, "linear"),
    Chirp(30, 14, 60, 62, "linear"),
    Chirp(5, 3, 30, 12, "linear"),
]


def array_of(chirp: Chirp | None, snr_db: float, seed: int) -> np.ndarray:
    bits = rng.sixteen_bits(rng.stream(seed, 5, 1), spectrograms.N_WAVEFORM_BITS)
    return spectrograms.waveform(chirp, snr_db, 0.1, bits)


@pytest.mark.parametrize("chirp", CHIRPS, ids=str)
@pytest.mark.parametrize("snr_db", [0, 10, 20])
def test_strength_is_what_was_planted(chirp, snr_db):
    found = [
        measures.strength(
            array_of(chirp, snr_db, seed), chirp.start_s + 0.3, chirp.duration_s - 0.5,
            chirp.start_hz + 2, chirp.end_hz - 2,
        )
        for seed in range(6)
    ]  # fmt: skip
    power, snr = np.array(found).T
    # The noise has a power of one, and the chirp that of its ratio.
    assert 10 * np.log10(power.mean()) == pytest.approx(snr_db, abs=1.5)
    assert snr.mean() == pytest.approx(snr_db, abs=1.5)


def test_an_amplitude_in_microvolt_is_that_of_the_sine():
    rate = 256
    time_s = np.arange(-4 * rate, 64 * rate) / rate
    generator = np.random.Generator(np.random.Philox(0))
    inside = (time_s > 20) & (time_s < 30)
    samples = generator.standard_normal(len(time_s)) * 5e-6
    samples[inside] += 3e-5 * np.sin(2 * np.pi * (30 + (time_s[inside] - 20)) * time_s[inside])
    array = pictures.spectrogram(samples, rate, 4 * rate)
    # Phase f(t) t sweeps twice as fast as f: 10 to 30 Hz above 30 - 20.
    power, _ = measures.strength(array, 20, 10, 50, 70)
    assert np.sqrt(2 * power) * 1e6 == pytest.approx(30, rel=0.15)


def test_what_does_not_stand_out_has_no_strength():
    hollow = np.zeros((128, 128), np.float32)
    hollow[:, 40:60] = -20
    assert np.isnan(measures.strength(hollow, 20, 5, 30, 40)).all()
    assert np.isnan(measures.strength(hollow, 0, 60, 30, 40)).all()
