"""Where and whether networks find chirps, beside a constant, a ridge tracker and templates."""

from collections.abc import Iterator

import numpy as np
from patchwork import tables
from patchwork.analysis.chirps import localisation
from patchwork.analysis.chirps.baselines import Plane
from patchwork.data import store
from patchwork.jobs.log import job_log
from patchwork.stimuli import chirps

BATCH = 512


def main(*, inputs: dict, outputs: dict, runs: list[dict], block: dict) -> None:
    """`inputs`: predictions in the order of `runs`; tests."""
    plane = Plane(chirps.DURATION_S, chirps.FREQUENCY_MAX_HZ)
    attributes, detected = {}, {}
    for path in inputs["tests"]:
        with store.Reader(path) as reader:
            attributes |= reader.label_attributes
            drawn = spectrograms(reader.attributes, len(reader))
        detected[path.split("/")[-3]] = localisation.detections(drawn, plane)
    predicted = tables.gather(inputs["predictions"], runs)
    found = localisation.localisation_tables(
        localisation.with_baselines(predicted, detected),
        attributes,
        n_bins=block["n_bins"],
        coverage=block["coverage"],
    )
    for name, path in outputs.items():
        tables.write(found[name], path)


def spectrograms(made: dict, n: int) -> Iterator[np.ndarray]:
    """The arrays behind the images of a file, drawn once more from how it was made."""
    settings = {key: value for key, value in made["settings"].items() if key != "kind"}
    for first in range(0, n, BATCH):
        numbers = made["first_index"] + np.arange(first, min(first + BATCH, n))
        yield chirps.arrays(settings, seed=made["seed"], indices=numbers)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs={name: list(paths) for name, paths in snakemake.input.items()},
            outputs=dict(snakemake.output.items()),
            runs=snakemake.params.runs,
            block=snakemake.params.settings,
        )
