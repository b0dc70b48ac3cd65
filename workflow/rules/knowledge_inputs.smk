# Networks of language studies whose facts are edited.


def edited_conditions(wildcards) -> list[dict]:
    """The conditions whose networks are edited, in the order of all."""
    chosen = study_of(wildcards)["tracing"]["editing_protocols"]
    return [row for row in text_conditions(wildcards) if row["protocol"] in chosen]
