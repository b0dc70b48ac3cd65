"""Angle error of each colour for every condition of a study: energy, hue, clusters."""

from pathlib import Path

from patchwork import tables
from patchwork.analysis.biases import colour
from patchwork.analysis.biases.observer import LineGeometry
from patchwork.analysis.predictions import Angle
from patchwork.data import store
from patchwork.jobs.log import job_log


def main(*, inputs: dict, outputs: dict, conditions: list[dict], block: dict) -> None:
    frame = tables.gather(inputs["predictions"], conditions)
    attributes, sets, held_out = described(inputs["tests"], block["colour"])
    angles = [Angle(name, attributes[name].maximum) for name in block["orientation"]["angles"]]
    found = colour.colour_tables(frame, sets, angles, block["colour"], seed=block["seed"])
    hues = colour.hue_findings(frame, held_out, angles)
    found["findings"] = tables.join([found["findings"], hues])[list(tables.FINDINGS)]
    for name, table in found.items():
        tables.write(table, outputs[name])


def described(tests: list[str], block: dict) -> tuple[dict, dict, dict]:
    """Label attributes; sets of named colours; arcs of hue that training did not see."""
    attributes: dict = {}
    sets, held_out = {}, {}
    for path in tests:
        name = Path(path).parts[-3]
        with store.Reader(path) as reader:
            attributes |= reader.label_attributes
            drawn = reader.attributes["settings"]
        if name in block["hue_datasets"]:
            held_out[name] = drawn["held_out_hues_deg"]
        if name in block["datasets"]:
            ranges = [(drawn[key]["min"], drawn[key]["max"]) for key in ("length_px", "width_px")]
            sets[name] = colour.ColourSet(
                attributes["colour"].names,
                LineGeometry(drawn["image_px"], *ranges, drawn["margin"]),
                tuple(drawn["noise_levels"]),
            )
    return attributes, sets, held_out


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs=dict(snakemake.input.items()),
            outputs=dict(snakemake.output.items()),
            conditions=snakemake.params.conditions,
            block=snakemake.params.settings,
        )
