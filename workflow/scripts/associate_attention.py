"""Set attention against instability for one data set: correlations, rank profiles, findings."""

import pandas as pd
from patchwork.jobs.log import job_log
from patchwork.networks import association, findings, tables
from patchwork.tables import read as read_table
from patchwork.tables import write


def main(*, inputs: dict[str, str], outputs: dict[str, str], dataset: str, analysis: dict) -> None:
    signings = read_table(inputs.pop("signings"))
    read = {name: read_table(path) for name, path in inputs.items()}
    nodes, seeds = tables.scored_nodes(
        read["nodes"], read["released"], read["attention"], analysis["seed"]
    )
    scores = [*seeds, "out_strength", "random"]
    table = association.associations(nodes, scores)
    summary = tables.summarise(nodes, table, analysis["seed"])
    power = {**analysis["power"], "seed": analysis["seed"]}
    of_signs, effects = findings.of_signings(signings, **power)
    rows = [
        findings.of_networks(nodes, table, summary, seeds, **power),
        findings.of_competence(read["attention"]),
        of_signs,
    ]
    made = {
        "scored": nodes,
        "score_spread": tables.score_spread(read["released"], read["attention"]),
        "summary": summary.assign(dataset=dataset),
        "profiles": association.rank_profiles(
            nodes, scores, ["abscissa_change", "transient_growth_change"]
        ),
        "sign_effects": effects,
        "findings": pd.concat(rows, ignore_index=True).assign(dataset=dataset),
    }
    for name, table in made.items():
        write(table, outputs[name])


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs=dict(snakemake.input.items()),
            outputs=dict(snakemake.output.items()),
            dataset=snakemake.wildcards.dataset,
            analysis=snakemake.params.analysis,
        )
