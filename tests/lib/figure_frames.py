"""Frames with made-up numbers, shaped like those that the analyses write."""

import itertools

import numpy as np
import pandas as pd

PROTOCOLS = ("described", "shifted_origin", "corrected", "released")
DATASETS = ("angle", "length", "width", "color")
RGB = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
    "white": (255, 255, 255),
    "orange": (255, 165, 0),
    "purple": (128, 0, 128),
    "pink": (255, 192, 203),
    "teal": (0, 128, 128),
}
CATEGORIES = {name: name for name in RGB} | {
    "magenta": "pink",
    "cyan": "blue",
    "teal": "green",
}


def generator(seed=7):
    return np.random.Generator(np.random.Philox(seed))


def angle_curves(
    protocols=PROTOCOLS, datasets=("angle",), conditions=("network", "ideal_observer"), bins=24
):
    rng, rows = generator(), []
    for protocol, dataset, condition in itertools.product(protocols, datasets, conditions):
        period = 180 if protocol == "corrected" else 360
        top = 6 if protocol == "corrected" else 80
        for k in range(bins):
            angle = (k + 0.5) * period / bins
            shape = 1.3 - np.cos(np.radians(angle * 720 / period)) + 0.1 * rng.standard_normal()
            error = top / 3 * shape * (0.6 if condition == "ideal_observer" else 1)
            signed = top / 3 * np.sin(np.radians(angle * 720 / period)) + rng.standard_normal()
            rows.append(
                {
                    "protocol": protocol,
                    "dataset": dataset,
                    "backbone": "pretrained",
                    "condition": condition,
                    "bin_deg": angle,
                    "error_deg": error,
                    "signed_error_deg": signed,
                    "n": 190 + int(rng.integers(20)),
                    "seeds": 3,
                }
            )
    frame = pd.DataFrame(rows)
    half = 0.12 * frame["error_deg"].abs() + 0.3
    return frame.assign(ci_low=frame["error_deg"] - half, ci_high=frame["error_deg"] + half)


def bias_curves(**kwargs):
    frame = angle_curves(**kwargs).drop(columns="error_deg")
    return frame.assign(
        ci_low=frame["signed_error_deg"] - 2, ci_high=frame["signed_error_deg"] + 2.5
    )


def colour_points(protocols=("described", "corrected"), datasets=("color",)):
    rng, rows = generator(), []
    for protocol, dataset in itertools.product(protocols, datasets):
        for name, (red, green, blue) in RGB.items():
            energy = sum((c / 255) ** 2 for c in (red, green, blue))
            error = 5 + 6 / energy + 0.5 * rng.standard_normal()
            rows.append(
                {
                    "protocol": protocol,
                    "dataset": dataset,
                    "colour": name,
                    "red": red,
                    "green": green,
                    "blue": blue,
                    "energy": energy,
                    "error_deg": error,
                    "ci_low": error - 0.8,
                    "ci_high": error + 0.9,
                    "ideal_error_deg": 3 + 3 / energy,
                    "n": 430 + int(rng.integers(40)),
                    "seeds": 3,
                }
            )
    return pd.DataFrame(rows)


def linkages(protocols=("described", "corrected")):
    from scipy.cluster.hierarchy import linkage

    frames = []
    for i, protocol in enumerate(protocols):
        rows = linkage(generator(i).gamma(2, 3, (len(RGB), 1)), "average")
        frame = pd.DataFrame(rows, columns=["left", "right", "distance", "size"])
        frames.append(frame.assign(protocol=protocol, merge=range(len(rows)), n=4730, seeds=3))
    return pd.concat(frames, ignore_index=True)


def losses(protocols=("described", "corrected"), datasets=DATASETS, targets=4, seeds=3, steps=200):
    rng, frames = generator(), []
    names = ("angle", "start", "end", "noise", "length", "width", "color")[:targets]
    for protocol, dataset, seed, (i, target) in itertools.product(
        protocols, datasets, range(seeds), enumerate(names)
    ):
        step = np.arange(steps) * 10
        fall = 0.02 + 0.2 / (1 + np.exp((step - 600 - 120 * i) / 60)) + 0.05 * np.exp(-step / 300)
        frames.append(
            pd.DataFrame(
                {
                    "dataset": dataset,
                    "backbone": "pretrained",
                    "protocol": protocol,
                    "seed": seed,
                    "step": step,
                    "target": target,
                    "loss": fall * np.exp(0.25 * rng.standard_normal(steps)) / (1 + i),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def transitions(frame):
    runs = frame[["dataset", "backbone", "protocol", "seed", "target"]].drop_duplicates()
    runs = runs[runs["seed"] == 0]
    early = runs.assign(detector="change_point", step=480)
    late = runs.assign(detector="curvature", step=610)
    return pd.concat([early, late], ignore_index=True)


def correlations(**kwargs):
    frame = losses(steps=8, **kwargs).drop(columns="loss")
    frame["epoch"] = frame["step"] // 10 + 1
    noise = 0.02 * generator(3).standard_normal(len(frame))
    return frame.assign(r=1 - np.exp(-frame["epoch"] / 3) + noise).drop(columns="step")


def histograms(protocols=PROTOCOLS, datasets=("angle",)):
    frames = []
    for protocol, dataset in itertools.product(protocols, datasets):
        width = 1.0 if protocol == "corrected" else 10.0
        centre = width * (np.arange(18) + 0.5)
        density = np.exp(-centre / (4 * width))
        frames.append(
            pd.DataFrame(
                {
                    "protocol": protocol,
                    "dataset": dataset,
                    "backbone": "pretrained",
                    "error_deg": centre,
                    "bin_width_deg": width,
                    "density": density / density.sum() / width,
                    "n": 4800,
                    "seeds": 3,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def head_effects(protocols=("described", "corrected"), baselines=("zero", "mean"), size=(6, 4)):
    rng, rows = generator(), []
    for protocol, baseline, layer, head in itertools.product(
        protocols, baselines, range(size[0]), range(size[1])
    ):
        effect = rng.standard_normal() * (0.4 + layer)
        rows.append(
            {
                "protocol": protocol,
                "dataset": "angle",
                "layer": layer,
                "head": head,
                "baseline": baseline,
                "metric": "angle_error",
                "effect": effect,
                "ci_low": effect - 2,
                "ci_high": effect + 2,
                "p": 0.2,
                "q": 0.4,
                "n": 1200,
                "seeds": 3,
            }
        )
    return pd.DataFrame(rows)


def patch_effects(layers=6, positions=64, components=("resid_pre", "attn_out")):
    rng, rows = generator(), []
    for component, layer, position in itertools.product(
        components, range(layers), range(positions)
    ):
        near = np.exp(-((position % 8 - 4) ** 2 + (position // 8 - 2) ** 2) / 4)
        recovery = near * (1 - layer / layers) + 0.03 * rng.standard_normal()
        rows.append(
            {
                "component": component,
                "layer": layer,
                "head": -1,
                "position": position,
                "direction": "clean_to_corrupted",
                "recovery": recovery,
                "ci_low": recovery - 0.15,
                "ci_high": recovery + 0.15,
                "n": 256,
            }
        )
    return pd.DataFrame(rows)


def similarities(protocols=("described", "corrected"), layers=6, heads=4):
    rng, rows = generator(), []
    for protocol, measure, backbone, layer, head in itertools.product(
        protocols, ("attention_correlation", "linear_cka"), ("pretrained", "random"),
        range(layers), range(heads),
    ):  # fmt: skip
        value = (0.95 if backbone == "pretrained" else 0.6) - 0.05 * layer
        value += 0.03 * rng.standard_normal()
        rows.append(
            {
                "protocol": protocol,
                "backbone": backbone,
                "layer": layer,
                "head": head,
                "measure": measure,
                "similarity": value,
                "ci_low": value - 0.04,
                "ci_high": value + 0.04,
                "n": 512,
                "seeds": 3,
            }
        )
    return pd.DataFrame(rows)


STATEMENTS = {
    "A1": "Angle error is lowest at 180 deg (horizontal) in every condition: an oblique effect",
    "A2": "Angle error is highest for bluish and lowest for yellowish colours",
    "A6": "Heads of certain layers are task-agnostic feature extractors, whatever the task",
    "A7": "The biases come mainly from pre-training",
}


def claims():
    rows = [
        ("A1", "described", "180 deg", 178.2, 171.5, 184.9, "shifted_origin", 91.3, "artefact"),
        ("A1", "corrected", "180 deg", 45.7, 12.0, 88.1, "ideal_observer", 44.0, "fails"),
        ("A2", "described", "blue > yellow", 4.21, 3.05, 5.38, "equal_energy_colours", 0.12,
         "replicates"),
        ("A6", "corrected", "", np.nan, np.nan, np.nan, "random_backbone", np.nan, "undetermined"),
        ("A6", "released", "", np.nan, np.nan, np.nan, "", np.nan, "identity"),
        ("A7", "corrected", "", np.nan, np.nan, np.nan, "", np.nan, "not_applicable"),
    ]  # fmt: skip
    columns = [
        "claim", "protocol", "published", "estimate", "ci_low", "ci_high", "control",
        "control_estimate", "verdict",
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(
        study="lines",
        paper="arXiv 2504.09393",
        statement=frame["claim"].map(STATEMENTS),
        n=[2880, 2880, 4730, np.nan, np.nan, np.nan],
        seeds=[3, 3, 3, np.nan, np.nan, np.nan],
        reason="not yet computed <b>&",
        unit="deg",
        ci90_low=frame["ci_low"] + 1,
        ci90_high=frame["ci_high"] - 1,
        claimed_low=[170, 170, 2, np.nan, np.nan, 0],
        claimed_high=[190, 190, np.inf, np.nan, np.nan, np.inf],
        control_low=frame["control_estimate"] - 1,
        control_high=frame["control_estimate"] + 1,
        survives_low=[170, 170, -np.inf, np.nan, np.nan, np.nan],
        survives_high=[190, 190, 0.5, np.nan, np.nan, np.nan],
        power=[np.nan, 0.9, np.nan, np.nan, np.nan, np.nan],
        detectable=[5.0, 50, 0.7, np.nan, np.nan, np.nan],
        figure=["lines/figures/error_vs_angle.png"] * 3 + [""] * 3,
    )
