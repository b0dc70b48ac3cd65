"""Intervals around predicted places of chirps: their coverage, and predictions in words."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from patchwork import statistics
from patchwork.analysis.predictions import long_errors, predicted_labels, unit_of
from patchwork.statistics import conformal
from patchwork.stimuli import LabelAttributes
from patchwork.stimuli.spectrograms import DURATION_S, FREQUENCY_MAX_HZ
from patchwork.tables import CONDITION, conditions, groups, join, labelled

PRESENT = "present"
LEVELS = ("noise_sd", "snr_db")
EVERY = "all"
NO_PROTOCOL = "none"  # of what was not trained
_N_LEVELS = 3  # groups of noise that have half widths of their own
_N_SENTENCES = 20
_CLAUSES = {
    "start_s": ("starts at", "s"),
    "duration_s": ("lasts", "s"),
    "start_hz": ("begins at", "Hz"),
    "end_hz": ("ends at", "Hz"),
}
_MOST = {"s": DURATION_S, "Hz": FREQUENCY_MAX_HZ}  # of the figure, which begins at zero


def targets(frame: pd.DataFrame) -> list[str]:
    """Labels that a frame predicts as numbers: all but presence."""
    return [name for name in predicted_labels(frame) if name != PRESENT]


def conformal_table(
    frame: pd.DataFrame, attributes: Mapping[str, LabelAttributes], coverage: float
) -> pd.DataFrame:
    """Half widths set on images of even index, and their coverage of those of odd index.

    Args:
        frame: predictions of networks and baselines; only images with a chirp count.
        attributes: units of the labels.
        coverage: wanted chance of an interval to cover, between 0 and 1.

    Returns:
        The table ``tables/conformal.csv``. Group ``all``: one half width for every image; other
        groups: a third of the noise levels each, with a half width of its own. Seed ``all``: mean
        half width and coverage over seeds, with the binomial interval of as many trials as there
        are images, for the seeds saw the same ones.
    """
    parts = []
    for names, part in conditions(frame):
        for keys, one in groups(long_errors(part, [PRESENT]), ["target", "seed"]):
            unit = unit_of(attributes, keys["target"])
            head = {**names, "seed": keys["seed"], "target": keys["target"], "unit": unit}
            parts += [labelled(table, head) for table in _covered(one, coverage)]
    table = join(parts)
    columns = [name for name in table if name not in conformal.COLUMNS]
    pooled = [
        {**names, "seed": EVERY, **_pooled(part)}
        for names, part in groups(
            table[table["group"] == conformal.ALL], [*CONDITION, "target", "unit"]
        )
    ]
    both = join([table, pd.DataFrame(pooled)]).assign(wanted=coverage)
    return both[[*columns, "group", "wanted", *conformal.COLUMNS[1:]]]


def _covered(one: pd.DataFrame, coverage: float) -> list[pd.DataFrame]:
    """Coverage of one label and seed: with one half width, and with one per level of noise."""
    calibrates = one["example"].to_numpy() % 2 == 0
    residuals = (one["predicted"] - one["actual"]).to_numpy()
    if calibrates.all():
        raise ValueError("predictions have no image of odd index; allowed is one or more")
    found = [conformal.split_conformal(residuals, calibrates, coverage=coverage)]
    level = next((name for name in LEVELS if name in one and one[name].nunique() > _N_LEVELS), None)
    if level is not None:
        values = one[level].to_numpy(float)
        edges = np.quantile(values[calibrates], np.linspace(0, 1, _N_LEVELS + 1)[1:-1])
        names = _group_names(level, [values.min(), *edges, values.max()])
        groups = np.array(names, dtype=object)[np.searchsorted(edges, values, "right")]
        found.append(
            conformal.split_conformal(residuals, calibrates, coverage=coverage, groups=groups)
        )
    return found


def _group_names(level: str, ends: Sequence[float]) -> list[str]:
    """Names of the groups between neighbouring ends, with as many digits as tell them apart."""
    spans = list(itertools.pairwise(ends))
    for digits in range(3, 18):  # 17 tell any two numbers apart
        names = [f"{level} {a:.{digits}g} to {b:.{digits}g}" for a, b in spans]
        if len(set(names)) == len(set(spans)):
            break
    return names


def _pooled(part: pd.DataFrame) -> dict[str, Any]:
    """One row for all seeds, which share the numbers of images and so the expected range."""
    share, n = float(part["coverage"].mean()), int(part["n"].iloc[0])
    shared = ["group", "expected_low", "expected_high", "n_calibration", "n"]
    return {
        **{name: part[name].iloc[0] for name in shared},
        "half_width": float(part["half_width"].mean()),
        "coverage": share,
        **statistics.binomial_ends(share * n, n),
    }


def sentence_table(frame: pd.DataFrame, covered: pd.DataFrame) -> pd.DataFrame:
    """What networks say of the first images that set no half width, in words.

    Args:
        frame: predictions of networks and baselines.
        covered: as from :func:`conformal_table`.

    Returns:
        The table ``tables/sentences.csv``.
    """
    marginal = covered[covered["group"] == conformal.ALL]
    widths = marginal.set_index([*CONDITION, "seed", "target"])["half_width"]
    parts = []
    for names, part in conditions(frame):
        labels, seed = targets(part), part["seed"].min()
        half = {label: float(widths[(*names.values(), seed, label)]) for label in labels}
        told = part[(part["seed"] == seed) & (part["index"] % 2 == 1)].head(_N_SENTENCES)
        known = [label for label in (*labels, PRESENT) if f"predicted_{label}" in part]
        texts = [
            sentence(
                {label: row[f"predicted_{label}"] for label in known},
                half,
                coverage=float(covered["wanted"].iloc[0]),
            )
            for _, row in told.iterrows()
        ]
        table = told[["seed", "index"]].assign(sentence=texts)
        parts.append(labelled(table, names))
    return join(parts)


def sentence(
    prediction: Mapping[str, float], half_width: Mapping[str, float], *, coverage: float = 0.9
) -> str:
    """One sentence that says what is predicted, and how sure that is.

    Args:
        prediction: label to value (s, Hz); ``present`` 0 means that no chirp is predicted.
        half_width: label to the half width of its interval, in the same unit, >= 0.
        coverage: chance that such an interval covers, between 0 and 1.

    Returns:
        For example ``A chirp starts at 12.3 s (90 % interval 11.0 to 13.6 s) and ends at 40.0 Hz
        (38.5 to 41.5 Hz).``; values and intervals keep to the figure, 0 to 60 s and 0 to 100 Hz,
        and where the estimate does not, the sentence says so.

    Raises:
        ValueError: if nothing that the sentence could say is predicted.
    """
    if prediction.get(PRESENT, 1) == 0:
        return "There is no chirp."
    clauses: list[str] = []
    for label, (words, unit) in _CLAUSES.items():
        if label in prediction:
            which = "" if clauses else f"{100 * coverage:.3g} % interval "
            clauses.append(f"{words} {_span(prediction[label], half_width[label], unit, which)}")
    if not clauses:
        raise ValueError(
            f"prediction has {sorted(prediction)}; allowed is one or more of {', '.join(_CLAUSES)}"
        )
    *most, last = clauses
    return f"A chirp {', '.join(most)} and {last}." if most else f"A chirp {last}."


def _span(value: float, half: float, unit: str, which: str) -> str:
    """A value with its interval, both within the figure, and where the estimate lies outside."""
    low, inside, high = np.clip([value - half, value, value + half], 0, _MOST[unit])
    span = f"{low:.1f} to {high:.1f} {unit}" if np.isfinite(half) else "unknown"
    out = "" if round(abs(value - inside), 1) == 0 else f"; the estimate, {value:.1f}, lies outside"
    return f"{inside:.1f} {unit} ({which}{span}{out})"
