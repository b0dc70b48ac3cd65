"""Where and whether networks find chirps, beside a constant, a ridge tracker and templates."""

from patchwork import tables
from patchwork.analysis.chirps import localisation
from patchwork.analysis.chirps.baselines import Plane
from patchwork.data import store
from patchwork.jobs.log import job_log
from patchwork.statistics.power import planted_of
from patchwork.stimuli import chirps

BATCH = 512


def main(
    *, inputs: dict, outputs: dict, conditions: list, runs: list, settings: dict, planted: dict
) -> None:
    """`inputs`: predictions in the order of `conditions`, steps in that of `runs`; tests."""
    plane = Plane(chirps.DURATION_S, chirps.FREQUENCY_MAX_HZ)
    attributes, detected = {}, {}
    for path in inputs["tests"]:
        with store.Reader(path) as reader:
            attributes |= reader.label_attributes
            drawn = reader.attributes["settings"]
            shown = {key: value for key, value in drawn.items() if key != "kind"}
            pictures = reader.batches(range(len(reader)), BATCH)
            detected[path.split("/")[-3]] = localisation.detections(
                (chirps.read_pixels(shown, batch.images) for batch in pictures), plane
            )
    predicted = tables.gather(inputs["predictions"], conditions)
    found = localisation.localisation_tables(
        localisation.with_baselines(predicted, detected),
        attributes,
        **settings,
        planted=planted_of(planted),
    )
    found["losses"] = tables.gather(inputs["steps"], runs).drop(columns="absolute_error")
    for name, path in outputs.items():
        tables.write(found[name], path)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs={name: list(paths) for name, paths in snakemake.input.items()},
            outputs=dict(snakemake.output.items()),
            **{key: snakemake.params[key] for key in ("conditions", "runs", "settings", "planted")},
        )
