"""Where the numbers of the published ablation come from, over the seeds of a study."""

from patchwork import tables
from patchwork.analysis.heads import released
from patchwork.jobs.log import job_log


def main(*, inputs: dict, outputs: dict, runs: list) -> None:
    """`runs`: those of `sweeps` and of `scales`, in order."""
    sweeps = tables.gather(inputs["sweeps"], runs)
    scales = tables.gather(inputs["scales"], runs)
    written = {
        "profile": released.profile_table(sweeps),
        "scales": released.scale_table(scales),
        # The networks are those of every protocol; what is released is the way to ablate.
        "findings": released.released_findings(sweeps, scales).assign(protocol="released"),
    }
    for name, table in written.items():
        tables.write(table, outputs[name])


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs={name: list(paths) for name, paths in snakemake.input.items()},
            outputs=dict(snakemake.output.items()),
            runs=snakemake.params.runs,
        )
