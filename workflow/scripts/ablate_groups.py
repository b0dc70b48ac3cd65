"""Ablate heads, pairs of heads and whole layers of one fine-tuned model, image by image."""

import pandas as pd
import torch
from patchwork import devices, models, store
from patchwork.analysis import group_effects, group_tables
from patchwork.joblog import job_log


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
    """`settings["baselines"]` maps each kind of groups to what stands in for the ablated heads."""
    network = models.load(model, backbone).to(torch.device(device))
    with store.Reader(test) as reader:
        batch = reader.read(range(min(settings["n_images"], len(reader))))
    options = {key: settings[key] for key in ("measure", "pairs_most") if key in settings}
    given = (network, batch.images, batch.labels, targets)
    tables = [
        group_effects.group_effects(*given, group_effects.Grouping(one, tuple(how), **options))
        for one, how in settings["baselines"].items()
    ]
    again, seed = tuple(settings["baselines"]["layers"]), settings["order_seed"]
    shuffled = group_effects.Grouping("layers", again, order_seed=seed, **options)
    control = group_effects.group_effects(*given, shuffled)
    tables.append(control.assign(groups=group_tables.RANDOM_ORDER))
    pd.concat(tables, ignore_index=True).to_parquet(effects, index=False)
    table = group_effects.prediction_spread(network, batch.images, targets)
    table.to_csv(spread, index=False)


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
