"""What a sweep returns: effects per example, what was run, and long-form frames."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class AblationEffects:
    """Effect of ablating each head alone.

    Args:
        values: shape (baselines, layers, heads, n), metric ablated minus metric clean, per
            example, in the metric's unit.
        clean: shape (n,), the metric without intervention.
        baselines: names along the first axis.
        metadata: `path` (`fast` or `plain`), `reason`, `chunk`, `max_clean_deviation` and what
            else describes the run.
    """

    values: np.ndarray
    clean: np.ndarray
    baselines: tuple[str, ...]
    metadata: dict[str, Any] = field(default_factory=dict)

    def frame(self, per_example: bool = False) -> pd.DataFrame:
        """Long form: one row for each layer, head and baseline (and example).

        Returns:
            Columns layer, head, baseline, effect (the mean over examples, or one example's) and
            n, or example (row of the inputs) with `per_example`.
        """
        names = {"baseline": list(self.baselines), "layer": None, "head": None}
        frame = _long(self.values, names, per_example)
        frame.attrs.update(self.metadata)
        return frame

    def save(self, path: str | Path) -> None:
        """Write all effects and metadata to one Parquet file; `load` reads it."""
        frame = self.frame(per_example=True)
        frame["clean"] = self.clean[frame["example"]]
        _write(frame, path, self, shape=list(self.values.shape), baselines=list(self.baselines))


@dataclass(frozen=True)
class PatchEffects:
    """Effect of patching one component at one layer and position.

    Args:
        values: component to metric patched minus metric base, per example: shape
            (layers, positions, n); of single heads (`head_out`, `q`, `k`, `v`)
            (layers, heads, positions, n).
        positions: token of each entry along the axis of positions, or its name where examples have
            tokens of their own.
        base: shape (n,), the metric of the run that is patched.
        source: shape (n,), the metric of the run that the activations come from.
        direction: `clean_to_corrupted` (the corrupted run is patched: sufficiency) or
            `corrupted_to_clean` (the clean run is patched: necessity).
        metadata: as for `AblationEffects`.
    """

    values: dict[str, np.ndarray]
    positions: tuple[int, ...] | tuple[str, ...]
    base: np.ndarray
    source: np.ndarray
    direction: str
    metadata: dict[str, Any] = field(default_factory=dict)

    def recovery(self, component: str) -> np.ndarray:
        """Share of the difference between source and base that patching carries over.

        The ratio of means, which single pairs with a small difference cannot blow up. In the
        direction `clean_to_corrupted` it is (patched - corrupted) / (clean - corrupted).

        Returns:
            The shape of `values[component]` without the examples, no unit.

        Raises:
            ValueError: if source and base have the same mean metric.
        """
        difference = float(np.mean(self.source - self.base))
        if difference == 0:
            raise ValueError("recovery: source and base have the same metric; allowed is a change")
        return self.values[component].mean(-1) / difference

    def frame(self, per_example: bool = False) -> pd.DataFrame:
        """Long form: one row for each component, layer, head and position (and example).

        Returns:
            Columns component, layer, head (-1 for whole components), position, direction, effect
            and recovery with n; with `per_example` effect, base and source with example, so that
            any resampling of examples can form its own ratio of means.
        """
        frames = []
        for component, values in self.values.items():
            axes: dict[str, list | None] = {"layer": None, "head": None}
            if values.ndim == 3:
                del axes["head"]
            axes["position"] = list(self.positions)
            frame = _long(values, axes, per_example)
            frame.insert(0, "component", component)
            if "head" not in frame:
                frame.insert(2, "head", -1)
            if per_example:
                frame["base"] = self.base[frame["example"]]
                frame["source"] = self.source[frame["example"]]
            else:
                frame["recovery"] = self.recovery(component).reshape(-1)
            frames.append(frame)
        whole = pd.concat(frames, ignore_index=True)
        whole.insert(4, "direction", self.direction)
        whole.attrs.update(self.metadata)
        return whole

    def save(self, path: str | Path) -> None:
        """Write all effects and metadata to one Parquet file; `load` reads it."""
        shapes = {name: list(values.shape) for name, values in self.values.items()}
        positions = [x if isinstance(x, str) else int(x) for x in self.positions]
        frame = self.frame(per_example=True)
        _write(frame, path, self, shapes=shapes, positions=positions, direction=self.direction)


def _write(frame: pd.DataFrame, path: str | Path, effects: Any, **about: Any) -> None:
    about = {"kind": type(effects).__name__, "metadata": effects.metadata, **about}
    try:
        json.dumps(about)
    except TypeError as error:
        raise ValueError(f"metadata: {error}; allowed is what JSON can hold") from error
    frame.attrs.clear()
    frame.attrs.update(about)  # pandas keeps them in the file, as JSON
    frame.to_parquet(path, index=False)


def load(path: str | Path) -> AblationEffects | PatchEffects:
    """Read what `save` of a sweep's result wrote.

    Raises:
        ValueError: for a file that holds no such result.
    """
    frame = pd.read_parquet(path)
    about = frame.attrs
    if about.get("kind") == "AblationEffects":
        values = frame["effect"].to_numpy().reshape(about["shape"])
        clean = frame["clean"].to_numpy()[: values.shape[-1]]
        return AblationEffects(values, clean, tuple(about["baselines"]), about["metadata"])
    if about.get("kind") == "PatchEffects":
        shapes = about["shapes"]
        values_of = {
            str(name): part["effect"].to_numpy().reshape(shapes[name])
            for name, part in frame.groupby("component", sort=False)
        }
        n = next(iter(shapes.values()))[-1]
        base, source = (frame[name].to_numpy()[:n] for name in ("base", "source"))
        positions = tuple(about["positions"])
        return PatchEffects(
            values_of, positions, base, source, about["direction"], about["metadata"]
        )
    raise ValueError(f"{path} holds no result of a sweep; allowed is a file written by its save")


def _long(values: np.ndarray, axes: dict[str, list | None], per_example: bool) -> pd.DataFrame:
    sizes = values.shape[:-1]
    labels = [
        list(range(size)) if names is None else names
        for size, names in zip(sizes, axes.values(), strict=True)
    ]
    if per_example:
        index = pd.MultiIndex.from_product(
            [*labels, range(values.shape[-1])], names=[*axes, "example"]
        )
        return pd.DataFrame({"effect": values.reshape(-1)}, index=index).reset_index()
    index = pd.MultiIndex.from_product(labels, names=list(axes))
    frame = pd.DataFrame({"effect": values.mean(-1).reshape(-1)}, index=index).reset_index()
    frame["n"] = values.shape[-1]
    return frame
