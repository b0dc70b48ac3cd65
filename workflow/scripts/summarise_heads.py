"""Tables and findings about heads and layers over the seeds of a study."""

import pandas as pd
from patchwork import tables
from patchwork.analysis.heads import effect_tables
from patchwork.jobs.log import job_log


def main(*, inputs: dict, outputs: dict, runs: dict, untrained: list, block: dict) -> None:
    """`runs`: the conditions of each input, in order; those of similarities have no dataset."""
    ablated = tables.gather(inputs["ablated"], runs["ablated"])
    effects = effect_tables.ablation_table(ablated, seed=block["seed"])
    tables.write(effects, outputs["effects"])
    patched = tables.gather(inputs["patched"], runs["patched"])
    tables.write(effect_tables.patching_table(patched), outputs["patches"])
    compared = pd.concat(
        [
            pd.read_csv(path).assign(**run)
            for path, run in zip(inputs["compared"], runs["compared"], strict=True)
        ],
        ignore_index=True,
    )
    tables.write(effect_tables.similarity_table(compared), outputs["similarity"])
    findings = effect_tables.similarity_findings(compared, untrained)
    tables.write(findings[list(tables.FINDINGS)], outputs["findings"])


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs={name: list(paths) for name, paths in snakemake.input.items()},
            outputs=dict(snakemake.output.items()),
            runs={key: snakemake.params[key] for key in ("ablated", "patched", "compared")},
            untrained=snakemake.params.untrained,
            block=snakemake.params.settings,
        )
