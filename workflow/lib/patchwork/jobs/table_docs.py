"""Print every table that the workflow writes: ``python -m patchwork.jobs.table_docs``."""

from patchwork.tables import schemas

_HEAD = """# Tables

Printed by `python -m patchwork.jobs.table_docs > docs/tables.md` from
`workflow/lib/patchwork/tables.toml`; a table that differs from it is refused when it is written.
Paths are below `results/<study>/` (`claims.csv`: below `results/`); a table of a run or a condition
lies in its folder. The tables beside figures hold what the figure shows of these."""


def page() -> str:
    """Markdown with a section per table: what a row is, its columns and what they mean."""
    parts = [_HEAD]
    for file, schema in schemas().items():
        rows = [
            f"| `{name}`{' (optional)' * (name in schema.optional)} | {meaning} |"
            for name, meaning in schema.columns.items()
        ]
        table = "\n".join(["| column | meaning |", "|---|---|", *rows])
        further = (
            f"\n\nFurther columns: {' '.join(schema.others.split())}." if schema.others else ""
        )
        parts.append(f"## `{file}`\n\nOne row: {schema.rows}.\n\n{table}{further}")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(page(), end="")
