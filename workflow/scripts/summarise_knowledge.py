"""Shares of facts known, perplexities and counted words of a study, with intervals."""

from patchwork import tables
from patchwork.jobs.log import job_log
from patchwork.language import summary


def main(*, inputs: dict, conditions: list[dict], mentions: dict[str, dict], findings: str) -> None:
    known, losses = (tables.gather(inputs[key], conditions) for key in ("knowledge", "losses"))
    parts = [summary.findings(known, losses)]
    for (name, words), path in zip(mentions.items(), inputs["fetched"], strict=True):
        parts.append(summary.mention_counts(tables.read(path), words).assign(dataset=name))
    tables.write(tables.join(parts), findings)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs={
                key: list(snakemake.input.get(key, []))
                for key in ("knowledge", "losses", "fetched")
            },
            conditions=snakemake.params.conditions,
            mentions=snakemake.params.mentions,
            findings=snakemake.output.findings,
        )
