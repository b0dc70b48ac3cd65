"""All tables of a study of controlled rearing, from measures of its networks and adaptation."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from patchwork.analysis.rearing import adaptation, contrasts, planes
from patchwork.analysis.rearing.contrasts import Outcome
from patchwork.tables import join


def report(
    measured: pd.DataFrame,
    predictions: pd.DataFrame,
    settings: Mapping[str, Any],
    plan: Mapping[str, Any],
) -> dict[str, pd.DataFrame]:
    """Contrast conditions as registered, and beside it what was explored.

    Args:
        measured: of `networks.measure`, with columns condition and seed.
        predictions: of networks adapted to lines, as from :func:`patchwork.tables.gather`.
        settings: the study's block about its conditions.
        plan: the study's registration.

    Returns:
        curves, biases, contrasts, trajectory, planes, adapted, excluded, findings: tables of
        :mod:`patchwork.analysis.rearing.contrasts`, `planes` and `adaptation`.
    """
    # Networks: those that break a registered rule are left out; some are also taken at the epoch
    # at which they were as accurate as those of another condition.
    pairs = [(condition, minus) for condition, minus in settings["pairs"]]
    components = measured[measured["kind"] != "curve"]
    kept, excluded = contrasts.exclude(components, plan["exclusions"]["accuracy_min"])
    for condition, to in settings["matched"]:
        equal = contrasts.at_matched_accuracy(kept, condition, to)
        kept = pd.concat([kept, equal], ignore_index=True)
        pairs += [(name, to) for name in equal["condition"].unique()]
    rows = contrasts.biases(kept)
    last = contrasts.final(rows)

    # Contrasts of their biases: at the end, and over training; and how well planted ones are found.
    registered = [Outcome(**one) for one in plan["outcomes"]]
    followed = [Outcome(name, *pair) for pair in pairs for name in settings["trajectory"]]
    contrasted = contrasts.contrast_table(last, plan, pairs)
    planted = settings["planted"]

    # Whether networks of pictures turned by 22.5 deg lie where the others say.
    turns = settings["turns"]
    plane = planes.plane_table(kept, turns, [one.measure for one in registered])

    # After adaptation to lines.
    biases = adaptation.line_biases(predictions)
    adapted = adaptation.adaptation_table(biases, settings)

    findings = [
        contrasts.findings(contrasted, "rearing_contrast_" + contrasted["measure"]),
        contrasts.planted_findings(last, planted["contrasts"], planted["seed"]),
        contrasts.accuracy_findings(components),
        planes.findings(plane, turns["between"]),
        adaptation.findings(adapted, biases),
    ]
    return {
        "curves": contrasts.curve_table(measured),
        "biases": contrasts.condition_table(rows),
        "contrasts": contrasted,
        "trajectory": contrasts.trajectory_table(rows, [*registered, *followed]),
        "planes": plane,
        "adapted": adapted,
        "excluded": excluded,
        "findings": join(findings),
    }
