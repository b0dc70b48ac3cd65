# Files of backbones, and the pictures that they are pre-trained on.


def backbone_file(study: str, backbone: str, seed: int | str) -> str:
    """The backbone of a run; weights that were not made here are the same for every seed."""
    block = config["studies"][study]["backbones"][backbone]
    if "same_as" in block:
        owner = block["same_as"]
        return backbone_file(owner["study"], owner["backbone"], seed)
    if not settings.differs_by_seed(block):
        seed = config["studies"][study]["seeds"][0]
    return f"<results>/{study}/backbones/{backbone}/seed{seed}.safetensors"


def shared_backbone(wildcards) -> str:
    """The backbone of a condition whose seeds have the same one."""
    first = study_of(wildcards)["seeds"][0]
    return backbone_file(wildcards.study, wildcards.backbone, first)


def features_of_run(wildcards) -> dict[str, str]:
    """What a frozen encoder says of the training images, if all seeds share it."""
    study = study_of(wildcards)
    owner = study["backbones"][wildcards.backbone]
    while "same_as" in owner:
        same = owner["same_as"]
        owner = config["studies"][same["study"]]["backbones"][same["backbone"]]
    frozen = study["protocols"][wildcards.protocol]["adapter"]["kind"] == "none"
    if not frozen or settings.differs_by_seed(owner):
        return {}
    return {"features": "<results>/<condition>/features.safetensors"}


def backbone_of_run(wildcards) -> str:
    """The backbone of a run."""
    return backbone_file(wildcards.study, wildcards.backbone, wildcards.seed)


def backbone_files(wildcards) -> list[str]:
    """The backbones of a condition, one for each seed, in their order."""
    return [
        backbone_file(wildcards.study, wildcards.backbone, seed)
        for seed in seeds(wildcards)
    ]


def snapshot_files(wildcards) -> list[str]:
    """What was kept of the networks of `backbone_files` during their pre-training."""
    return [
        file.replace(".safetensors", "_snapshots.safetensors")
        for file in backbone_files(wildcards)
    ]


def picture_folder(wildcards) -> list[str]:
    """The folder of a study's pictures, if they lie in one."""
    source = study_of(wildcards)["pictures"]["source"]
    return [source["path"]] if source["kind"] == "folder" else []


def pictures_of(wildcards) -> list[str]:
    """The pictures that a backbone is pre-trained on, if any."""
    seen = wildcards.backbone in settings.views(study_of(wildcards))
    return ["<results>/{study}/pictures.h5"] if seen else []
