"""Show how each arm sees the same pictures, and measure edges and colours of its views."""

import numpy as np
import pandas as pd
from patchwork import sources, tables
from patchwork.analysis import image_statistics
from patchwork.figures import lines, theme
from patchwork.joblog import Progress, job_log


def main(*, pictures: str, views: dict, seed: int, settings: dict, outputs: dict) -> None:
    n = settings["n_views"]
    progress, shown, energy, hues = Progress("arms", len(views)), {}, [], []
    for arm, seen in views.items():
        source = sources.Views(pictures, seen, seed=seed, n=n, held_out=1)
        images = source.draw(np.arange(n))[0].numpy()
        shown[arm] = images[: settings["n_samples"]]
        energy.append(image_statistics.edge_orientation_energy(images).assign(arm=arm))
        hues.append(image_statistics.colour_histogram(images).assign(arm=arm))
        progress.step(len(shown))
    for name, parts in (("energy", energy), ("hues", hues)):
        joined: pd.DataFrame = tables.join(parts)
        joined.to_csv(outputs[name], index=False)
    theme.save(lines.samples(shown), outputs["png"].removesuffix(".png"))


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            pictures=snakemake.input.pictures,
            views=snakemake.params.views,
            seed=snakemake.params.seed,
            settings=snakemake.params.settings,
            outputs=dict(snakemake.output.items()),
        )
