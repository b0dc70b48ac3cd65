"""Draw one figure from the tables of a study."""

from patchwork import tables
from patchwork.figures import registry, theme
from patchwork.jobs.log import job_log


def main(*, inputs: dict[str, str], figure: dict, stem: str) -> None:
    read = {role: tables.read(path) for role, path in inputs.items()}
    drawing, shown = registry.draw(
        figure["draw"], read, figure.get("select", {}), figure.get("options", {})
    )
    theme.save(drawing, stem)
    shown.to_csv(f"{stem}.csv", index=False)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            inputs=dict(snakemake.input.items()),
            figure=snakemake.params.figure,
            stem=snakemake.output.png.removesuffix(".png"),
        )
