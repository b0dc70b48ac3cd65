"""Predictions of made-up networks and baselines with planted errors."""

import numpy as np
import pandas as pd
from patchwork.stimuli import LabelAttributes

LABELS = ("start_s", "duration_s", "start_hz", "end_hz")
ATTRIBUTES = {
    "start_s": LabelAttributes("s", 0, 45),
    "duration_s": LabelAttributes("s", 1, 15),
    "start_hz": LabelAttributes("Hz", 0, 100),
    "end_hz": LabelAttributes("Hz", 0, 100),
    "noise_sd": LabelAttributes("fraction", 0.09, 0.3),
    "snr_db": LabelAttributes("dB", -5, 15),
    "sweep": LabelAttributes("index", 0, 2, ("linear", "exponential", "curved")),
    "present": LabelAttributes("index", 0, 1, ("absent", "present")),
}
RANGES = {"start_s": (0, 45), "duration_s": (1, 15), "start_hz": (0, 100), "end_hz": (0, 100)}


def generator(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def images(n=400, seed=0, share=0.75):
    """Labels of a test set."""
    rng = generator(seed)
    frame = pd.DataFrame({"index": np.arange(n)})
    present = rng.random(n) < share
    for label, (low, high) in RANGES.items():
        frame[label] = np.where(present, rng.uniform(low, high, n), np.nan)
    return frame.assign(
        noise_sd=rng.uniform(0.09, 0.3, n),
        sweep=rng.integers(2, size=n),
        present=present.astype(int),
    )


def run(table, *, seed, spread=1.0, bias=0.5, slope=1.0, dataset="plain", score=True):
    """One network: errors of this spread, larger in noise, around slope x truth + bias."""
    rng, found = generator(seed + 100), table.copy()
    for label in LABELS:
        error = spread * rng.standard_normal(len(table)) * table["noise_sd"] / 0.2
        # Places are predicted for images without a chirp, too.
        found[f"predicted_{label}"] = slope * table[label].fillna(20.0) + bias + error
    margin = rng.standard_normal(len(table)) + 2.0 * table["present"]
    found["predicted_present"] = (margin > 1).astype(float)
    if score:
        found["score_present"] = margin
    return found.assign(
        loss_place=0.1, dataset=dataset, backbone="pretrained", protocol="corrected", seed=seed
    )


def predictions(n=400, seeds=3, **kwargs):
    table = images(n)
    return pd.concat([run(table, seed=s, **kwargs) for s in range(seeds)], ignore_index=True)


def detected(table, spread=2.0, seed=9):
    """What two baselines found: the tracker twice as far off as the filter."""
    rng, parts = generator(seed), []
    for name, size in (("ridge_tracker", 2 * spread), ("matched_filter", spread)):
        one = pd.DataFrame({"index": table["index"], "backbone": name})
        for label in LABELS:
            error = size * rng.standard_normal(len(table))
            one[label] = table[label].fillna(20.0) + error
        parts.append(one.assign(score=rng.standard_normal(len(table)) + 4 * table["present"]))
    return pd.concat(parts, ignore_index=True)
