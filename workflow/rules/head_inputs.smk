# Input and params functions of the rules about heads and layers.


def tasks_of(wildcards) -> list[str]:
    """Datasets on which a backbone was tuned under a protocol, among those compared."""
    return list(
        dict.fromkeys(
            run["dataset"]
            for run in runs_of(wildcards.study, "similarity")
            if (run["backbone"], run["protocol"])
            == (wildcards.backbone, wildcards.protocol)
        )
    )


def tuned_on_each_dataset(wildcards) -> list[str]:
    """The models of one backbone and protocol: seed by seed, one per dataset."""
    return [
        f"{RUN_FOLDER.format(**dict(wildcards.items()), dataset=name, seed=seed)}/model.safetensors"
        for seed in seeds_of(wildcards.study)
        for name in tasks_of(wildcards)
    ]


def probe_of(wildcards) -> str:
    """The images on which heads are compared."""
    name = config["studies"][wildcards.study]["interventions"]["similarity"]["probe"]
    return f"results/{wildcards.study}/{name}/data/test.h5"


def compared(study: str) -> list[dict]:
    """Every backbone and protocol whose heads are compared between tasks."""
    runs = runs_of(study, "similarity")
    found = {(run["backbone"], run["protocol"]) for run in runs}
    return [dict(zip(("backbone", "protocol"), values)) for values in sorted(found)]


def comparisons(wildcards) -> list[str]:
    """The files of `compared`, in the same order."""
    return [
        "results/{0}/heads/{backbone}/{protocol}.csv".format(wildcards.study, **one)
        for one in compared(wildcards.study)
    ]


def conditions_of_heads(wildcards) -> dict:
    """Params function: the conditions of each input of `summarise_heads`."""
    return {
        "ablated": conditions_of(wildcards.study, "ablation"),
        "patched": conditions_of(wildcards.study, "patching"),
        "compared": compared(wildcards.study),
    }


def untrained_backbones(wildcards) -> list[str]:
    """Params function: backbones with initial weights, the null of the others."""
    backbones = config["studies"][wildcards.study]["backbones"]
    return [
        name for name, block in backbones.items() if block.get("source") == "random"
    ]


def test_images(wildcards) -> dict:
    """Params function: what the test images of a dataset are drawn from."""
    block = config["studies"][wildcards.study]["stimuli"]
    drawn = configuration.stimulus_settings(block, wildcards.dataset, "test")
    return {
        "seed": block["seed"],
        "settings": drawn,
        "first_index": block["splits"]["test"]["first_index"],
    }


def attention_settings(wildcards) -> dict:
    """Params function: how many images, and which regions are taken together."""
    block = config["studies"][wildcards.study]["semantics"]
    return {"n_images": block["attention"]["n_images"], "merged": block["merged"]}


def runs_of_semantics(wildcards) -> dict:
    """Params function: the runs of each input of `summarise_regions`."""
    return {
        "attended": runs_of(wildcards.study, "attention"),
        "ablated": runs_of(wildcards.study, "groups"),
    }
