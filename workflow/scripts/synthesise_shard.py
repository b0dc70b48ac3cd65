"""Draw one shard of a dataset; every image depends on its own number alone."""

from patchwork import stimuli
from patchwork.data import store
from patchwork.jobs.log import counted, job_log


def main(*, images: dict, part: tuple[int, int], shard: str, code: str) -> None:
    """Part (i, k) is the i-th of k shards, counted from 1."""
    start, stop = ((edge * images["n"]) // part[1] for edge in (part[0] - 1, part[0]))
    if stop == start:
        raise ValueError(f"shards is {part[1]}; allowed is at most n = {images['n']}")
    kind, settings, seed = (images[key] for key in ("kind", "settings", "seed"))
    indices = range(images["first_index"] + start, images["first_index"] + stop)
    drawn = stimuli.stream(kind, settings, seed=seed, indices=indices)
    store.write(
        shard,
        counted("images", drawn, len(indices)),
        n=len(indices),
        attributes={
            "seed": seed,
            "settings": {"kind": kind, **settings},
            "first_index": indices.start,
            "code": code,
        },
        label_attributes=stimuli.LABELS[kind](settings),
    )


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            images=snakemake.params.images,
            part=tuple(map(int, snakemake.wildcards.scatteritem.split("-of-"))),
            shard=snakemake.output.shard,
            code=snakemake.params.code,
        )
