"""Decide every claim from the findings of all studies."""

from patchwork import claims, tables
from patchwork.jobs.log import job_log


def main(
    *,
    findings: list[str],
    studies: list[str],
    stated: dict,
    amendments: list,
    seeds: dict,
    path: str,
) -> None:
    parts = [tables.read(file).assign(study=s) for file, s in zip(findings, studies, strict=True)]
    tables.write(claims.decide(stated, tables.join(parts), amendments, seeds), path)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            findings=list(snakemake.input.findings),
            studies=snakemake.params.studies,
            stated=snakemake.params.claims,
            amendments=snakemake.params.amendments,
            seeds=snakemake.params.seeds,
            path=snakemake.output.claims,
        )
