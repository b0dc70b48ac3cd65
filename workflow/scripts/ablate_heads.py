"""Ablate each attention head of one fine-tuned model; one row per head, baseline and image."""

import torch
from patchwork import devices, models, store
from patchwork.analysis import heads
from patchwork.joblog import job_log


def main(
    *,
    test: str,
    backbone: str,
    model: str,
    effects: str,
    settings: dict,
    targets: list,
    device: str,
) -> None:
    network = models.load(model, backbone).to(torch.device(device))
    batch = store.read(test, settings["n_images"])
    how = {key: settings[key] for key in ("baselines", "measure") if key in settings}
    table = heads.ablation(network, batch.images, batch.labels, targets, **how)
    table.to_parquet(effects, index=False)


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
