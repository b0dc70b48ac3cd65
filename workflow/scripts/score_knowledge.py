"""Ask the networks of a condition every fact; how well they predict texts kept back."""

from pathlib import Path

import torch
from patchwork import tables
from patchwork.jobs import devices
from patchwork.jobs.log import job_log
from patchwork.language import abstracts, facts, known, learning, models, tokens

INPUTS = ("facts", "abstracts", "tokenizers", "weights")


def main(*, inputs: dict, outputs: dict, seeds: list[int], share: float, device: str) -> None:
    answered, losses = [], []
    for i, seed in enumerate(seeds):
        tokenizer = tokens.load(inputs["tokenizers"][i])
        folder = Path(inputs["weights"][i]).parent
        model = models.load(folder, tokenizer.get_vocab_size()).to(torch.device(device))
        asked = facts.read(inputs["facts"][i])
        answered.append(known.knowledge(model, asked, tokenizer).assign(seed=seed))
        texts = abstracts.texts(tables.read(inputs["abstracts"][i]))
        held = [texts[j] for j in learning.held_out(len(texts), share, seed)[1]]
        context = model.config.n_positions
        losses.append(known.text_losses(model, held, tokenizer, context).assign(seed=seed))
    tables.write(tables.join(answered), outputs["knowledge"])
    tables.write(tables.join(losses), outputs["losses"])


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        inputs = {key: list(snakemake.input[key]) for key in INPUTS}
        main(
            inputs=inputs,
            outputs=dict(snakemake.output.items()),
            seeds=snakemake.params.seeds,
            share=snakemake.params.share,
            device=device,
        )
