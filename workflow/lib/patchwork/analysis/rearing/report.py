"""All tables of a study of controlled rearing, from measures of its networks and adaptation."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from patchwork.analysis.rearing import adaptation, contrasts
from patchwork.analysis.rearing.contrasts import Outcome
from patchwork.tables import join


def report(
    measured: pd.DataFrame,
    predictions: pd.DataFrame,
    colours: Sequence[str],
    settings: Mapping[str, Any],
    plan: Mapping[str, Any],
) -> dict[str, pd.DataFrame]:
    """Contrast conditions as registered, and beside it what was explored.

    Args:
        measured: of `networks.measure`, with columns condition and seed.
        predictions: of networks adapted to lines, as from :func:`patchwork.tables.gather`.
        colours: names of the label `colour` of the lines, by index.
        settings: the study's block about its conditions.
        plan: the study's registration.

    Returns:
        curves, biases, contrasts, trajectory, optima, lattice, adapted, excluded, findings: tables
        of :mod:`patchwork.analysis.rearing.contrasts` and `adaptation`.
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

    # Contrasts of their biases: at the end, over training, and split into pictures and lattice.
    registered = [Outcome(**one) for one in plan["outcomes"]]
    followed = [Outcome(name, *pair) for pair in pairs for name in settings["trajectory"]]
    contrasted = contrasts.contrast_table(last, plan, pairs)
    lattice = contrasts.lattice_table(last, registered)

    # Places: where the 4-cycle component of each condition lies, and by how much it is turned.
    shifts = contrasts.optimum_shifts(kept, pairs, baseline=settings["untrained"])
    places = contrasts.places_of_optimum(kept)

    # After adaptation to lines.
    adapted = adaptation.adaptation_table(predictions, colours, settings)

    named = "rearing_contrast_" + contrasted["measure"]
    named = named.replace("rearing_contrast_colour_contrast", "colour_rearing_contrast")
    findings = [
        contrasts.findings(contrasted, named),
        contrasts.findings(lattice, lattice["part"] + "_component_" + lattice["measure"]),
        contrasts.findings(shifts, "optimum_shift_" + shifts["measure"]),
        adaptation.kept_findings(adapted),
    ]
    return {
        "curves": contrasts.curve_table(measured),
        "biases": contrasts.condition_table(rows),
        "contrasts": contrasted,
        "trajectory": contrasts.trajectory_table(rows, [*registered, *followed]),
        "optima": join([shifts, places]),
        "lattice": lattice,
        "adapted": adapted,
        "excluded": excluded,
        "findings": join(findings),
    }
