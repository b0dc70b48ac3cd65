"""Trace what the networks of a condition know: patching, minimal sets, the released procedure."""

from pathlib import Path

import torch
from patchwork import tables
from patchwork.analysis.knowledge import network
from patchwork.jobs.log import job_log
from patchwork.language import facts, models, tokens


def main(*, inputs: dict, outputs: dict, seeds: list[int], settings: dict) -> None:
    options = network.Tracing(**settings)
    found: dict[str, list] = {name: [] for name in outputs}
    for i, seed in enumerate(seeds):
        tokenizer = tokens.load(inputs["tokenizers"][i])
        model = models.load(Path(inputs["weights"][i]).parent, tokenizer.get_vocab_size())
        traced = network.trace(model, tokenizer, facts.read(inputs["facts"][i]), options, seed)
        for name, table in traced.items():
            found[name].append(table.assign(seed=seed))
    for name, several in found.items():
        tables.write(tables.join(several), outputs[name])


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        torch.set_num_threads(snakemake.threads)
        keys = list(snakemake.input.keys())
        main(
            inputs={key: list(snakemake.input.get(key)) for key in keys},
            outputs=dict(snakemake.output.items()),
            seeds=snakemake.params.seeds,
            settings=snakemake.params.settings,
        )
