"""Tables and findings about selectivity and effects of heads, over the seeds of a study."""

import pandas as pd
from patchwork import tables
from patchwork.analysis.heads import competence, effect_tables
from patchwork.analysis.selectivity import region_tables
from patchwork.jobs.log import job_log
from patchwork.statistics.power import planted_of


def main(*, inputs: dict, outputs: dict, runs: dict, settings: dict, planted: dict) -> None:
    """`runs`: those of `predicted`, `attended` and `ablated`; other inputs follow one of these."""
    predicted = tables.gather(inputs["predicted"], runs["predicted"])
    networks = competence.competence_table(predicted, settings["competence"])
    attended, ablated, spread = (
        competence.competent(tables.gather(inputs[name], runs[run]), networks)
        for name, run in (("attended", "attended"), ("ablated", "ablated"), ("spread", "ablated"))
    )
    tests = region_tables.selectivity_tests(attended, settings["tested_regions"])
    heads = region_tables.head_selectivity(tests)
    effects = pd.concat([ablated, effect_tables.derived(ablated)], ignore_index=True)
    baseline, margin = settings["baseline"], settings["margin_percent"]
    compared = region_tables.attention_and_effect(
        tests, ablated, settings["attended_region"], baseline=baseline
    )
    controls = planted_of(planted)
    found = [
        competence.competence_findings(networks),
        region_tables.share_findings(heads, settings["region_sets"], controls),
        effect_tables.percent_findings(ablated, baseline, margin, controls),
        region_tables.agreement_findings(compared, controls),
    ]
    written = {
        "competence": networks,
        "attention": region_tables.region_table(tests),
        "shares": region_tables.share_table(heads),
        "effects": effect_tables.percent_table(effects, margin),
        "compared": compared,
        "spread": effect_tables.spread_table(spread),
        "overlay": tables.gather(inputs["overlay"][:1], runs["attended"][:1]),
        "picture": tables.gather(inputs["picture"][:1], runs["attended"][:1]),
        "findings": pd.concat(found, ignore_index=True)[list(tables.FINDINGS)],
    }
    for name, table in written.items():
        tables.write(table, outputs[name])


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs={name: list(paths) for name, paths in snakemake.input.items()},
            outputs=dict(snakemake.output.items()),
            runs={key: snakemake.params[key] for key in ("predicted", "attended", "ablated")},
            settings=snakemake.params.settings,
            planted=snakemake.params.planted,
        )
