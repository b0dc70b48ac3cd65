"""Ablate each attention head of the networks of all seeds; one row per head, baseline and image."""

import torch
from patchwork import tables
from patchwork.analysis.heads import effects as head_effects
from patchwork.data import store
from patchwork.jobs import devices
from patchwork.jobs.log import job_log
from patchwork.training import evaluation


def main(
    *,
    test: str,
    files: list,
    seeds: list,
    effects: str,
    settings: dict,
    targets: list,
    device: str,
) -> None:
    batch = store.read(test, settings["n_images"])
    how = {key: settings[key] for key in ("baselines", "measure") if key in settings}
    table = evaluation.of_seeds(
        lambda network: head_effects.ablation(network, batch.images, batch.labels, targets, **how),
        files,
        seeds,
        device,
    )
    tables.write(table, effects)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            test=snakemake.input.test,
            files=list(zip(snakemake.input.tuned, snakemake.input.backbones, strict=True)),
            seeds=snakemake.params.seeds,
            effects=snakemake.output.effects,
            settings=snakemake.params.settings,
            targets=snakemake.params.targets,
            device=device,
        )
