"""Look for phase transitions in the loss of every run of a study."""

import pandas as pd
from patchwork import tables
from patchwork.analysis.biases import transitions
from patchwork.jobs.log import Progress, job_log


def main(*, inputs: dict, outputs: dict, runs: list[dict], block: dict, options: dict) -> None:
    """`options`: warmup_steps of the schedule, and the weights of the targets by protocol."""
    chosen = block["transitions"]
    search = transitions.Search(
        **{key: chosen[key] for key in ("alpha", "n_surrogates", "n_planted", "steps_min")},
        seed=block["seed"],
        warmup_steps=options["warmup_steps"],
    )
    progress = Progress("runs", len(runs))
    curves, found, counts = [], [], []
    for i, (path, run) in enumerate(zip(inputs["steps"], runs, strict=True)):
        log = transitions.with_total(tables.read(path), options["weights"][run["protocol"]])
        detections, counted = transitions.of_run(log, ["loss", "absolute_error"], search)
        for parts, table in ((curves, log), (found, detections), (counts, counted)):
            parts.append(table.assign(**run))
        progress.step(i + 1)
    tables.write(pd.concat(curves).drop(columns="absolute_error"), outputs["curves"])
    tables.write(pd.concat(found), outputs["transitions"])
    table = pd.concat(counts, ignore_index=True)
    tables.write(table, outputs["counts"])
    tables.write(tables.gather(inputs["epochs"], runs), outputs["epochs"])
    findings = transitions.findings(
        table,
        block["pooled"],
        chosen["later"],
        targets=chosen["targets"],
        planted_percent=chosen["planted_percent"],
        seed=block["seed"],
    )
    tables.write(findings, outputs["findings"])


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs=dict(snakemake.input.items()),
            outputs=dict(snakemake.output.items()),
            runs=snakemake.params.runs,
            block=snakemake.params.settings,
            options=snakemake.params.options,
        )
