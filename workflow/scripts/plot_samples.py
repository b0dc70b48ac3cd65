"""Show the first test images of some datasets with their labels."""

from pathlib import Path

import numpy as np
import pandas as pd
from patchwork.data import store
from patchwork.figures import theme
from patchwork.figures.biases import stimuli
from patchwork.jobs.log import job_log


def main(*, tests: list[str], samples: dict, stem: str) -> None:
    images, labels, shown = {}, {}, []
    for path, name in zip(tests, samples["datasets"], strict=True):
        with store.Reader(path) as reader:
            batch = reader.read(range(samples["n_images"]))
        images[name] = batch.images
        table = pd.DataFrame(batch.labels).assign(dataset=name, index=range(len(batch)))
        unit = reader.label_attributes[samples["label"]].units
        labels[name] = [
            "none" if np.isnan(value) else f"{value:.0f} {unit}"
            for value in table[samples["label"]]
        ]
        shown.append(table)
    theme.save(stimuli.samples(images, labels), stem)
    pd.concat(shown).to_csv(Path(f"{stem}.csv"), index=False)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            tests=list(snakemake.input.tests),
            samples=snakemake.params.samples,
            stem=snakemake.output.png.removesuffix(".png"),
        )
