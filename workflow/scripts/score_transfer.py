"""How well networks that were trained on drawn spectrograms find chirps on real ones."""

from patchwork import tables
from patchwork.analysis.chirps import localisation, transfer
from patchwork.analysis.chirps.baselines import Plane
from patchwork.data import annotated
from patchwork.jobs.log import job_log
from patchwork.statistics.power import planted_of
from patchwork.stimuli import chirps


def main(*, inputs: dict, outputs: dict, conditions: list, planted: dict) -> None:
    """`inputs`: predictions in the order of `conditions`; pictures by split."""
    images, labels, attributes = annotated.joined(inputs["pictures"])
    shown = {"image_px": images.shape[1], "signal": "ridge"}
    pixels = chirps.read_pixels(shown, images[annotated.one_of_each(labels)])
    plane = Plane(chirps.DURATION_S, chirps.FREQUENCY_MAX_HZ)
    found = transfer.transfer_tables(
        tables.gather(inputs["predictions"], conditions),
        localisation.detections([pixels], plane),
        attributes,
        planted_of(planted),
    )
    for name, path in outputs.items():
        tables.write(found[name], path)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs={name: list(paths) for name, paths in snakemake.input.items()},
            outputs=dict(snakemake.output.items()),
            conditions=snakemake.params.conditions,
            planted=snakemake.params.planted,
        )
