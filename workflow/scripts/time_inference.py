"""Time passes over the same test images with the networks of all seeds of a condition."""

import pandas as pd
import torch
from patchwork import devices, evaluation, models, sources
from patchwork.joblog import Progress, job_log


def main(
    *,
    test: str,
    backbones: list,
    tuned: list,
    seeds: list,
    timings: str,
    settings: dict,
    device: str,
) -> None:
    progress, parts = Progress("seeds", len(tuned)), []
    for backbone, model, seed in zip(backbones, tuned, seeds, strict=True):
        network = models.load(model, backbone).to(torch.device(device))
        timed = evaluation.time_passes(network, sources.Stored(test), **settings)
        parts.append(timed.assign(seed=seed))
        progress.step(len(parts))
    pd.concat(parts, ignore_index=True).to_csv(timings, index=False)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            test=snakemake.input.test,
            backbones=list(snakemake.input.backbones),
            tuned=list(snakemake.input.tuned),
            seeds=snakemake.params.seeds,
            timings=snakemake.output.timings,
            settings=snakemake.params.settings,
            device=device,
        )
