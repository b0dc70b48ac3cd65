"""Show the same pictures under each condition; measure edges, colours and the probes' own bias."""

import numpy as np
import pandas as pd
from patchwork import tables
from patchwork.analysis.rearing import image_statistics, network_probes
from patchwork.data import sources
from patchwork.figures import theme
from patchwork.figures.biases import stimuli
from patchwork.jobs.log import Progress, job_log


def main(*, pictures: str, views: dict, seed: int, settings: dict, outputs: dict) -> None:
    n, n_samples = (settings["described"][key] for key in ("n_views", "n_samples"))
    progress = Progress("rearing_conditions", len(views))
    shown, energy, hues, drawn = {}, [], [], []
    for condition, view in views.items():
        source = sources.Views(pictures, view, seed=seed, n=n, held_out=1)
        pixels, labels = source.draw(np.arange(n))
        images = pixels.numpy()
        drawn.append(
            pd.DataFrame(labels)[:n_samples].assign(condition=condition, view=range(n_samples))
        )
        shown[condition] = images[:n_samples]
        energy.append(image_statistics.edge_orientation_energy(images).assign(condition=condition))
        hues.append(image_statistics.colour_histogram(images).assign(condition=condition))
        progress.step(len(shown))
    for name, parts in (("energy", energy), ("hues", hues)):
        tables.write(tables.join(parts), outputs[name])
    pd.concat(drawn, ignore_index=True).to_csv(outputs["shown"], index=False)
    image_px = next(iter(views.values()))["image_px"]
    probes = network_probes.draw_probes(settings, image_px)
    tables.write(network_probes.measure_stimuli(probes.lines), outputs["ceiling"])
    theme.save(
        stimuli.samples(shown, title="The same pictures in each condition"),
        outputs["png"].removesuffix(".png"),
    )


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            pictures=snakemake.input.pictures,
            views=snakemake.params.views,
            seed=snakemake.params.seeds[0],
            settings=snakemake.params.settings,
            outputs=dict(snakemake.output.items()),
        )
