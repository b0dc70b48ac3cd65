"""Fine-tune one backbone on one dataset under one protocol."""

import shutil
from pathlib import Path

import torch
from patchwork import backbones, devices, models, provenance, sources, tasks, training
from patchwork.joblog import job_log


def main(
    *,
    inputs: dict,
    outputs: dict,
    protocol: dict,
    settings: dict,
    seed: int,
    folders: tuple[str, str],
    device: str,
) -> None:
    data, validation = sources.Stored(inputs["train"]), sources.Stored(inputs["validation"])
    backbone = backbones.load(inputs["backbone"])
    targets = tasks.read_targets(protocol["targets"], data.labels, data.image_px)
    network = models.build(backbone, targets, protocol, seed=seed).to(torch.device(device))
    if protocol["adapter"]["kind"] == "none":
        data, validation = (sources.Features(one, network) for one in (data, validation))
    checkpoints, events = map(Path, folders)
    log = training.fit(
        network, data, validation, settings, seed=seed, folder=checkpoints, events=events
    )
    models.check_adapted(network, protocol["adapter"]["kind"])
    record = {
        "settings": {key: value for key, value in protocol.items() if key != "targets"},
        "targets": {name: protocol["targets"][name] for name in targets},
        "training": settings,
        "image_px": backbone.architecture["image_px"],
        "seed": seed,
        "best_epoch": log.best_epoch,
        "backbone": backbone.provenance,
    }
    log.steps.to_parquet(outputs["steps"])
    log.epochs.to_csv(outputs["epochs"], index=False)
    models.save(network, record, outputs["model"])
    shutil.rmtree(checkpoints, ignore_errors=True)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        inputs = dict(snakemake.input.items())
        settings = snakemake.params.training
        data = [provenance.file_sha256(path) for path in inputs.values()]
        key = provenance.settings_digest(
            snakemake.params.protocol, settings, data, snakemake.params.code
        )
        main(
            inputs=inputs,
            outputs=dict(snakemake.output.items()),
            protocol=snakemake.params.protocol,
            settings=settings,
            seed=int(snakemake.wildcards.seed),
            folders=(f"{snakemake.params.checkpoints}/{key}", snakemake.params.events),
            device=device,
        )
