"""Angle errors by colour: do they follow the hue, or the energy of the signal?

Contrasts, regressions and rank correlations are statistics of the colours' mean errors; their
intervals are over seeds and images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score

from patchwork import statistics
from patchwork.analysis.biases.observer import LineGeometry, colour_observer
from patchwork.analysis.predictions import Angle, errors_by_condition
from patchwork.statistics import SamplingError, Statistic
from patchwork.stimuli.common.palettes import in_arcs, signal_energy
from patchwork.tables import ENDS, join, labelled

RGB = tuple[int, int, int]
TABLES = ("errors", "merges", "clusterings", "contrasts", "findings")
CLUSTERINGS = ("source", "ari", *ENDS, "null_low", "null_high", "p")
MERGES = ("merge", "left", "right", "distance", "size")
_N_RESAMPLES = 200  # each clusters anew


@dataclass(frozen=True)
class ColourSet:
    """The named colours of one dataset.

    Attributes:
        names: what an index of the label ``colour`` stands for.
        geometry: of the dataset's lines, for the ideal observer.
        noise_levels: sd as fractions of 255, each equally likely.
    """

    names: tuple[str, ...]
    geometry: LineGeometry
    noise_levels: tuple[float, ...]


def named(errors: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, dict[str, RGB]]:
    """A frame with names in place of indices of colours, and each name's channels.

    Args:
        errors: colour (index), red, green, blue.
        names: what an index stands for.
    """
    first = errors.drop_duplicates("colour").sort_values("colour")
    rows = first[["colour", "red", "green", "blue"]].to_numpy(int).tolist()
    rgb: dict[str, RGB] = {names[i]: (red, green, blue) for i, red, green, blue in rows}
    index = errors["colour"].to_numpy(int)
    return errors.assign(colour=np.array(names, object)[index]), rgb


def colour_tables(
    predictions: pd.DataFrame,
    sets: Mapping[str, ColourSet],
    angles: Sequence[Angle],
    block: Mapping,
    *,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Errors, associations, contrasts and clusterings of the colours of every condition.

    Args:
        predictions: as from :func:`patchwork.tables.gather`.
        sets: dataset to its colours; datasets not in it are left out.
        angles: which predicted angle counts, first match.
        block: ``bluish``, ``yellowish``, ``categories``, ``n_permutations``.
        seed: of permutations and resamples.

    Returns:
        Tables with dataset, backbone and protocol: errors (of :func:`error_per_colour`), merges
        (:func:`merges_of`), clusterings, contrasts (:func:`pair_contrasts`), and findings.
    """
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    for names, _, errors in errors_by_condition(predictions, angles):
        chosen = sets.get(names["dataset"])
        if chosen is None:
            continue
        frame, rgb = named(errors, chosen.names)
        noisy = [level for level in chosen.noise_levels if level > 0]
        ideal = colour_observer(rgb, chosen.geometry, noise_levels=noisy)
        groups = (block["bluish"], block["yellowish"])
        clusters = clusterings(
            frame, rgb, block["categories"], n_permutations=block["n_permutations"], seed=seed
        )
        follows = associations(frame, rgb, ideal, groups)
        agreement = clusters.assign(
            quantity="ari_" + clusters["source"], unit="", estimate=clusters["ari"]
        )
        made = {
            "errors": error_per_colour(frame, rgb, ideal),
            "merges": merges_of(error_distances(frame, list(rgb))),
            "clusterings": clusters,
            "contrasts": pair_contrasts(frame, rgb),
            "findings": join([follows, agreement[list(follows.columns)]]),
        }
        for name, table in made.items():
            found[name].append(labelled(table, names))
    return {name: join(parts) for name, parts in found.items()}


def hue_findings(
    predictions: pd.DataFrame,
    held_out: Mapping[str, Sequence[tuple[float, float]]],
    angles: Sequence[Angle],
) -> pd.DataFrame:
    """Error on hues kept from training minus error on hues seen, under every condition.

    Args:
        predictions: as from :func:`patchwork.tables.gather`.
        held_out: dataset to its arcs of hue; datasets not in it are left out.
        angles: which predicted angle counts, first match.
    """
    parts = []
    for names, _, errors in errors_by_condition(predictions, angles):
        if names["dataset"] in held_out:
            one = hue_generalisation(errors, held_out[names["dataset"]])
            row = {"quantity": "held_out_minus_seen_hues", "unit": "deg", **one.row()}
            parts.append(labelled(pd.DataFrame([row]), names))
    return join(parts)


def _columns(frame: pd.DataFrame, rgb: Mapping[str, RGB]) -> np.ndarray:
    """Columns whose means give every colour's mean error: masked errors, then masks."""
    mask = frame["colour"].to_numpy()[:, None] == np.array(list(rgb))
    return np.concatenate([mask * frame["error_deg"].to_numpy(float)[:, None], mask], axis=1)


def _per_colour(means: np.ndarray) -> np.ndarray:
    errors, shares = np.split(means, 2, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return errors / shares


def _intervals(
    frame: pd.DataFrame,
    rgb: Mapping[str, RGB],
    found: Mapping[str, Statistic],
) -> dict[str, statistics.Interval]:
    """Intervals of statistics of the colours' mean errors, shape (..., colours) to (...)."""
    columns = _columns(frame, rgb)

    return statistics.intervals(
        {name: (columns, _of_means(one)) for name, one in found.items()}, *_seeds_and_images(frame)
    )


def _seeds_and_images(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Seed and image of each row."""
    return frame["seed"].to_numpy(), frame["example"].to_numpy()


def _of_means(statistic: Statistic) -> Statistic:
    return lambda means: statistic(_per_colour(means))


def _pick(i: int) -> Statistic:
    return lambda errors: errors[..., i]


def error_per_colour(
    frame: pd.DataFrame,
    rgb: Mapping[str, RGB],
    ideal_error_deg: Mapping[str, float],
) -> pd.DataFrame:
    """Mean angle error of each colour with its interval over seeds and images.

    Args:
        frame: seed, example, colour (name), error_deg.
        rgb: colour name to channels, 0 to 255.
        ideal_error_deg: colour name to the ideal observer's error, see ``observer``.

    Returns:
        The table ``tables/colour_errors.csv`` of one condition.
    """
    picks = {name: _pick(i) for i, name in enumerate(rgb)}
    counts = frame["colour"].value_counts()
    rows = [
        {
            "colour": name,
            **dict(zip(("red", "green", "blue"), rgb[name], strict=True)),
            "energy": float(signal_energy(np.array(rgb[name]))),
            "error_deg": found.estimate,
            "ci_low": found.low,
            "ci_high": found.high,
            "ideal_error_deg": ideal_error_deg.get(name, np.nan),
            "n": int(counts[name]),
            "seeds": found.clusters,
        }
        for name, found in _intervals(frame, rgb, picks).items()
    ]
    return pd.DataFrame(rows)


def _contrast(names: Sequence[str], more: Sequence[str], less: Sequence[str]) -> np.ndarray:
    return np.array([(n in more) / len(more) - (n in less) / len(less) for n in names])


def _difference(contrast: np.ndarray) -> Statistic:
    return lambda errors: errors @ contrast


def _adjusted(
    names: Sequence[str], groups: Sequence[Sequence[str]], ideal: np.ndarray
) -> np.ndarray:
    """Weights of the difference of two groups' levels, fitted along with a line in the predictor.

    Jointly, so that the line takes nothing of what the groups have beyond it.
    """
    levels = [np.isin(names, group) for group in groups]
    solved = np.linalg.pinv(np.stack([*levels, np.ones(len(names)), ideal], axis=1))
    return solved[0] - solved[1]


def _spearman(predictor: np.ndarray) -> Statistic:
    fixed = stats.rankdata(predictor)
    fixed = (fixed - fixed.mean()) / fixed.std()

    def correlation(errors: np.ndarray) -> np.ndarray:
        ranks = stats.rankdata(errors, axis=-1)
        centred = ranks - ranks.mean(-1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (centred * fixed).mean(-1) / ranks.std(-1)

    return correlation


def associations(
    frame: pd.DataFrame,
    rgb: Mapping[str, RGB],
    ideal_error_deg: Mapping[str, float],
    groups: tuple[Sequence[str], Sequence[str]],
) -> pd.DataFrame:
    """What the colours' errors follow: their energy, the ideal observer, or their hue.

    Args:
        frame: seed, example, colour, error_deg.
        rgb: colour name to channels.
        ideal_error_deg: colour name to the ideal observer's error.
        groups: names of bluish and of yellowish colours.

    Returns:
        Quantities ``bluish_minus_yellowish`` (deg), the same ``_adjusted`` for a straight line in
        the ideal observer's error, fitted jointly (absent where all colours are equally visible),
        and Spearman's ``energy_rank_correlation`` and ``ideal_rank_correlation`` over colours.
    """
    names = list(rgb)
    energy = signal_energy(np.array([rgb[name] for name in names]))
    ideal = np.array([ideal_error_deg[name] for name in names])
    contrast = _contrast(names, *groups)
    contrasts: dict[str, Statistic] = {"bluish_minus_yellowish": lambda errors: errors @ contrast}
    ranked: dict[str, Statistic] = {}
    if np.ptp(ideal) > 0.02 * ideal.mean():
        kept = _adjusted(names, groups, ideal)
        contrasts["bluish_minus_yellowish_adjusted"] = lambda errors: errors @ kept
        ranked["energy_rank_correlation"] = _spearman(energy)
        ranked["ideal_rank_correlation"] = _spearman(ideal)
    rows = [
        {"quantity": name, "unit": "deg", **one.row()}
        for name, one in _intervals(frame, rgb, contrasts).items()
    ]
    columns, labels = _columns(frame, rgb), _seeds_and_images(frame)
    for name, statistic in ranked.items():
        found = statistics.of_rough_means(columns, _of_means(statistic), *labels)
        one = statistics.intervals_of(found, *labels)[0].within(-1, 1)
        rows.append({"quantity": name, "unit": "", **one.row()})
    return pd.DataFrame(rows)


def pair_contrasts(
    frame: pd.DataFrame,
    rgb: Mapping[str, RGB],
) -> pd.DataFrame:
    """Difference of error between every two colours, corrected over all pairs.

    Where energies are equal, a difference is about hue; pairs of equal channels are a null.

    Returns:
        The table ``tables/colour_contrasts.csv`` of one condition; q over the pairs that differ.
    """
    names = list(rgb)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    found = {f"{a}|{b}": _difference(_contrast(names, [a], [b])) for a, b in pairs}
    rows = []
    for key, one in _intervals(frame, rgb, found).items():
        more, less = key.split("|")
        same = tuple(rgb[more]) == tuple(rgb[less])
        rows.append({"more": more, "less": less, "same": same, **one.row(), "p": one.p})
    table = pd.DataFrame(rows)
    tested = ~table["same"] & table["p"].notna()
    table["q"] = np.nan
    if tested.any():
        table.loc[tested, "q"] = statistics.false_discovery_rate(table.loc[tested, "p"].to_numpy())
    return table


def hue_generalisation(
    frame: pd.DataFrame,
    held_out_hues_deg: Sequence[tuple[float, float]],
) -> statistics.Interval:
    """Error on hues kept from training minus error on hues seen.

    Args:
        frame: seed, example, hue_deg, error_deg.
        held_out_hues_deg: arcs [low, high], which may run through 360.

    Returns:
        Degrees, with its interval over seeds and images.
    """
    hue = frame["hue_deg"].to_numpy(float)
    new = in_arcs(hue, held_out_hues_deg)
    error = frame["error_deg"].to_numpy(float)
    columns = np.stack([error * new, new, error * ~new, ~new], axis=1).astype(float)

    def difference(means: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return means[..., 0] / means[..., 1] - means[..., 2] / means[..., 3]

    seeds, images = _seeds_and_images(frame)
    return statistics.interval(columns, seeds, difference, units=images)


def error_distances(frame: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Wasserstein distance between the error distributions of every two colours.

    Args:
        frame: colour, error_deg.
        names: colours, in the order of rows and columns.

    Returns:
        shape (k, k), degrees, symmetric with a zero diagonal.
    """
    samples = [frame.loc[frame["colour"] == name, "error_deg"].to_numpy(float) for name in names]
    distance = np.zeros((len(names), len(names)))
    for i, one in enumerate(samples):
        for j in range(i):
            distance[i, j] = distance[j, i] = stats.wasserstein_distance(one, samples[j])
    return distance


def merges_of(distance: np.ndarray) -> pd.DataFrame:
    """Average-linkage clustering of a distance matrix, shape (k, k): columns `MERGES`."""
    tree = linkage(squareform(distance, checks=False), method="average")
    table = pd.DataFrame(tree, columns=["left", "right", "distance", "size"])
    return table.assign(merge=range(len(table)))[list(MERGES)]


def _labels(distance: np.ndarray, k: int) -> np.ndarray:
    return fcluster(linkage(squareform(distance, checks=False), "average"), k, "maxclust")


def clusterings(
    frame: pd.DataFrame,
    rgb: Mapping[str, RGB],
    categories: Mapping[str, str],
    *,
    n_permutations: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Agreement of clusterings of the colours with the basic categories that people use.

    Trees are cut into as many clusters as there are categories. The null permutes the categories
    over the colours.

    Args:
        frame: seed, colour, error_deg.
        rgb: colour name to channels.
        categories: colour name to basic category.
        n_permutations: of the null.
        seed: of permutations and resamples.

    Returns:
        The table ``tables/colour_clusterings.csv`` of one condition: ``error`` by the distance of
        error distributions, with an interval over seeds; ``error_above_chance``: every index of it
        less the null's 97.5 % quantile; ``rgb``; ``energy``.
    """
    names = list(rgb)
    truth = [categories[name] for name in names]
    k = len(set(truth))
    channels = np.array([rgb[name] for name in names], float)
    energy = signal_energy(channels)
    distances = {
        "error": error_distances(frame, names),
        "rgb": np.linalg.norm(channels[:, None] - channels[None], axis=-1),
        "energy": np.abs(energy[:, None] - energy[None]),
    }
    rng = np.random.Generator(np.random.Philox(seed))
    rows = []
    for source, distance in distances.items():
        labels = _labels(distance, k)
        ari = float(adjusted_rand_score(truth, labels))
        shuffled = (rng.permutation(truth) for _ in range(n_permutations))
        null = np.array([adjusted_rand_score(one, labels) for one in shuffled])
        low, high = np.quantile(null, [0.025, 0.975])
        error = source == "error"
        ends = _ari_interval(frame, names, truth, ari, seed) if error else 4 * (ari,)
        values = (ari, *ends, low, high)
        p = float((1 + (null >= ari - 1e-12).sum()) / (1 + n_permutations))
        rows.append((source, *values, p))
        if error:
            rows.append(("error_above_chance", *(value - high for value in values), p))
    table = pd.DataFrame(rows, columns=list(CLUSTERINGS))
    return table.assign(n=len(frame), seeds=frame["seed"].nunique())


def _ari_interval(
    frame: pd.DataFrame,
    names: Sequence[str],
    truth: Sequence[str],
    estimate: float,
    seed: int,
) -> tuple[float, float, float, float]:
    """Intervals of the agreement: seeds are resampled, then the examples of each colour in them."""
    rng = np.random.Generator(np.random.Philox(seed))
    seeds = frame["seed"].unique()
    cells = {
        (seed, name): part["error_deg"].to_numpy(float)
        for (seed, name), part in frame.groupby(["seed", "colour"])
    }
    k, found = len(set(truth)), []
    for _ in range(_N_RESAMPLES):
        drawn = rng.choice(seeds, len(seeds))
        samples = []
        for name in names:
            parts = [cells[seed, name] for seed in drawn if (seed, name) in cells]
            pool = np.concatenate(parts) if parts else np.array([np.nan])
            samples.append(np.quantile(rng.choice(pool, len(pool)), np.linspace(0.01, 0.99, 50)))
        grid = np.stack(samples)
        if np.isfinite(grid).all():
            distance = np.abs(grid[:, None] - grid[None]).mean(-1)
            found.append(adjusted_rand_score(truth, _labels(distance, k)))
    # Student's t over seeds, or over examples of a single one.
    count = len(seeds) if len(seeds) > 1 else len(frame)
    spread = np.var(found) * count / (count - 1) if 2 * len(found) >= _N_RESAMPLES else np.nan
    error = SamplingError(*(np.array([x], float) for x in (spread, count - 1, 0, np.inf)))
    values = np.array([estimate])
    one = statistics.around(values, error, n=len(frame), clusters=len(seeds))[0].within(-1, 1)
    return one.low, one.high, one.low90, one.high90
