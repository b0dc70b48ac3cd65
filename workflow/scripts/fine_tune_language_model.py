"""Fine-tune a language model on abstracts under one protocol; what it then knows."""

import shutil
from pathlib import Path

import torch
from patchwork import tables
from patchwork.jobs import devices, provenance
from patchwork.jobs.log import job_log
from patchwork.language import abstracts, learning, models, tokens


def main(
    *, inputs: dict, outputs: dict, protocol: dict, training: dict, share: float, seed: int,
    folders: tuple[str, str], device: str,
) -> None:  # fmt: skip
    tokenizer = tokens.load(inputs["tokenizer"])
    model = models.load(Path(inputs["weights"]).parent, tokenizer.get_vocab_size())
    model = model.to(torch.device(device))
    adapted = models.adapted(model, protocol["adapter"], seed=seed)
    log = learning.train(
        adapted, tokenizer, abstracts.texts(tables.read(inputs["abstracts"])), training,
        layout=protocol["layout"], padding_counts=protocol["padding_counts"],
        validation_share=share, seed=seed, folders=folders,
    )  # fmt: skip
    tables.write(log.steps, outputs["steps"])
    tables.write(log.epochs, outputs["epochs"])
    models.save(models.merged(adapted), Path(outputs["weights"]).parent)
    shutil.rmtree(folders[0], ignore_errors=True)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        inputs, settings = dict(snakemake.input.items()), snakemake.params
        seen = [provenance.file_sha256(path) for path in inputs.values()]
        key = provenance.settings_digest(
            settings.protocol, settings.training, settings.share, seen, settings.code
        )
        main(
            inputs=inputs,
            outputs=dict(snakemake.output.items()),
            protocol=settings.protocol,
            training=settings.training,
            share=settings.share,
            seed=int(snakemake.wildcards.seed),
            folders=(f"{settings.checkpoints}/{key}", settings.events),
            device=device,
        )
