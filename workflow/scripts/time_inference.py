"""Time passes over the same test images with the networks of all seeds of a condition."""

import torch
from patchwork import tables
from patchwork.analysis.chirps.timing import timing_findings
from patchwork.data import sources
from patchwork.jobs import devices
from patchwork.jobs.log import job_log
from patchwork.statistics.power import planted_of
from patchwork.training import evaluation


def main(
    *,
    test: str,
    files: list,
    seeds: list,
    outputs: dict,
    condition: dict,
    settings: dict,
    planted: dict,
    device: str,
) -> None:
    source = sources.Stored(test)
    passes = evaluation.of_seeds(
        lambda network: evaluation.time_passes(network, source, **settings),
        files,
        seeds,
        device,
    )
    named = passes.assign(**condition)
    tables.write(named, outputs["timings"])
    tables.write(timing_findings(named, planted_of(planted)), outputs["findings"])


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        # One, however many the job holds: it holds them so that nothing else runs.
        torch.set_num_threads(1)
        main(
            test=snakemake.input.test,
            files=list(zip(snakemake.input.tuned, snakemake.input.backbones, strict=True)),
            outputs=dict(snakemake.output.items()),
            **{key: snakemake.params[key] for key in ("seeds", "condition", "settings", "planted")},
            device=device,
        )
