"""Write the data card of a dataset from its files."""

from pathlib import Path

from patchwork.data import datacard
from patchwork.jobs.log import job_log


def main(*, splits: dict[str, str], named: dict[str, str], card: str) -> None:
    measured = {name: datacard.measure(path) for name, path in splits.items()}
    text = datacard.card(measured, datacard.Named(**named))
    Path(card).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            splits=dict(snakemake.input.items()),
            named=snakemake.params.named,
            card=snakemake.output.card,
        )
