"""Attention scores of the released scripts, over seeds and the paper's perturbation factors."""

import itertools

import pandas as pd
from patchwork.jobs.log import job_log
from patchwork.networks import data, tables
from patchwork.tables import write


def main(*, dataset: dict, graph_free_epochs: int, scores: str) -> None:
    kind = dataset["source"]["kind"]
    drawn = enumerate(data.load(**dataset["source"]))
    frames = []
    for (index, network), factor in itertools.product(drawn, dataset["perturbation_factors"]):
        table = tables.released_scores(
            network.weights,
            data.rewired(network, index).weights,
            data.node_features(kind, network, index, factor),
            data.node_targets(kind),
            n_seeds=dataset["n_released_seeds"],
            graph_free_epochs=graph_free_epochs,
        )
        frames.append(table.assign(network=index, factor=factor))
    write(pd.concat(frames, ignore_index=True), scores)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            dataset=snakemake.params.dataset,
            graph_free_epochs=snakemake.params.graph_free_epochs,
            scores=snakemake.output.scores,
        )
