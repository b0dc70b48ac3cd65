"""Fine-tune one backbone on one dataset under one protocol."""

import shutil
from pathlib import Path

import torch
from patchwork import tables
from patchwork.data import sources
from patchwork.data.tensors import read_tensors
from patchwork.jobs import devices, provenance
from patchwork.jobs.log import job_log
from patchwork.models import backbones, fine_tuned, tasks
from patchwork.training import distributed, trainer


def main(
    inputs: dict,
    outputs: dict,
    protocol: dict,
    settings: dict,
    seed: int,
    folders: tuple[str, str],
    device: str,
    n_processes: int = 1,
    workers: int = 0,
) -> None:
    # Asked first, so that with several processes each finds its own device.
    writes = n_processes == 1 or distributed.is_main_process()
    data, validation = (sources.Stored(inputs[x], workers) for x in ("train", "validation"))
    backbone = backbones.load(inputs["backbone"])
    targets = tasks.read_targets(protocol["targets"], data.labels, data.image_px)
    network = fine_tuned.build(backbone, targets, protocol, seed=seed).to(torch.device(device))
    if protocol["adapter"]["kind"] == "none":
        # Of an encoder that all seeds share they were read once.
        kept = read_tensors(inputs["features"])[0] if "features" in inputs else {}
        data = sources.Features(data, network, kept.get("train"))
        validation = sources.Features(validation, network, kept.get("validation"))
    checkpoints, events = map(Path, folders)
    log = trainer.fit(
        network, data, validation, settings, seed=seed, folder=checkpoints, events=events
    )
    fine_tuned.check_adapted(network, protocol["adapter"]["kind"])
    if not writes:
        return
    record = {
        "settings": {key: value for key, value in protocol.items() if key != "targets"},
        "targets": {name: protocol["targets"][name] for name in targets},
        "training": settings,
        "image_px": backbone.architecture["image_px"],
        "seed": seed,
        "best_epoch": log.best_epoch,
        "precision": log.precision,
        "backbone": backbone.provenance,
    }
    tables.write(log.steps, outputs["steps"])
    tables.write(log.epochs, outputs["epochs"])
    fine_tuned.save(network, record, outputs["model"])
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
        folders = (f"{snakemake.params.checkpoints}/{key}", snakemake.params.events)
        seed = int(snakemake.wildcards.seed)
        outputs, protocol = dict(snakemake.output.items()), snakemake.params.protocol
        n = max(1, snakemake.resources.gpu)
        # A GPU outruns one reader; on a CPU every thread is needed to compute.
        workers = (snakemake.threads - 1) // n if device == "cuda" else 0
        arguments = (inputs, outputs, protocol, settings, seed, folders, device, n, workers)
        distributed.launch(main, arguments, n)
