"""Read-out vectors of a frozen encoder that all seeds of a condition share, once for all."""

import torch
from patchwork.data import sources
from patchwork.data.tensors import write_tensors
from patchwork.jobs import devices
from patchwork.jobs.log import job_log
from patchwork.models import backbones, fine_tuned


def main(*, images: dict, backbone: str, protocol: dict, features: str, device: str) -> None:
    """`images`: a file by the name of its role in training."""
    loaded = backbones.load(backbone)
    network = fine_tuned.build(loaded, {}, protocol, seed=0).to(torch.device(device))
    vectors = {
        name: sources.read_out(sources.Stored(path), network) for name, path in images.items()
    }
    write_tensors(vectors, {"backbone": loaded.provenance}, features)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            images={name: snakemake.input[name] for name in ("train", "validation")},
            backbone=snakemake.input.backbone,
            protocol=snakemake.params.protocol,
            features=snakemake.output.features,
            device=device,
        )
