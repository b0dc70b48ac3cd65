"""Angle errors of the same lines in every colour: hue, energy and categories."""

from patchwork import tables
from patchwork.analysis.biases import colour
from patchwork.analysis.biases.observer import LineGeometry
from patchwork.jobs.log import job_log


def main(
    *, errors: list, outputs: dict, conditions: list[dict], drawn: dict, block: dict, seed: int
) -> None:
    """`drawn`: settings of the generator by dataset."""
    frame = tables.gather(errors, conditions)
    geometries = {}
    for name, one in drawn.items():
        ranges = [(one[key]["min"], one[key]["max"]) for key in ("length_px", "width_px")]
        geometry = LineGeometry(one["image_px"], *ranges, one["margin"])
        geometries[name] = geometry, one["noise_levels"]
    found = colour.colour_tables(frame, geometries, block, seed=seed)
    for name, table in found.items():
        tables.write(table, outputs[name])


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            errors=list(snakemake.input.errors),
            outputs=dict(snakemake.output.items()),
            conditions=snakemake.params.conditions,
            drawn=snakemake.params.drawn,
            block=snakemake.params.settings["colour"],
            seed=snakemake.params.settings["seed"],
        )
