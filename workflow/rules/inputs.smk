# Input and params functions of rules: which files and which blocks a job needs.


def of_runs(file: str, part: str | None = None):
    """Input function: one file of every run of the study, or of a part of its interventions."""

    def files(wildcards) -> list[str]:
        return [
            f"{RUN_FOLDER.format(study=wildcards.study, **run)}/{file}"
            for run in runs_of(wildcards.study, part)
        ]

    return files


def runs_in(part: str | None = None):
    """Params function: the runs whose files `of_runs` lists, in the same order."""

    def runs(wildcards) -> list[dict]:
        return runs_of(wildcards.study, part)

    return runs


def drawn_images(wildcards) -> dict:
    """Params function: what one split of one dataset is drawn from, and nothing else."""
    block = config["studies"][wildcards.study]["stimuli"]
    return {
        "kind": block["kind"],
        "seed": block["seed"],
        "settings": configuration.stimulus_settings(
            block, wildcards.dataset, wildcards.split
        ),
        **configuration.split_of(block, wildcards.dataset, wildcards.split),
    }


def training_of(wildcards) -> dict:
    """Params function: how a run trains."""
    return configuration.training_settings(
        config["studies"][wildcards.study], wildcards.dataset, wildcards.protocol
    )


RUN_FOLDER = "results/{study}/{dataset}/{backbone}/{protocol}/seed{seed}"


def backbone_file(study: str, backbone: str, seed: int | str) -> str:
    """The backbone of a run; weights that were not made here are the same for every seed."""
    owner = config["studies"][study]["backbones"][backbone].get("same_as")
    if owner:
        return backbone_file(owner["study"], owner["backbone"], seed)
    source = config["studies"][study]["backbones"][backbone]["source"]
    chosen = seed if source in ("pretrained", "random") else seeds_of(study)[0]
    return f"results/{study}/backbones/{backbone}/seed{chosen}.safetensors"


def backbone_of(wildcards) -> str:
    """The backbone of a run."""
    return backbone_file(wildcards.study, wildcards.backbone, wildcards.seed)


def course_of_training(wildcards) -> dict:
    """Params function: steps of warm-up, and the targets' weights of each protocol."""
    study = config["studies"][wildcards.study]
    weights = {
        name: {
            key: target.get("weight", 1.0) for key, target in block["targets"].items()
        }
        for name, block in study["protocols"].items()
    }
    return {
        "warmup_steps": study["training"]["schedule"]["warmup_steps"],
        "weights": weights,
    }


def checkpoints_of(wildcards) -> str:
    """Params function: where a training keeps what it needs to go on after a kill."""
    return str(Path("results/checkpoints", *wildcards))


def events_of(wildcards) -> str:
    """Params function: where TensorBoard finds the course of a training."""
    return str(Path("results/tensorboard", *wildcards))


def sample_files(wildcards) -> list[str]:
    """Test images of the datasets that are shown."""
    names = config["studies"][wildcards.study]["samples"]["datasets"]
    return [f"results/{wildcards.study}/{name}/data/test.h5" for name in names]


def figure_tables(wildcards) -> dict[str, str]:
    """The tables of a figure by role."""
    block = config["studies"][wildcards.study]["figures"][wildcards.figure]
    return {
        role: f"results/{wildcards.study}/tables/{table}.csv"
        for role, table in block["tables"].items()
    }


def drawn_figures() -> str:
    """Pattern of the names of all figures that a configuration describes."""
    names = {
        name
        for study in config["studies"].values()
        for name in study.get("figures", {})
    }
    return "|".join(sorted(names)) or "-"


def named_in_card(wildcards) -> dict[str, str]:
    """Params function: what a data card says that the files do not."""
    cited = yaml.safe_load((Path(workflow.basedir) / "CITATION.cff").read_text())
    paper = config["studies"][wildcards.study]["paper"]
    known = {one["identifiers"][0]["value"]: one for one in cited["references"]}
    one = known.get(paper.replace("arXiv ", "arXiv:"), {})
    names = [
        f"{author['given-names']} {author['family-names']}"
        for author in one.get("authors", ())
    ]
    title = f"{', '.join(names)} ({one['year']}). {one['title']}. " if one else ""
    return {
        "dataset": wildcards.dataset,
        "licence": cited["license"],
        "reference": f"{title}{paper}.",
    }
