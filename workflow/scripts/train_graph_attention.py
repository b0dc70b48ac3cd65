"""Train graph attention on the trajectories of every network; attention per node and seed."""

from patchwork.joblog import job_log
from patchwork.networks import data, tables
from patchwork.networks.graph_attention import AttentionTraining


def main(*, networks: dict, training: dict, n_seeds: int, attention: str) -> None:
    sizes = dict(training, n_conditions=tuple(training["n_conditions"]))
    table = tables.trained_attention(data.load(**networks), AttentionTraining(**sizes), n_seeds)
    table.to_csv(attention, index=False)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            networks=snakemake.params.networks,
            training=snakemake.params.training,
            n_seeds=snakemake.params.n_seeds,
            attention=snakemake.output.attention,
        )
