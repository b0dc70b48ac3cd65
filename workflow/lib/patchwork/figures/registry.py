"""Figures by name: which tables each is drawn from, and what it shows of them."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from patchwork.figures import rearing
from patchwork.figures.biases import colour, depth, orientation, training
from patchwork.figures.chirps import learning, localisation
from patchwork.figures.heads import head_effects, pictures, regions
from patchwork.figures.knowledge import tracing

Tables = Mapping[str, pd.DataFrame]


def _by_backbone(frame: pd.DataFrame) -> pd.DataFrame:
    """Backbones as curves of one panel, beside the ideal observer."""
    network = frame["condition"] == "network"
    named = frame["condition"].where(~network, frame["backbone"] + " backbone")
    return frame.assign(condition=named, backbone="any")


def _error_vs_angle(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    frame = _by_backbone(tables["curves"])
    return orientation.error_vs_angle(frame), frame


def _bias_curve(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    frame = _by_backbone(tables["curves"])
    return orientation.bias_curve(frame), frame


def _loss_curves(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    transitions = tables.get("transitions", pd.DataFrame())
    return training.loss_curves(tables["curves"], transitions), tables["curves"]


def _correlation_over_epochs(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    # A target of several labels, such as x and y, is one line: their mean correlation.
    keys = ["dataset", "backbone", "protocol", "seed", "epoch", "target"]
    frame = tables["epochs"].groupby(keys, sort=False)[["r"]].mean().reset_index()
    return training.correlation_over_epochs(frame), frame


def _error_histograms(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    return training.error_histograms(tables["histograms"]), tables["histograms"]


def _colour_error_vs_energy(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    return colour.colour_error_vs_energy(tables["errors"]), tables["errors"]


def _hue_errors(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    return colour.hue_errors(tables["errors"]), tables["errors"]


def _colour_scatter(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    return colour.colour_scatter(tables["predictions"]), tables["predictions"]


def _head_effects(tables: Tables, unit: str) -> tuple[Figure, pd.DataFrame]:
    return head_effects.head_effects(tables["effects"], unit=unit), tables["effects"]


def _patch_effects(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    return head_effects.patch_effects(tables["effects"]), tables["effects"]


def _patch_pictures(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    return pictures.patch_pictures(tables["effects"], tables["pictures"]), tables["effects"]


def _attention_across_tasks(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    return pictures.attention_across_tasks(tables["maps"], tables["picture"]), tables["maps"]


def _head_similarity(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    return head_effects.head_similarity(tables["similarity"]), tables["similarity"]


def _of_one_table(draw: Callable[..., Figure]) -> Callable[..., tuple[Figure, pd.DataFrame]]:
    """A drawing of a single table, in the role `rows`."""

    def drawn(tables: Tables, **options: Any) -> tuple[Figure, pd.DataFrame]:
        return draw(tables["rows"], **options), tables["rows"]

    return drawn


def _attention_overlay(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    return regions.attention_overlay(tables["maps"], tables["picture"]), tables["maps"]


def _attention_by_kind(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    roles = (tables[name] for name in ("maps", "picture", "heads"))
    return regions.attention_by_kind(*roles), tables["heads"]


def _image_statistics(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    shown = pd.concat([tables["edges"], tables["colours"]], ignore_index=True)
    return rearing.image_statistics(tables["edges"], tables["colours"]), shown


DRAWINGS: dict[str, Callable[..., tuple[Figure, pd.DataFrame]]] = {
    "error_vs_angle": _error_vs_angle,
    "bias_curve": _bias_curve,
    "loss_curves": _loss_curves,
    "correlation_over_epochs": _correlation_over_epochs,
    "error_histograms": _error_histograms,
    "colour_error_vs_energy": _colour_error_vs_energy,
    "hue_errors": _hue_errors,
    "colour_scatter": _colour_scatter,
    "head_effects": _head_effects,
    "patch_effects": _patch_effects,
    "patch_pictures": _patch_pictures,
    "attention_across_tasks": _attention_across_tasks,
    "head_similarity": _head_similarity,
    "attention_overlay": _attention_overlay,
    "attention_by_kind": _attention_by_kind,
    "image_statistics": _image_statistics,
    **{
        draw.__name__: _of_one_table(draw)
        for draw in (
            depth.bias_by_depth,
            head_effects.label_scales,
            head_effects.layer_effects,
            head_effects.prediction_spread,
            head_effects.released_decomposition,
            learning.chirp_errors,
            learning.inference_times,
            learning.learning_curve,
            localisation.coverage,
            localisation.error_along,
            localisation.predicted_against_true,
            localisation.presence_roc,
            rearing.bias_after_tuning,
            rearing.bias_curves,
            rearing.bias_planes,
            rearing.bias_trajectory,
            rearing.contrast_forest,
            regions.attention_and_effect,
            regions.head_table,
            regions.selectivity_by_layer,
            regions.region_masses,
            tracing.component_recovery,
            tracing.edit_scores,
            tracing.known_shares,
            tracing.recovery_maps,
            tracing.released_recovery,
            tracing.set_curves,
        )
    },
}


def draw(
    name: str,
    tables: Tables,
    select: Mapping[str, list],
    options: Mapping[str, Any],
) -> tuple[Figure, pd.DataFrame]:
    """Draw one figure.

    Args:
        name: a key of `DRAWINGS`.
        tables: frames by role, as the drawing function names them.
        select: column to the values that are drawn, applied to every table that has the column.
        options: further arguments of the drawing function; ``names`` maps the targets that are
            drawn to the names that they get.

    Returns:
        The figure and the rows that it shows.

    Raises:
        ValueError: if the name is unknown or nothing is left to draw.
    """
    if name not in DRAWINGS:
        raise ValueError(f"figure draw is {name!r}; allowed is {', '.join(DRAWINGS)}")
    chosen = {role: _selected(table, select) for role, table in tables.items()}
    plain = dict(options)
    names = plain.pop("names", {})
    if names:
        chosen = {role: _renamed(table, names) for role, table in chosen.items()}
    return DRAWINGS[name](chosen, **plain)


def _renamed(table: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Targets under the names that a figure shows; those not named are left out."""
    if "target" not in table:
        return table
    kept = table[table["target"].isin(names)]
    return kept.assign(target=kept["target"].map(names)).reset_index(drop=True)


def _selected(table: pd.DataFrame, select: Mapping[str, list]) -> pd.DataFrame:
    for column, values in select.items():
        if column in table:
            # Panels stand in the order that the configuration gives.
            order = {value: i for i, value in enumerate(values)}
            table = table[table[column].isin(values)]
            table = table.sort_values(column, key=lambda c: c.map(order), kind="stable")
    return table.reset_index(drop=True)
