"""Tables and findings about what heads look at and what they do, over the seeds of a study."""

import pandas as pd
from patchwork import tables
from patchwork.analysis.heads import group_tables
from patchwork.analysis.selectivity import region_effects, region_tables
from patchwork.jobs.log import job_log
from patchwork.statistics import Resampling


def main(*, inputs: dict, outputs: dict, runs: dict, settings: dict, block: dict) -> None:
    """`runs`: those of `attended` and `ablated`; the other inputs follow one of these."""
    how = Resampling(block["n_resamples"], seed=block["seed"])
    attended = tables.gather(inputs["attended"], runs["attended"])
    ablated = tables.gather(inputs["ablated"], runs["ablated"])
    verdicts = region_tables.verdicts(attended, settings["judged"])
    heads = region_tables.semantics(verdicts)
    effects = pd.concat([ablated, group_tables.derived(ablated)], ignore_index=True)
    baseline, margin = settings["baseline"], settings["margin_percent"]
    compared = region_effects.looks_and_matters(
        verdicts, ablated, settings["looked_at"], baseline=baseline, resampling=how
    )
    found = [
        region_tables.share_findings(heads, settings["meanings"], how),
        group_tables.percent_findings(ablated, how, baseline, margin),
        region_effects.agreement_findings(compared, how),
    ]
    spread = tables.gather(inputs["spread"], runs["ablated"])
    written = {
        "attention": region_tables.region_table(verdicts, how),
        "shares": region_tables.share_table(heads, how),
        "effects": group_tables.percent_table(effects, how, margin),
        "compared": compared,
        "agreement": region_effects.agreement_table(compared, how),
        "spread": group_tables.spread_table(spread),
        "overlay": tables.gather(inputs["overlay"][:1], runs["attended"][:1]),
        "picture": tables.gather(inputs["picture"][:1], runs["attended"][:1]),
        "findings": pd.concat(found, ignore_index=True)[list(tables.FINDINGS)],
    }
    for name, table in written.items():
        table.to_csv(outputs[name], index=False)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs={name: list(paths) for name, paths in snakemake.input.items()},
            outputs=dict(snakemake.output.items()),
            runs=snakemake.params.runs,
            settings=snakemake.params.settings,
            block=snakemake.params.block,
        )
