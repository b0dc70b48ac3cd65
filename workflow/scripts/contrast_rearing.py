"""Contrast rearing conditions as registered beforehand, and biases after adaptation."""

from pathlib import Path

import pandas as pd
from patchwork import tables
from patchwork.analysis.rearing import report
from patchwork.data import store
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
            pd.read_csv(path).assign(condition=condition)
            for path, condition in zip(inputs["measures"], rearing_conditions, strict=True)
        ],
        ignore_index=True,
    )
    predicted = tables.gather(inputs["predictions"], conditions)
    colours = named_colours(inputs["tests"], settings["coloured"])
    found = report.report(measured, predicted, colours, settings, plan)
    for name, table in found.items():
        tables.write(table, outputs[name])


def named_colours(tests: list[str], coloured: list[str]) -> tuple[str, ...]:
    """Names of the colours of lines by index, in the datasets that have several."""
    for path in tests:
        if Path(path).parts[-3] in coloured:
            with store.Reader(path) as reader:
                return reader.label_attributes["colour"].names
    return ()


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
