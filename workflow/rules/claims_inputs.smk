# What claims are decided from.

# Blocks of a study to the findings that they give. A study has a stage if it has the block.
FINDINGS = {
    "metrics": ["metrics"],
    "orientation": ["orientation"],
    "colour": ["colour"],
    "transitions": ["transitions"],
    "localisation": ["localisation"],
    "timing": ["timing"],
    "transfer": ["transfer"],
    "interventions": ["heads"],
    "semantics": ["regions", "released"],
    "rearing_conditions": ["rearing_conditions"],
    "language": ["knowledge"],
    "tracing": ["tracing"],
}


def findings_of(name: str) -> list[str]:
    """The findings of a study."""
    study = config["studies"][name]
    blocks = {**study.get("analyses", {}), **study}
    files = [
        f"<results>/{name}/findings/{kind}.csv"
        for block, kinds in FINDINGS.items()
        if block in blocks
        for kind in kinds
    ]
    for dataset in study.get("networks", {}).get("datasets", {}):
        files.append(f"<results>/{name}/{dataset}/findings.csv")
    return files


def findings_of_all_studies() -> list[str]:
    """Everything that claims are decided from."""
    return [file for name in config["run"] for file in findings_of(name)]


def studies_of_findings() -> list[str]:
    """The study of each file of `findings_of_all_studies`, in the same order."""
    return [name for name in config["run"] for _ in findings_of(name)]
