"""Tables and findings about heads and layers over the seeds of a study."""

from patchwork import tables
from patchwork.analysis.heads import effect_tables, task_tables
from patchwork.jobs.log import job_log


def main(*, inputs: dict, outputs: dict, runs: dict, similarity: dict, block: dict) -> None:
    """`runs`: the conditions of each input, in order; those of similarities have no dataset."""
    ablated = tables.gather(inputs["ablated"], runs["ablated"])
    effects = effect_tables.ablation_table(ablated, seed=block["seed"])
    tables.write(effects, outputs["effects"])
    patched = tables.gather(inputs["patched"], runs["patched"])
    tables.write(effect_tables.patching_table(patched), outputs["patches"])
    tables.write(tables.gather(inputs["pictures"], runs["patched"]), outputs["pictures"])
    compared = tables.gather(inputs["compared"], runs["compared"])
    tables.write(tables.gather(inputs["maps"], runs["compared"]), outputs["maps"])
    # All networks saw the same picture.
    tables.write(tables.read(inputs["picture"][0]), outputs["picture"])
    tables.write(task_tables.similarity_table(compared), outputs["similarity"])
    control = similarity["control"]
    found = task_tables.similarity_findings(
        compared,
        (control["backbone"], control["protocol"]),
        planted=similarity["planted"],
        seed=block["seed"],
    )
    findings = tables.join([found, task_tables.agreement_findings(ablated)])
    tables.write(findings[list(tables.FINDINGS)], outputs["findings"])


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs={name: list(paths) for name, paths in snakemake.input.items()},
            outputs=dict(snakemake.output.items()),
            runs={key: snakemake.params[key] for key in ("ablated", "patched", "compared")},
            similarity=snakemake.params.similarity,
            block=snakemake.params.settings,
        )
