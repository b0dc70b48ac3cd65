# Images of a study, and what their data cards say.


def test_files(wildcards) -> list[str]:
    """The test images of every dataset of a study that has runs."""
    names = dict.fromkeys(row["dataset"] for row in conditions()(wildcards))
    return [f"<results>/{{study}}/{name}/data/test.h5" for name in names]


def annotated_datasets() -> str:
    """Pattern of the names of datasets of annotated pictures."""
    names = {
        name
        for study in config["studies"].values()
        for name, block in study.get("stimuli", {}).get("datasets", {}).items()
        if "annotated" in block
    }
    return "|".join(sorted(names)) or "-"


def annotated_files(wildcards) -> list[str]:
    """Folder and table of annotated pictures, if they lie on this machine."""
    source = study_of(wildcards)["stimuli"]["datasets"][wildcards.dataset]["annotated"][
        "source"
    ]
    if source["kind"] == "folder":
        return [source["folder"], source["table"]]
    return []


def selection_images(wildcards) -> str:
    """The images that choose the epoch of a training."""
    protocol = study_of(wildcards)["protocols"][wildcards.protocol]
    split = protocol.get("selected_on", "validation")
    return f"<results>/{{study}}/{{dataset}}/data/{split}.h5"


def card_texts(wildcards) -> dict[str, str]:
    """Params function: what a data card says that the files do not."""
    cited = yaml.safe_load((Path(workflow.basedir) / "CITATION.cff").read_text())
    return {
        "dataset": wildcards.dataset,
        "licence": cited["license"],
        "reference": settings.reference(study_of(wildcards), cited),
    }
