"""Draw one figure of a study of networks from the tables of all its data sets."""

import pandas as pd
from patchwork import tables
from patchwork.figures import theme
from patchwork.figures.networks import report
from patchwork.jobs.log import job_log


def main(*, inputs: dict[str, list[str]], datasets: list[str], figure: dict, stem: str) -> None:
    read = {
        name: pd.concat(
            [tables.read(p).assign(dataset=d) for p, d in zip(paths, datasets, strict=True)],
            ignore_index=True,
        )
        for name, paths in inputs.items()
    }
    drawing, shown = report.draw(figure["name"], read, figure["drawn"])
    theme.save(drawing, stem)
    shown.to_csv(f"{stem}.csv", index=False)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs={name: list(paths) for name, paths in snakemake.input.items()},
            datasets=list(snakemake.params.datasets),
            figure={"name": snakemake.wildcards.figure, "drawn": snakemake.params.drawn},
            stem=snakemake.output.png.removesuffix(".png"),
        )
