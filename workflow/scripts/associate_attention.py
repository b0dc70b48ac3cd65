"""Set attention against instability for one data set: correlations, rank profiles, findings."""

import pandas as pd
from patchwork.jobs.log import job_log
from patchwork.networks import association, tables
from patchwork.tables import write


def main(*, inputs: dict[str, str], outputs: dict[str, str], dataset: str, analysis: dict) -> None:
    read = {name: pd.read_csv(path) for name, path in inputs.items()}
    resampling = {"n_resamples": analysis["n_resamples"], "seed": analysis["seed"]}
    nodes, seeds = tables.scored_nodes(
        read["nodes"], read["released"], read["attention"], analysis["seed"]
    )
    scores = [*seeds, "degree", "random"]
    summary = tables.summarise(nodes, scores, **resampling).assign(dataset=dataset)
    profiles = association.rank_profiles(
        nodes, scores, ["abscissa_change", "transient_growth_change"], **resampling
    )
    findings = tables.findings(summary, read["structure"], seeds, resampling)
    spread = tables.score_spread(read["released"], read["attention"])
    made = {
        "scored": nodes,
        "score_spread": spread,
        "summary": summary,
        "profiles": profiles,
        "findings": findings.assign(dataset=dataset),
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
