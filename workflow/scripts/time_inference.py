"""Time passes over the same test images with the networks of all seeds of a condition."""

import torch
from patchwork import devices, evaluation, sources
from patchwork.joblog import job_log


def main(*, test: str, files: list, seeds: list, timings: str, settings: dict, device: str) -> None:
    source = sources.Stored(test)
    table = evaluation.of_seeds(
        lambda network: evaluation.time_passes(network, source, **settings), files, seeds, device
    )
    table.to_csv(timings, index=False)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            test=snakemake.input.test,
            files=list(zip(snakemake.input.tuned, snakemake.input.backbones, strict=True)),
            seeds=snakemake.params.seeds,
            timings=snakemake.output.timings,
            settings=snakemake.params.settings,
            device=device,
        )
