"""Angle errors by colour: the same lines in the same noise, drawn in every colour.

Colours are named ones of full or half channels, or hues of equal signal energy round the circle.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from patchwork import statistics
from patchwork.analysis.biases.observer import LineGeometry, colour_observer
from patchwork.statistics import Interval
from patchwork.statistics.power import crossed_found, mean_found
from patchwork.stimuli.common.palettes import in_arc, signal_energy
from patchwork.tables import CONDITION, groups, join, labelled

TABLES = ("errors", "predictions", "findings")
_N_SHOWN = 60  # lines of one seed per colour in the scatter
CHANNELS = ["red", "green", "blue"]
CATEGORY = "category_similarity_excess"


def colour_tables(
    frame: pd.DataFrame,
    geometries: Mapping[str, tuple[LineGeometry, Sequence[float]]],
    block: Mapping,
    *,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Errors of the colours of every condition, and what they follow.

    Args:
        frame: ``paired_colours.parquet`` of all conditions with their names.
        geometries: dataset to the geometry of its lines and its noise levels, for the ideal
            observer.
        block: ``contrast``, ``matched``, ``axis_deg``, ``categories``, ``planted_deg``,
            ``planted_excess``.
        seed: of planted effects.

    Returns:
        Tables with dataset, backbone and protocol: errors (of :func:`error_per_colour`),
        predictions (of some lines of the first seed) and findings. Of named colours:
        ``blue_minus_yellow`` and ``..._beyond_channels`` (deg, of :func:`contrasts`); of hues:
        ``blue_yellow_axis`` (deg) and `CATEGORY` (of :func:`category_excess`), that of the ideal
        observer too; each of the claims' estimates with its ``..._power``.
    """
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    for names, part in groups(frame, CONDITION):
        geometry, levels = geometries[names["dataset"]]
        colours = part.drop_duplicates("colour").set_index("colour")
        rgb = {str(name): tuple(row) for name, row in colours[CHANNELS].iterrows()}
        noisy = [level for level in levels if level > 0]
        ideal = colour_observer(rgb, geometry, noise_levels=noisy)
        found["errors"].append(labelled(error_per_colour(part, ideal), names))
        shown = part[(part["seed"] == part["seed"].iloc[0]) & (part["example"] < _N_SHOWN)]
        found["predictions"].append(labelled(shown.drop(columns=list(CONDITION)), names))
        hues = part["hue_deg"].notna().all()
        rows = _of_hues(part, colours, ideal, block, seed) if hues else _of_names(part, block, seed)
        found["findings"].append(labelled(_rows(rows), names))
        if hues:
            excess = _ideal_excess(colours, ideal, block["categories"])
            one = {CATEGORY: statistics.exact(excess, 0, 0)}
            own = {**names, "backbone": "ideal_observer"}
            found["findings"].append(labelled(_rows(one), own))
    return {name: join(parts) for name, parts in found.items()}


def _rows(found: Mapping[str, Interval]) -> pd.DataFrame:
    rows = [{"quantity": name, **one.row()} for name, one in found.items()]
    return pd.DataFrame(rows)


def paired(part: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """Errors of one condition as an array.

    Args:
        part: seed, example, colour, error_deg; every seed saw every line in every colour.

    Returns:
        shape (seeds, lines, colours), deg, and the colours' names in order.
    """
    names = list(dict.fromkeys(part["colour"]))
    wide = part.pivot_table(index=["seed", "example"], columns="colour", values="error_deg")[names]
    n_seeds = part["seed"].nunique()
    return wide.to_numpy(float).reshape(n_seeds, -1, len(names)), names


def contrast_interval(values: np.ndarray) -> Interval:
    """Interval of a contrast of colours over seeds and lines, shape (seeds, lines)."""
    k, m = values.shape
    seeds, lines = np.repeat(np.arange(k), m), np.tile(np.arange(m), k)
    return statistics.interval(values.reshape(-1), seeds, units=lines)


def error_per_colour(part: pd.DataFrame, ideal_error_deg: Mapping[str, float]) -> pd.DataFrame:
    """Mean angle error of each colour with its interval over seeds and lines.

    Args:
        part: as for :func:`paired`, with hue_deg and the channels.
        ideal_error_deg: colour to the ideal observer's error, see ``observer``.

    Returns:
        The table ``tables/colour_errors.csv`` of one condition.
    """
    errors, names = paired(part)
    channels = part.drop_duplicates("colour").set_index("colour").loc[names]
    rows = []
    for i, name in enumerate(names):
        row = contrast_interval(errors[..., i]).row()
        rows.append({"colour": name, "error_deg": row.pop("estimate"), **row})
    table = pd.DataFrame(rows).drop(columns=["ci90_low", "ci90_high"])
    return table.assign(
        **{key: channels[key].to_numpy() for key in (*CHANNELS, "hue_deg")},
        energy=signal_energy(channels[CHANNELS].to_numpy()),
        ideal_error_deg=[ideal_error_deg[name] for name in names],
    )


def contrasts(errors: np.ndarray, names: Sequence[str], block: Mapping) -> dict[str, np.ndarray]:
    """Contrasts of named colours, line by line.

    Args:
        errors: shape (seeds, lines, colours).
        names: of the colours.
        block: ``contrast`` (more, less), and ``matched``: each of the two to the colours that have
            as many full channels.

    Returns:
        ``blue_minus_yellow``, and the same ``..._beyond_channels``: less what their number of
        channels does; shape (seeds, lines), deg.
    """
    of = {name: errors[..., i] for i, name in enumerate(names)}
    more, less = block["contrast"]["more"], block["contrast"]["less"]

    def beyond(name: str) -> np.ndarray:
        return of[name] - np.mean([of[other] for other in block["matched"][name]], axis=0)

    plain = f"{more}_minus_{less}"
    return {plain: of[more] - of[less], f"{plain}_beyond_channels": beyond(more) - beyond(less)}


def _of_names(part: pd.DataFrame, block: Mapping, seed: int) -> dict[str, Interval]:
    errors, names = paired(part)
    found: dict[str, Interval] = {}
    planted = block["planted_deg"]
    for name, values in contrasts(errors, names, block).items():
        found[name] = contrast_interval(values)
        found[f"{name}_power"] = crossed_found(values, planted, (planted / 2, None), seed)
    return found


def _of_hues(
    part: pd.DataFrame,
    colours: pd.DataFrame,
    ideal: Mapping[str, float],
    block: Mapping,
    seed: int,
) -> dict[str, Interval]:
    errors, names = paired(part)
    excess = [
        category_excess(paired_distance(one), colours.loc[names], ideal, block["categories"])
        for one in errors
    ]
    planted = block["planted_excess"]
    return {
        "blue_yellow_axis": axis_interval(errors, colours.loc[names, "hue_deg"], block["axis_deg"]),
        CATEGORY: statistics.interval(np.array(excess)).within(-2, 2),
        f"{CATEGORY}_power": mean_found(excess, planted, (planted / 2, None), seed),
    }


def axis_interval(errors: np.ndarray, hue_deg: ArrayLike, axis_deg: float) -> Interval:
    """From crest to trough of the wave of one cycle over hues.

    Args:
        errors: shape (seeds, lines, hues), deg.
        hue_deg: shape (hues,), evenly spaced round the circle.
        axis_deg: hue whose error counts positive, as blue's; the opposite one's is subtracted.
    """
    apart = np.deg2rad(np.asarray(hue_deg, float) - axis_deg)
    return contrast_interval(errors @ (4 * np.cos(apart) / len(apart)))


def paired_distance(errors: np.ndarray) -> np.ndarray:
    """How far the errors on the same lines differ between every two colours.

    Args:
        errors: shape (lines, colours), deg.

    Returns:
        shape (colours, colours): mean absolute difference, deg.
    """
    return np.abs(errors[:, :, None] - errors[:, None]).mean(0)


def category_excess(
    distance: np.ndarray,
    colours: pd.DataFrame,
    ideal_error_deg: Mapping[str, float],
    categories: Mapping[str, tuple[float, float]],
) -> float:
    """Whether errors differ more between colours of different categories than of one.

    A partial Mantel test: Spearman's correlation of the distances with "another category", given
    distances of the channels, of energy and of the ideal observer's errors. Neighbours on the
    circle are alike whatever the borders, so the same borders turned round the circle are the null,
    whose mean is subtracted.

    Args:
        distance: shape (k, k), between colours.
        colours: name to hue_deg and channels; hues evenly spaced round the circle, in order.
        ideal_error_deg: name to the ideal observer's error; empty: not given.
        categories: name to the arc of hue [low, high) in deg, which may run through 360.

    Returns:
        Difference of correlations, -2 to 2; nan if distances or categories are all the same.

    Source: Smouse, Long and Sokal 1986, "Multiple regression and correlation extensions of the
    Mantel test"; turned borders: the toroidal shift of spatial statistics.
    """
    channels = colours[CHANNELS].to_numpy(float)
    others = [np.linalg.norm(channels[:, None] - channels, axis=-1)]
    energy = signal_energy(channels)
    if ideal_error_deg:
        ideal = np.array([ideal_error_deg[name] for name in colours.index])
        others += [np.abs(one[:, None] - one) for one in (energy, ideal)]
    above = np.triu_indices(len(colours), 1)
    given = np.stack([stats.rankdata(one[above].round(9)) for one in others], axis=1)
    given = np.column_stack([np.ones(len(given)), given])
    keep = np.eye(len(given)) - given @ np.linalg.pinv(given)
    ranks = keep @ stats.rankdata(distance[above])
    member = np.array(
        [in_arc(colours["hue_deg"].to_numpy(float), arc) for arc in categories.values()]
    )
    kind = member.argmax(0)

    def correlation(turn: int) -> float:
        turned = np.roll(kind, turn)
        apart = keep @ stats.rankdata((turned[:, None] != turned)[above])
        size = np.linalg.norm(apart) * np.linalg.norm(ranks)
        return float(apart @ ranks / size) if size > 0 else np.nan

    null = [correlation(turn) for turn in range(1, len(kind))]
    return correlation(0) - float(np.mean(null))


def _ideal_excess(colours: pd.DataFrame, ideal: Mapping[str, float], categories: Mapping) -> float:
    errors = np.array([ideal[name] for name in colours.index])
    return category_excess(np.abs(errors[:, None] - errors), colours, {}, categories)
