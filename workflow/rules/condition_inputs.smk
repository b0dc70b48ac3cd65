# Input and params functions of rules that take all seeds of a condition, or all conditions.


def seeds_in(wildcards) -> list[int]:
    """Params function: the seeds of a study."""
    return seeds_of(wildcards.study)


def conditions_of(study: str, part: str | None = None) -> list[dict]:
    """Every dataset, backbone and protocol of a study's runs, or of a part of them."""
    runs = runs_of(study, part)
    found = [{key: run[key] for key in run if key != "seed"} for run in runs]
    return [one for i, one in enumerate(found) if one not in found[:i]]


def conditions_in(wildcards) -> list[dict]:
    """Params function: the conditions of a study."""
    return conditions_of(wildcards.study)


def files_of(conditions: list[dict], study: str, name: str) -> list[str]:
    """The file of this name of each condition."""
    folder = "results/{study}/{dataset}/{backbone}/{protocol}"
    return [f"{folder.format(study=study, **one)}/{name}" for one in conditions]


def of_conditions(file: str, part: str | None = None):
    """Input function: one file of every condition, in the order of `conditions_of`."""

    def files(wildcards) -> list[str]:
        conditions = conditions_of(wildcards.study, part)
        return files_of(conditions, wildcards.study, file)

    return files


def timing_findings(study: str) -> list[str]:
    """How long passes take in the condition that is timed, if one is and has runs."""
    places = config["studies"][study]["analyses"].get("localisation", {})
    wanted = places.get("timing", {}).get("condition")
    timed = [one for one in conditions_of(study) if one == wanted]
    return files_of(timed, study, "timing_findings.csv")


def timing_settings(wildcards) -> dict:
    """Params function: how many passes over how many images are timed; numbers of resampling."""
    block = config["studies"][wildcards.study]["analyses"]
    timing = block["localisation"]["timing"]
    return {
        "passes": {key: timing[key] for key in ("n_images", "repetitions")},
        "resampling": {key: block[key] for key in ("n_resamples", "seed")},
    }


def localisation_settings(wildcards) -> dict:
    """Params function: numbers of the scores of places, and of resampling."""
    block = config["studies"][wildcards.study]["analyses"]
    own = {key: block["localisation"][key] for key in ("coverage", "n_bins")}
    return {"n_resamples": block["n_resamples"], "seed": block["seed"], **own}


def datasets_of_runs(wildcards) -> list[str]:
    """Test images of every dataset of the study that has runs."""
    names = dict.fromkeys(run["dataset"] for run in runs_of(wildcards.study))
    return [f"results/{wildcards.study}/{name}/data/test.h5" for name in names]


def backbones_of_seeds(wildcards) -> list[str]:
    """The backbones of a condition, one for each seed, in their order."""
    return [
        backbone_file(wildcards.study, wildcards.backbone, seed)
        for seed in seeds_of(wildcards.study)
    ]


def tuned_of_seeds(wildcards) -> list[str]:
    """The models of a condition, one for each seed, in their order."""
    return [
        f"{RUN_FOLDER.format(**dict(wildcards.items()), seed=seed)}/model.safetensors"
        for seed in seeds_of(wildcards.study)
    ]


def selected_on(wildcards) -> str:
    """The images that choose the epoch of a training."""
    protocol = config["studies"][wildcards.study]["protocols"][wildcards.protocol]
    split = protocol.get("selected_on", "validation")
    return f"results/{wildcards.study}/{wildcards.dataset}/data/{split}.h5"


def recording_of(wildcards) -> str:
    """A recording of the user."""
    files = config["studies"][wildcards.study]["recordings"]["files"]
    return files[wildcards.recording]


def network_of_recordings(part: str):
    """Input function: a file of the network that searches recordings."""

    def file(wildcards) -> str:
        run = dict(config["studies"][wildcards.study]["recordings"]["network"])
        folder = RUN_FOLDER.format(study=wildcards.study, **run)
        return {
            "model": f"{folder}/model.safetensors",
            "backbone": backbone_file(wildcards.study, run["backbone"], run["seed"]),
            "calibration": f"{Path(folder).parent}/predictions.parquet",
        }[part]

    return file


def search_settings(wildcards) -> dict:
    """Params function: how recordings are searched; no paths."""
    block = config["studies"][wildcards.study]["recordings"]
    own = {key: block[key] for key in block if key not in ("files", "network")}
    return {**own, "seed": block["network"]["seed"]}


def searched_recordings() -> list[str]:
    """The events of every recording that the configuration names."""
    found = []
    for name, study in config["studies"].items():
        for recording, path in study.get("recordings", {}).get("files", {}).items():
            if not Path(path).exists():
                raise WorkflowError(
                    f"recordings.files.{recording} is {path!r}; allowed is a file or folder that exists"
                )
            found.append(f"results/{name}/recordings/{recording}/events.csv")
    if not found and "localise_chirps" in sys.argv:
        raise WorkflowError(
            "recordings.files is {} in every study; allowed is name: path, such as "
            "--config 'studies={<study>: {recordings: {files: {night: night.edf}}}}'"
        )
    return found
