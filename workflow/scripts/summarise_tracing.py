"""Findings and tables of traced and edited networks of a study, over seeds."""

from patchwork import tables
from patchwork.analysis.knowledge import summary
from patchwork.jobs.log import job_log
from patchwork.statistics.power import planted_of


def main(
    *,
    inputs: dict,
    outputs: dict,
    conditions: list[dict],
    edited: list[dict],
    settings: dict,
    planted: dict,
) -> None:
    of_edits = {"edits", "moments"}
    gathered = {
        name: tables.gather(paths, edited if name in of_edits else conditions)
        for name, paths in inputs.items()
        if paths
    }
    found = summary.summarise(gathered, summary.Settings(**settings, controls=planted_of(planted)))
    for name, table in found.items():
        tables.write(table, outputs[name])


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        keys = list(snakemake.input.keys())
        main(
            inputs={key: list(snakemake.input.get(key)) for key in keys},
            outputs=dict(snakemake.output.items()),
            conditions=snakemake.params.conditions,
            edited=snakemake.params.edited,
            settings=snakemake.params.settings | {"layers": snakemake.params.layers},
            planted=snakemake.params.planted,
        )
