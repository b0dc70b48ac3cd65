"""Time passes over the same test images with the networks of all seeds of a condition."""

import torch
from patchwork import tables
from patchwork.analysis.chirps.localisation import timing_findings
from patchwork.data import sources
from patchwork.jobs import devices
from patchwork.jobs.log import job_log
from patchwork.training import evaluation


def main(
    *,
    test: str,
    files: list,
    seeds: list,
    outputs: dict,
    condition: dict,
    settings: dict,
    device: str,
) -> None:
    source = sources.Stored(test)
    passes = evaluation.of_seeds(
        lambda network: evaluation.time_passes(network, source, **settings),
        files,
        seeds,
        device,
    )
    tables.write(passes, outputs["timings"])
    found = timing_findings(passes.assign(**condition))
    tables.write(found, outputs["findings"])


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            test=snakemake.input.test,
            files=list(zip(snakemake.input.tuned, snakemake.input.backbones, strict=True)),
            seeds=snakemake.params.seeds,
            outputs=dict(snakemake.output.items()),
            condition={key: snakemake.wildcards[key] for key in tables.CONDITION},
            settings=snakemake.params.settings,
            device=device,
        )
