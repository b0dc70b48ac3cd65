"""From predictions of many runs to tables about colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from patchwork.analysis.biases import colour, errors, observer
from patchwork.analysis.biases.colour import RGB
from patchwork.analysis.biases.errors import Angle
from patchwork.statistics import Resampling
from patchwork.tables import conditions, join, labelled


@dataclass(frozen=True)
class ColourSet:
    """The named colours of one dataset.

    Attributes:
        names: what an index of the label ``colour`` stands for.
        geometry: of the dataset's lines, for the ideal observer.
        noise_levels: sd as fractions of 255, each equally likely.
    """

    names: tuple[str, ...]
    geometry: observer.LineGeometry
    noise_levels: tuple[float, ...]


@dataclass(frozen=True)
class ColourTables:
    """Tables about colours, each with dataset, backbone and protocol.

    Attributes:
        errors: see ``colour.error_per_colour``.
        merges: see ``colour.merges_of``.
        clusterings: see ``colour.clusterings``.
        contrasts: see ``colour.pair_contrasts``.
        findings: quantity, unit, estimate, ci_low, ci_high, n, seeds.
    """

    errors: pd.DataFrame
    merges: pd.DataFrame
    clusterings: pd.DataFrame
    contrasts: pd.DataFrame
    findings: pd.DataFrame


def named(part: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, dict[str, RGB]]:
    """A frame with names in place of indices of colours, and each name's channels.

    Args:
        part: colour (index), red, green, blue.
        names: what an index stands for.
    """
    index = part["colour"].to_numpy(int)
    channels = part[["red", "green", "blue"]].to_numpy(int)
    rgb = {}
    for i in np.unique(index):
        red, green, blue = channels[np.argmax(index == i)]
        rgb[names[i]] = (int(red), int(green), int(blue))
    return part.assign(colour=np.array(names, object)[index]), rgb


def colour_tables(
    predictions: pd.DataFrame,
    sets: Mapping[str, ColourSet],
    angles: Sequence[Angle],
    block: Mapping,
    resampling: Resampling,
) -> ColourTables:
    """Errors, associations, contrasts and clusterings of the colours of every condition.

    Args:
        predictions: as from :func:`patchwork.tables.gather`.
        sets: dataset to its colours; datasets not in it are left out.
        angles: which predicted angle counts, first match.
        block: ``bluish``, ``yellowish``, ``categories``, ``n_permutations``.
        resampling: of the intervals.
    """
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in ColourTables.__annotations__}
    for names, part in conditions(predictions):
        angle = errors.angle_of(part, angles)
        if angle is None or names["dataset"] not in sets:
            continue
        chosen = sets[names["dataset"]]
        plain, rgb = named(part, chosen.names)
        frame = errors.angle_errors(plain, angle)
        for name, table in _of_condition(frame, rgb, chosen, block, resampling).items():
            found[name].append(labelled(table, names))
    return ColourTables(**{name: join(parts) for name, parts in found.items()})


def _of_condition(
    frame: pd.DataFrame,
    rgb: Mapping[str, RGB],
    chosen: ColourSet,
    block: Mapping,
    resampling: Resampling,
) -> dict[str, pd.DataFrame]:
    noisy = [level for level in chosen.noise_levels if level > 0]
    bound = observer.colour_observer(rgb, chosen.geometry, noise_levels=noisy)
    ideal = dict(zip(bound["colour"], bound["ideal_error_deg"], strict=True))
    groups = (block["bluish"], block["yellowish"])
    clusters = colour.clusterings(
        frame,
        rgb,
        block["categories"],
        n_permutations=block["n_permutations"],
        resampling=resampling,
    )
    agreement = clusters.assign(quantity="ari_" + clusters["source"], unit="").rename(
        columns={"ari": "estimate"}
    )
    follows = colour.associations(frame, rgb, ideal, groups, resampling)
    return {
        "errors": colour.error_per_colour(frame, rgb, ideal, resampling),
        "merges": colour.merges_of(colour.error_distances(frame, list(rgb))),
        "clusterings": clusters,
        "contrasts": colour.pair_contrasts(frame, rgb, resampling),
        "findings": join([follows, agreement[list(follows.columns)]]),
    }


def hue_findings(
    predictions: pd.DataFrame,
    held_out: Mapping[str, Sequence[tuple[float, float]]],
    angles: Sequence[Angle],
    resampling: Resampling,
) -> pd.DataFrame:
    """Error on hues kept from training minus error on hues seen, under every condition.

    Args:
        predictions: as from :func:`patchwork.tables.gather`.
        held_out: dataset to its arcs of hue; datasets not in it are left out.
        angles: which predicted angle counts, first match.
        resampling: of the intervals.
    """
    parts = []
    for names, part in conditions(predictions):
        angle = errors.angle_of(part, angles)
        if angle is None or names["dataset"] not in held_out:
            continue
        frame = errors.angle_errors(part, angle)
        one = colour.hue_generalisation(frame, held_out[names["dataset"]], resampling)
        row = {"quantity": "held_out_minus_seen_hues", "unit": "deg", **one.row()}
        parts.append(labelled(pd.DataFrame([row]), names))
    return join(parts)
