"""Train graph attention on the trajectories of every network; attention per node and seed."""

from patchwork.jobs.log import job_log
from patchwork.networks import data, tables
from patchwork.networks.graph_attention import AttentionTraining
from patchwork.tables import write


def main(*, dataset: dict, training: dict, attention: str) -> None:
    sizes = dict(training, n_conditions=tuple(training["n_conditions"]))
    networks = data.load(**dataset["source"])
    settings = AttentionTraining(**sizes)
    table = tables.trained_attention(networks, settings, dataset["n_trained_seeds"])
    write(table, attention)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            dataset=snakemake.params.dataset,
            training=snakemake.params.training,
            attention=snakemake.output.attention,
        )
