"""Draw one figure from the tables of a study."""

import pandas as pd
from patchwork.figures import registry, theme
from patchwork.jobs.log import job_log


def main(*, tables: dict[str, str], figure: dict, stem: str) -> None:
    read = {role: pd.read_csv(path) for role, path in tables.items()}
    drawing, shown = registry.draw(
        figure["draw"], read, figure.get("select", {}), figure.get("options", {})
    )
    theme.save(drawing, stem)
    shown.to_csv(f"{stem}.csv", index=False)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            tables=dict(snakemake.input.items()),
            figure=snakemake.params.figure,
            stem=snakemake.output.png.removesuffix(".png"),
        )
