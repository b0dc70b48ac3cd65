"""Compare every head between tasks, and with the untouched backbone, on the same images."""

import torch
from patchwork import backbones, devices, models, store
from patchwork.analysis import heads
from patchwork.joblog import job_log


def main(
    *,
    probe: str,
    backbone: str,
    tuned: list,
    similarity: str,
    datasets: list,
    n_images: int,
    device: str,
) -> None:
    place = torch.device(device)
    networks = {
        name: models.load(path, backbone).to(place)
        for name, path in zip(datasets, tuned, strict=True)
    }
    untouched = backbones.load(backbone).encoder.to(place)
    images = store.read(probe, n_images).images
    heads.similarities(networks, untouched, images).to_csv(similarity, index=False)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            probe=snakemake.input.probe,
            backbone=snakemake.input.backbone,
            tuned=list(snakemake.input.tuned),
            similarity=snakemake.output.similarity,
            datasets=snakemake.params.datasets,
            n_images=snakemake.params.settings["n_images"],
            device=device,
        )
