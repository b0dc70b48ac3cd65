"""Score the predictions of every run of a study, beside a constant predictor."""

from patchwork import tables
from patchwork.analysis.predictions import metric_tables
from patchwork.data import store
from patchwork.jobs.log import job_log


def main(
    *, predictions: list[str], conditions: list[dict], tests: list[str], outputs: dict
) -> None:
    frame = tables.gather(predictions, conditions)
    attributes: dict = {}
    for path in tests:
        with store.Reader(path) as reader:
            attributes |= reader.label_attributes
    metrics = metric_tables(frame, attributes)
    tables.write(metrics, outputs["metrics"])
    found = metrics.assign(quantity=metrics["target"] + "_" + metrics["metric"])
    tables.write(found[list(tables.FINDINGS)], outputs["findings"])


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            predictions=list(snakemake.input.predictions),
            conditions=snakemake.params.conditions,
            tests=list(snakemake.input.tests),
            outputs=dict(snakemake.output.items()),
        )
