"""Put pictures on which people have drawn boxes into one file per split, split by recording."""

from patchwork.data import annotated, store
from patchwork.jobs.log import LOGGER, job_log


def main(*, settings: dict, image_px: int, outputs: dict, code: str) -> None:
    source = settings["source"]
    with annotated.opened(source) as (names, load, origin):
        boxes = annotated.read_boxes(load(source["table"]), source["table"], settings["columns"])
        found = annotated.find(settings, names, boxes)
        LOGGER.info("pictures left out: %s", found.left_out)
        recordings = sorted(found.pictures["recording"].unique())
        boxes_max = int(found.pictures["n_boxes"].max())
        for split, path in outputs.items():
            part = found.pictures[found.pictures["split"] == split]
            folder = source["folder"].rstrip("/")
            store.write(
                path,
                annotated.batches(
                    part,
                    recordings,
                    lambda name, at=folder: load(f"{at}/{name}"),
                    image_px,
                    settings["white_frame"],
                    settings["axes"] if settings.get("as_drawn") else None,
                ),
                n=len(part),
                attributes={
                    "seed": settings["seed"],
                    "settings": {"image_px": image_px, "source": origin, **found.provenance},
                    "first_index": 0,
                    "code": code,
                },
                label_attributes=annotated.label_attributes(settings, recordings, boxes_max),
            )


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            settings=snakemake.params.settings,
            image_px=snakemake.params.image_px,
            outputs=dict(snakemake.output.items()),
            code=snakemake.params.code,
        )
