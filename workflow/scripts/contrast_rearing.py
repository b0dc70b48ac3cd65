"""Contrast rearing conditions as registered beforehand, and biases after adaptation."""

import pandas as pd
from patchwork import tables
from patchwork.analysis.rearing import report
from patchwork.jobs.log import job_log


def main(
    *,
    inputs: dict,
    outputs: dict,
    rearing_conditions: list,
    conditions: list,
    settings: dict,
    plan: dict,
):
    measured = pd.concat(
        [
            tables.read(path).assign(condition=condition)
            for path, condition in zip(inputs["measures"], rearing_conditions, strict=True)
        ],
        ignore_index=True,
    )
    predicted = tables.gather(inputs["predictions"], conditions)
    found = report.report(measured, predicted, settings, plan)
    for name, table in found.items():
        tables.write(table, outputs[name])


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs=dict(snakemake.input.items()),
            outputs=dict(snakemake.output.items()),
            rearing_conditions=snakemake.params.rearing_conditions,
            conditions=snakemake.params.conditions,
            settings=snakemake.params.settings,
            plan=snakemake.params.plan,
        )
