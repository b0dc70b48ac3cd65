"""Attention scores of the released scripts, over seeds and the paper's perturbation factors."""

import itertools

import pandas as pd
from patchwork.joblog import job_log
from patchwork.networks import data, tables


def main(*, networks: dict, released: dict, scores: str) -> None:
    kind = networks["kind"]
    drawn = enumerate(data.load(**networks))
    frames = []
    for (index, network), factor in itertools.product(drawn, released["perturbation_factors"]):
        table = tables.released_scores(
            network.weights,
            data.node_features(kind, network, index, factor),
            data.node_targets(kind),
            n_seeds=released["n_seeds"],
            graph_free_epochs=released["graph_free_epochs"],
        )
        frames.append(table.assign(network=index, factor=factor))
    pd.concat(frames, ignore_index=True).to_csv(scores, index=False)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            networks=snakemake.params.networks,
            released=snakemake.params.released,
            scores=snakemake.output.scores,
        )
