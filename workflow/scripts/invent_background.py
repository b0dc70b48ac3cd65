"""Invent the text that tokenizer and language models start from."""

from patchwork import tables
from patchwork.jobs.log import job_log
from patchwork.language import invented


def main(*, source: dict, background: str) -> None:
    tables.write(invented.background(source, source["background"]["seed"]), background)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(source=snakemake.params.source, background=snakemake.output.background)
