"""Run the published procedure of zeroing weights, and each step from it to exact ablation."""

import torch
from patchwork import tables
from patchwork.analysis.heads import released
from patchwork.data import store
from patchwork.jobs import devices
from patchwork.jobs.log import job_log
from patchwork.models import fine_tuned


def main(
    *,
    test: str,
    backbone: str,
    model: str,
    sweeps: str,
    scales: str,
    settings: dict,
    targets: list,
    device: str,
) -> None:
    network = fine_tuned.load(model, backbone).to(torch.device(device))
    batch = store.read(test, settings["n_images"])
    given = (network, batch.images, batch.labels, targets)
    swept = released.decompose(
        *given, n_random=settings["n_random_orders"], batch_size=settings["batch_size"]
    )
    tables.write(swept, sweeps)
    tables.write(released.label_scales(*given), scales)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            **snakemake.input,
            **snakemake.output,
            settings=snakemake.params.settings,
            targets=snakemake.params.targets,
            device=device,
        )
