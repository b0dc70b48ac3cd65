"""Fetch abstracts from PubMed, or read those of a local table."""

import os

from patchwork import tables
from patchwork.jobs.log import job_log
from patchwork.language import abstracts, pubmed


def main(*, source: dict, table: list[str], parts: str, output: str) -> None:
    """`table`: the local file, if the source is one."""
    if source["kind"] == "file":
        found = abstracts.read(table[0])
    else:
        found = pubmed.fetch(
            pubmed.Query(source["query"], source["from_day"], source["to_day"], source["n_max"]),
            pubmed.Access.of(os.environ),
            parts,
        )
    tables.write(found, output)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            source=snakemake.params.source,
            table=[str(path) for path in snakemake.input],
            parts=snakemake.params.parts,
            output=snakemake.output.abstracts,
        )
