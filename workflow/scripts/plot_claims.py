"""Show the claims as a page, as a table and as a grid of verdicts."""

from pathlib import Path

import pandas as pd
from patchwork.figures import claims, theme
from patchwork.jobs.log import job_log


def main(*, table: str, page: str, stem: str, grid: str) -> None:
    frame = pd.read_csv(table)
    Path(page).write_text(claims.claims_html(frame), encoding="utf-8")
    theme.save(claims.claims_table(frame), stem)
    theme.save(claims.verdict_grid(frame), grid)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            table=snakemake.input.claims,
            page=snakemake.output.page,
            stem=snakemake.output.png.removesuffix(".png"),
            grid=snakemake.output.grid_png.removesuffix(".png"),
        )
