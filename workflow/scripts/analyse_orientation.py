"""Angle error along the angle for every condition of a study, beside the ideal observer's."""

from patchwork import tables
from patchwork.analysis.biases import observer, orientation
from patchwork.analysis.predictions import Angle
from patchwork.data import store
from patchwork.jobs.log import job_log


def main(
    *, inputs: dict, outputs: dict, conditions: list[dict], block: dict, protocols: dict
) -> None:
    frame = tables.gather(inputs["predictions"], conditions)
    settings = block["orientation"]
    attributes, geometries = described(inputs["tests"])
    angles = [Angle(name, attributes[name].maximum) for name in settings["angles"]]
    n_bins, pooled = settings["n_bins"], block["pooled"]
    found = orientation.orientation_tables(
        frame, angles, n_bins, pooled, settings["turned"], seed=block["seed"]
    )
    runs = set(zip(frame["dataset"], frame["protocol"], strict=True))
    curves, contrasts = observer.observer_tables(geometries, protocols, angles, n_bins, runs)
    curves = curves.assign(backbone="none", n=None, seeds=None)
    for value, table in (("error_deg", found.curves), ("signed_error_deg", found.bias)):
        ideal = curves.assign(**dict.fromkeys(tables.ENDS, curves[value]))
        both = tables.join([table, ideal[list(table.columns)]])
        tables.write(both, outputs["curves" if value == "error_deg" else "bias"])
    tables.write(found.harmonics, outputs["harmonics"])
    tables.write(found.contrasts, outputs["contrasts"])
    ends = dict.fromkeys(tables.ENDS, contrasts["estimate"])
    exact = contrasts.assign(backbone="ideal_observer", n=0, seeds=0, **ends)
    histograms = orientation.histograms(frame, angles, settings["error_bin_width_deg"])
    tables.write(histograms, outputs["histograms"])
    findings = tables.join([found.contrasts, exact])[list(tables.FINDINGS)]
    tables.write(findings, outputs["findings"])


def described(tests: list[str]) -> tuple[dict, dict]:
    """Label attributes, and the geometry of each dataset's lines."""
    attributes, geometries = {}, {}
    for path in tests:
        with store.Reader(path) as reader:
            attributes |= reader.label_attributes
            drawn = reader.attributes["settings"]
        length, width = (
            (drawn[key]["min"], drawn[key]["max"]) for key in ("length_px", "width_px")
        )
        name = path.split("/")[-3]
        geometries[name] = observer.LineGeometry(drawn["image_px"], length, width, drawn["margin"])
    return attributes, geometries


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs=dict(snakemake.input.items()),
            outputs=dict(snakemake.output.items()),
            conditions=snakemake.params.conditions,
            block=snakemake.params.settings,
            protocols=snakemake.params.protocols,
        )
