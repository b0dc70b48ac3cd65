"""Bias of orientation by depth for all networks, beside pixels and the ideal observer."""

import pandas as pd
from patchwork import stimuli, tables
from patchwork.analysis.biases import depth
from patchwork.jobs.log import job_log


def main(*, errors: list[str], names: list[str], images: dict, n_folds: int, bias: str) -> None:
    """`names`: of the backbones, in the order of their errors."""
    parts = [
        tables.read(path).assign(backbone=name) for path, name in zip(errors, names, strict=True)
    ]
    drawn = {view: stimuli.draw(block) for view, block in images.items()}
    pixels = depth.depth_errors(depth.pixel_vectors, drawn, n_folds).assign(backbone="pixels")
    tables.write(depth.bias_by_depth(pd.concat([*parts, pixels], ignore_index=True)), bias)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            errors=list(snakemake.input.errors),
            names=snakemake.params.settings["backbones"],
            images=snakemake.params.images,
            n_folds=snakemake.params.settings["n_folds"],
            bias=snakemake.output.bias,
        )
