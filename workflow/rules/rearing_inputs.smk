# Input and params functions of the rules about reared conditions.


def pretrained_of_seeds(wildcards) -> list[str]:
    """The networks of a condition, one for each seed."""
    return [
        backbone_file(wildcards.study, wildcards.backbone, seed)
        for seed in seeds_of(wildcards.study)
    ]


def snapshots_of_seeds(wildcards) -> list[str]:
    """What was kept of the networks of `pretrained_of_seeds` on their way."""
    return [
        path.replace(".safetensors", "_snapshots.safetensors")
        for path in pretrained_of_seeds(wildcards)
    ]


def measures_of_rearing_conditions(wildcards) -> list[str]:
    """The measures of every condition of a study, in the order of the configuration."""
    names = config["studies"][wildcards.study]["rearing_conditions"]["names"]
    return [
        f"results/{wildcards.study}/rearing_conditions/{name}.csv" for name in names
    ]


def views_of_rearing_conditions(wildcards) -> dict[str, dict]:
    """Params function: how each condition that is reared on pictures sees them."""
    study = config["studies"][wildcards.study]
    image_px = study["stimuli"]["common"]["image_px"]
    blocks = {
        name: study["backbones"][name] for name in study["rearing_conditions"]["names"]
    }
    return {
        name: {**block["pretraining"]["views"], "image_px": image_px}
        for name, block in blocks.items()
        if "views" in block.get("pretraining", {})
    }


def first_seed(wildcards) -> int:
    """Params function: the first repetition of a study."""
    return seeds_of(wildcards.study)[0]


def picture_folder(wildcards) -> list[str]:
    """The folder of a study's pictures, if they lie in one."""
    source = config["studies"][wildcards.study]["pictures"]["source"]
    return [source["path"]] if source["kind"] == "folder" else []


def needs_colour(wildcards) -> bool:
    """Params function: whether a backbone of the study sees its pictures in colour."""
    backbones = config["studies"][wildcards.study]["backbones"].values()
    views = [block.get("pretraining", {}).get("views", {}) for block in backbones]
    return any(one.get("colour", "grey") != "grey" for one in views)


def pictures_of(wildcards) -> list[str]:
    """The pictures that a backbone grows up with, if it sees any."""
    block = config["studies"][wildcards.study]["backbones"][wildcards.backbone]
    seen = "views" in block.get("pretraining", {})
    return [f"results/{wildcards.study}/pictures.h5"] if seen else []
