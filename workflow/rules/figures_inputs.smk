# Which figures there are, and the tables of each.


def figure_tables(wildcards) -> dict[str, str]:
    """The tables of a figure by role."""
    block = study_of(wildcards)["figures"][wildcards.figure]
    return {
        role: f"<results>/{{study}}/tables/{table}.csv"
        for role, table in block["tables"].items()
    }


def figure_names(*keys: str) -> str:
    """Pattern of the names that a block of any study gives to figures."""
    names = set()
    for block in config["studies"].values():
        for key in keys:
            block = block.get(key, {})
        names |= set(block)
    return "|".join(sorted(names)) or "-"


def figures_of_all_studies() -> list[str]:
    """Every figure of the studies that run."""
    found = ["<results>/claims/claims.svg"]
    for name in config["run"]:
        study = config["studies"][name]
        names = [
            *study.get("figures", {}),
            *(block for block in ("samples", "rearing_conditions") if block in study),
            *study.get("networks", {}).get("figures", ()),
        ]
        found += [f"<results>/{name}/figures/{figure}.svg" for figure in names]
    return found
