"""Where the numbers of the published ablation come from, over the seeds of a study."""

from patchwork import tables
from patchwork.analysis.heads import competence, released
from patchwork.jobs.log import job_log
from patchwork.statistics.power import planted_of


def main(
    *, inputs: dict, outputs: dict, conditions: list, runs: list, gate: dict, planted: dict
) -> None:
    """`conditions`: those of `predicted`; `runs`: those of `sweeps` and of `scales`, in order."""
    predicted = tables.gather(inputs["predicted"], conditions)
    networks = competence.competence_table(predicted, gate)
    sweeps, scales = (
        competence.competent(tables.gather(inputs[name], runs), networks)
        for name in ("sweeps", "scales")
    )
    findings = released.released_findings(sweeps, scales, planted_of(planted))
    written = {
        "profile": released.profile_table(sweeps),
        "scales": released.scale_table(scales),
        # The networks are those of every protocol; what is released is the way to ablate.
        "findings": findings.assign(protocol="released"),
    }
    for name, table in written.items():
        tables.write(table, outputs[name])


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs={name: list(paths) for name, paths in snakemake.input.items()},
            outputs=dict(snakemake.output.items()),
            **{key: snakemake.params[key] for key in ("conditions", "runs", "gate", "planted")},
        )
