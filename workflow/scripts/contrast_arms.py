"""Contrast reared arms as registered beforehand, and what adaptation keeps of their biases."""

import pandas as pd
from patchwork import store, tables
from patchwork.analysis import arm_contrasts, arm_tables, errors
from patchwork.joblog import job_log
from patchwork.statistics import Resampling


def main(*, inputs: dict, outputs: dict, arms: list, conditions: list, settings: dict, plan: dict):
    registered = arm_contrasts.read_preregistration(plan)
    resampling = Resampling(settings["n_resamples"], seed=settings["seed"])
    pairs = [tuple(pair) for pair in settings["pairs"]]
    measured = pd.concat(
        [pd.read_csv(path).assign(arm=arm) for path, arm in zip(inputs["measures"], arms, strict=True)],
        ignore_index=True,
    )
    measured["component"] = measured["component"].fillna("")
    components = measured[measured["kind"] != "curve"]
    kept, excluded = arm_contrasts.exclude(components, registered)
    contrasts = arm_contrasts.contrast_table(kept, registered, pairs)
    shifts = arm_tables.optimum_shifts(
        kept, pairs, baseline=settings["untrained"], resampling=resampling
    )
    lattice = arm_tables.lattice_table(kept, registered.outcomes)
    frozen = arm_contrasts.final(arm_contrasts.biases(kept))
    adapted = adaptation(inputs, conditions, settings, frozen)
    outcomes = [arm_contrasts.Outcome(m, *pair) for pair in pairs for m in settings["trajectory"]]
    written = {
        "curves": arm_tables.curve_table(measured),
        "biases": arm_tables.arm_table(kept),
        "contrasts": contrasts,
        "trajectory": arm_tables.trajectory_table(kept, [*registered.outcomes, *outcomes]),
        "optima": tables.join([shifts, arm_tables.places_of_optimum(kept, resampling=resampling)]),
        "lattice": lattice,
        "adapted": adapted,
        "excluded": excluded,
        "findings": tables.join(
            [
                arm_contrasts.findings(contrasts),
                arm_tables.lattice_findings(lattice),
                arm_tables.shift_findings(shifts),
                arm_tables.kept_findings(adapted),
            ]
        ),
    }
    for name, table in written.items():
        table.to_csv(outputs[name], index=False)


def adaptation(inputs: dict, conditions: list, settings: dict, frozen: pd.DataFrame):
    """What is left of orientation and colour biases after fitting to lines."""
    predicted = tables.gather(inputs["predictions"], conditions)
    names: dict = {}
    for path in inputs["tests"]:
        with store.Reader(path) as reader:
            names |= {key: value.names for key, value in reader.label_attributes.items()}
    parts = []
    for one, part in tables.conditions(predicted):
        angle = errors.angle_of(part, [errors.Angle("orientation_deg", 180.0)])
        parts.append(tables.labelled(errors.angle_errors(part, angle), one))
    found = tables.join(parts)
    coloured = found["dataset"].isin(settings["coloured"])
    sides = []
    for measure, biases in (
        (settings["line_error"], arm_tables.components_per_run(found[~coloured])),
        (
            "colour_contrast",
            arm_tables.colour_biases(
                found[coloured], names.get("colour", ()), settings["bluish"], settings["yellowish"]
            ),
        ),
    ):
        before = frozen[frozen["measure"] == measure]
        left = arm_tables.kept_after_tuning(before, biases, settings["pairs"])
        sides.append(left.assign(measure=measure))
    return tables.join(sides)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs=dict(snakemake.input.items()),
            outputs=dict(snakemake.output.items()),
            arms=snakemake.params.arms,
            conditions=snakemake.params.conditions,
            settings=snakemake.params.settings,
            plan=snakemake.params.plan,
        )
