"""Measure the orientation and colour bias of the frozen networks of one rearing condition."""

import pandas as pd
import torch
from patchwork import tables
from patchwork.analysis.rearing import network_probes
from patchwork.jobs import devices
from patchwork.jobs.log import Progress, job_log


def main(
    *,
    pretrained: list[str],
    snapshots: list[str],
    followed: bool,
    seeds: list[int],
    image_px: int,
    settings: dict,
    measures: str,
    device: str,
) -> None:
    images = network_probes.draw_probes(settings, image_px)
    progress, parts = Progress("networks", len(pretrained)), []
    for done, (path, kept, seed) in enumerate(zip(pretrained, snapshots, seeds, strict=True), 1):
        for stage in network_probes.stages(path, kept, settings["accuracy"]):
            if not followed and not stage.last:
                continue
            stage.backbone.encoder.eval().to(torch.device(device))
            parts.append(network_probes.measure(stage, images).assign(seed=seed))
        progress.step(done)
    tables.write(pd.concat(parts, ignore_index=True), measures)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            pretrained=list(snakemake.input.pretrained),
            snapshots=list(snakemake.input.snapshots),
            followed=snakemake.wildcards.backbone in snakemake.params.settings["followed"],
            seeds=snakemake.params.seeds,
            image_px=snakemake.params.image_px,
            settings=snakemake.params.settings,
            measures=snakemake.output.measures,
            device=device,
        )
