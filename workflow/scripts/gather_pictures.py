"""Put the pictures of a source into one file of equal squares."""

from patchwork.data import pictures, store
from patchwork.jobs.log import counted, job_log


def main(*, settings: dict, colour: bool, path: str, code: str) -> None:
    found = pictures.find(settings["source"], side_px=settings["side_px"], colour=colour)
    store.write(
        path,
        counted("pictures", found.batches(), found.n),
        n=found.n,
        attributes={
            "seed": settings["source"].get("seed", 0),
            "settings": {"side_px": settings["side_px"], **found.provenance},
            "first_index": 0,
            "code": code,
        },
        label_attributes=found.label_attributes,
    )


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            settings=snakemake.params.settings,
            colour=snakemake.params.colour,
            path=snakemake.output.pictures,
            code=snakemake.params.code,
        )
