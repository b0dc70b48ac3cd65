"""Pre-train a small GPT-2 on text that holds none of the tested facts."""

import shutil
from pathlib import Path

import torch
from patchwork import tables
from patchwork.jobs import devices, provenance
from patchwork.jobs.log import job_log
from patchwork.language import learning, models, tokens


def main(
    *, inputs: dict, outputs: dict, backbone: dict, share: float, seed: int,
    folders: tuple[str, str], device: str,
) -> None:  # fmt: skip
    tokenizer = tokens.load(inputs["tokenizer"])
    frame = tables.read(inputs["texts"])
    model = models.new(
        backbone["architecture"], tokenizer.get_vocab_size(), tokens.end_of(tokenizer), seed=seed
    )
    log = learning.train(
        model.to(torch.device(device)), tokenizer, list(frame["text"]), backbone["pretraining"],
        layout="padded", padding_counts=False, validation_share=share, seed=seed, folders=folders,
    )  # fmt: skip
    tables.write(log.steps, outputs["steps"])
    tables.write(log.epochs, outputs["epochs"])
    models.save(model, Path(outputs["weights"]).parent)
    shutil.rmtree(folders[0], ignore_errors=True)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        inputs = dict(snakemake.input.items())
        seen = [provenance.file_sha256(path) for path in inputs.values()]
        key = provenance.settings_digest(snakemake.params.backbone, seen, snakemake.params.code)
        main(
            inputs=inputs,
            outputs=dict(snakemake.output.items()),
            backbone=snakemake.params.backbone,
            share=snakemake.params.share,
            seed=int(snakemake.wildcards.seed),
            folders=(f"{snakemake.params.checkpoints}/{key}", snakemake.params.events),
            device=device,
        )
