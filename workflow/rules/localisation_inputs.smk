# Which networks are timed; which recordings of a user are searched, and by which network.


def timed_networks(wildcards) -> dict[str, str | list[str]]:
    """The networks that are timed, one for each seed, and the images that they see."""
    study = study_of(wildcards)
    place = settings.timed(study)
    model = "<results>/<condition>/seed{seed}/model.safetensors"
    return {
        "test": path("<results>/{study}/{dataset}/data/test.h5", wildcards, **place),
        "backbones": [
            backbone_file(wildcards.study, place["backbone"], seed)
            for seed in study["seeds"]
        ],
        "tuned": [
            path(model, wildcards, **place, seed=seed) for seed in study["seeds"]
        ],
    }


def annotated_pictures(wildcards) -> list[str]:
    """The pictures of all splits on which networks trained on drawn ones are tried."""
    name = study_of(wildcards)["analyses"]["transfer"]["pictures"]
    return [
        f"<results>/{{study}}/{name}/data/{split}.h5"
        for split in ("train", "validation", "test")
    ]


def search_files(wildcards) -> dict[str, str]:
    """A recording of the user, and the files of the network that searches it."""
    block = study_of(wildcards)["recordings"]
    network = block["network"]
    return {
        "recording": settings.recording_path(block["files"][wildcards.recording]),
        "model": path("<results>/<run>/model.safetensors", wildcards, **network),
        "backbone": backbone_file(
            wildcards.study, network["backbone"], network["seed"]
        ),
        "calibration": path(
            "<results>/<condition>/predictions.parquet", wildcards, **network
        ),
    }


def searched_recordings() -> list[str]:
    """The events of every recording that the configuration names."""
    found = [
        f"<results>/{name}/recordings/{recording}/events.csv"
        for name, study in config["studies"].items()
        for recording in study.get("recordings", {}).get("files", {})
    ]
    if not found and "localise_chirps" in sys.argv:
        raise WorkflowError(
            "recordings.files is {} in every study; allowed is name: path, such as "
            "--config 'studies={<study>: {recordings: {files: {night: night.edf}}}}'"
        )
    return found
