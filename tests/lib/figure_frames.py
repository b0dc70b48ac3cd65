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


def hue_points(protocols=("described", "corrected")):
    hue, rng = np.arange(0, 360, 10.0), generator()
    rows = []
    for protocol in protocols:
        error = 8 + np.cos(np.deg2rad(hue - 240)) + 0.3 * rng.standard_normal(len(hue))
        channels = np.clip(np.abs((hue[:, None] / 60 + [0, 4, 2]) % 6 - 3) - 1, 0, 1)
        rgb = np.rint(255 * channels / np.linalg.norm(channels, axis=1, keepdims=True)).astype(int)
        table = pd.DataFrame(rgb, columns=["red", "green", "blue"])
        rows.append(table.assign(
            protocol=protocol, dataset="hue", hue_deg=hue, error_deg=error, ci_low=error - 0.7,
            ci_high=error + 0.8, ideal_error_deg=3 + 0.3 * channels.min(1), n=300, seeds=3,
        ))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def colour_predictions(protocols=("described", "corrected")):
    rng, rows = generator(), []
    for protocol in protocols:
        period = 180 if protocol == "corrected" else 360
        angle = rng.uniform(0, period, 40)
        for red, green, blue in RGB.values():
            found = (angle + 12 * rng.standard_normal(40)) % period
            rows.append(pd.DataFrame({
                "protocol": protocol, "dataset": "color", "seed": 0, "example": np.arange(40),
                "red": red, "green": green, "blue": blue, "angle_deg": angle,
                "predicted_deg": found,
            }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


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


def picture(**names):
    """A bright bar on black, 64 px."""
    row, column = np.indices((64, 64)).reshape(2, -1)
    level = 200.0 * (abs(row - column) < 3)
    return pd.DataFrame({"row": row, "column": column, "level": level}).assign(**names)


def attention_maps(tasks=("angle", "color", "untouched"), layers=4):
    rng, rows = generator(), []
    for task, layer in itertools.product(tasks, range(layers)):
        row, column = np.indices((8, 8)).reshape(2, -1)
        weight = rng.dirichlet(np.ones(64))
        part = pd.DataFrame({"row": row, "column": column, "weight": weight})
        rows.append(part.assign(task=task, layer=layer, protocol="corrected", seed=0))
    return pd.concat(rows, ignore_index=True)


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
