"""Ablate heads, pairs of heads and whole layers of one fine-tuned model, image by image."""

import pandas as pd
import torch
from patchwork import tables
from patchwork.analysis.heads import effects as head_effects
from patchwork.data import store
from patchwork.jobs import devices
from patchwork.jobs.log import job_log
from patchwork.models import fine_tuned


def main(
    *,
    test: str,
    backbone: str,
    model: str,
    effects: str,
    spread: str,
    settings: dict,
    targets: list,
    device: str,
) -> None:
    """Pairs get the first of the baselines alone."""
    network = fine_tuned.load(model, backbone).to(torch.device(device))
    batch = store.read(test, settings["n_images"])
    options = {key: settings[key] for key in ("measure", "pairs_most") if key in settings}
    given, baselines = (network, batch.images, batch.labels, targets), tuple(settings["baselines"])
    parts = []
    for groups in settings["groups"]:
        # Pairs are many, and only their excess over two single heads is reported.
        chosen = baselines[:1] if groups == "pairs" else baselines
        how = head_effects.Grouping(groups, chosen, **options)
        parts.append(head_effects.group_effects(*given, how))
    how = head_effects.Grouping("layers", baselines, order_seed=settings["order_seed"], **options)
    parts.append(head_effects.group_effects(*given, how))
    tables.write(pd.concat(parts, ignore_index=True), effects)
    tables.write(
        head_effects.prediction_spread(network, batch.images, targets, baselines[0]), spread
    )


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            **snakemake.input,
            **snakemake.output,
            settings=snakemake.params.settings,
            targets=snakemake.params.targets,
            device=device,
        )
