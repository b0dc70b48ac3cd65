"""Show the claims as a page and as a picture."""

from pathlib import Path

from patchwork import tables
from patchwork.figures import claims, claims_page, theme
from patchwork.jobs.log import job_log


def main(*, table: str, page: str, stem: str) -> None:
    frame = tables.read(table)
    Path(page).write_text(claims_page.claims_html(frame), encoding="utf-8")
    theme.save(claims.claims_picture(frame), stem)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            table=snakemake.input.claims,
            page=snakemake.output.page,
            stem=snakemake.output.png.removesuffix(".png"),
        )
