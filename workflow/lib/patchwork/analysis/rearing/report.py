"""All tables of a study of controlled rearing, from measures of its networks and adaptation."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from patchwork.analysis.rearing import adaptation, condition_contrasts, summaries
from patchwork.analysis.rearing.condition_contrasts import Outcome
from patchwork.statistics import Resampling
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
        measured: of `arm_measures.measure`, with columns condition and seed.
        predictions: of networks adapted to lines, as from :func:`patchwork.tables.gather`.
        colours: names of the label `colour` of the lines, by index.
        settings: the study's block about its conditions.
        plan: the study's registration.

    Returns:
        curves, biases, contrasts, trajectory, optima, lattice, adapted, excluded, findings: tables
        of :mod:`patchwork.analysis.rearing.summaries`, `rearing_contrasts` and
        `rearing_adaptation`.

    Raises:
        ValueError: for a registration that is impossible.
    """
    registered = condition_contrasts.read_preregistration(plan)
    resampling = Resampling(settings["n_resamples"], seed=settings["seed"])
    pairs = [(condition, minus) for condition, minus in settings["pairs"]]
    components = measured[measured["kind"] != "curve"]
    kept, excluded = condition_contrasts.exclude(components, registered)
    for condition, to in settings["matched"]:
        equal = summaries.at_matched_accuracy(kept, condition, to)
        kept = pd.concat([kept, equal], ignore_index=True)
        pairs += [(name, to) for name in equal["condition"].unique()]
    contrasts = condition_contrasts.contrast_table(kept, registered, pairs)
    shifts = summaries.optimum_shifts(
        kept, pairs, baseline=settings["untrained"], resampling=resampling
    )
    lattice = summaries.lattice_table(kept, registered.outcomes)
    adapted = adaptation.adaptation_table(predictions, colours, settings)
    followed = [Outcome(name, *pair) for pair in pairs for name in settings["trajectory"]]
    return {
        "curves": summaries.curve_table(measured),
        "biases": summaries.condition_table(kept),
        "contrasts": contrasts,
        "trajectory": summaries.trajectory_table(kept, [*registered.outcomes, *followed]),
        "optima": join([shifts, summaries.places_of_optimum(kept, resampling=resampling)]),
        "lattice": lattice,
        "adapted": adapted,
        "excluded": excluded,
        "findings": join(
            [
                condition_contrasts.findings(contrasts),
                summaries.pair_findings(lattice, lattice["part"] + "_component_"),
                summaries.pair_findings(shifts, "optimum_shift_"),
                adaptation.kept_findings(adapted),
            ]
        ),
    }
