"""Join the shards of a dataset into one file."""

from patchwork.data import store
from patchwork.jobs.log import job_log


def main(*, shards: list[str], dataset: str) -> None:
    store.merge(shards, dataset)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(shards=list(snakemake.input.shards), dataset=snakemake.output.dataset)
