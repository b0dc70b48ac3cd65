"""Edit facts of the networks of a condition at every layer, one at a time."""

from pathlib import Path

import torch
from patchwork import tables
from patchwork.analysis.knowledge import network
from patchwork.jobs.log import job_log
from patchwork.language import abstracts, facts, models, tokens


def main(*, inputs: dict, outputs: dict, seeds: list[int], settings: dict) -> None:
    options = network.Editing(**settings)
    known = tables.read(inputs["known"])
    found: dict[str, list] = {name: [] for name in outputs}
    for i, seed in enumerate(seeds):
        tokenizer = tokens.load(inputs["tokenizers"][i])
        model = models.load(Path(inputs["weights"][i]).parent, tokenizer.get_vocab_size())
        edited = network.edit(
            model, tokenizer, facts.read(inputs["facts"][i]), known[known["seed"] == seed],
            abstracts.texts(tables.read(inputs["abstracts"][i])), options, seed,
        )  # fmt: skip
        for name, table in edited.items():
            found[name].append(table.assign(seed=seed))
    for name, several in found.items():
        tables.write(tables.join(several), outputs[name])


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        torch.set_num_threads(snakemake.threads)
        main(
            inputs=dict(snakemake.input.items()),
            outputs=dict(snakemake.output.items()),
            seeds=snakemake.params.seeds,
            settings=snakemake.params.settings,
        )
