"""Contrast reared arms as registered beforehand, and what adaptation keeps of their biases."""

import pandas as pd
from patchwork import store, tables
from patchwork.analysis import arm_adaptation, arm_contrasts, arm_tables
from patchwork.joblog import job_log
from patchwork.statistics import Resampling


def main(*, inputs: dict, outputs: dict, arms: list, conditions: list, settings: dict, plan: dict):
    registered = arm_contrasts.read_preregistration(plan)
    resampling = Resampling(settings["n_resamples"], seed=settings["seed"])
    pairs = [tuple(pair) for pair in settings["pairs"]]
    measured = pd.concat(
        [
            pd.read_csv(path).assign(arm=arm)
            for path, arm in zip(inputs["measures"], arms, strict=True)
        ],
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
    adapted = arm_adaptation.adaptation_table(
        tables.gather(inputs["predictions"], conditions),
        frozen,
        named_colours(inputs["tests"]),
        settings,
    )
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
                arm_adaptation.kept_findings(adapted),
            ]
        ),
    }
    for name, table in written.items():
        table.to_csv(outputs[name], index=False)


def named_colours(tests: list[str]) -> tuple[str, ...]:
    """Names of the colours of lines, by index."""
    for path in tests:
        with store.Reader(path) as reader:
            if reader.label_attributes["colour"].names:
                return reader.label_attributes["colour"].names
    return ()


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
