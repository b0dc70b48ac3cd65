# Files of networks whose heads are compared between datasets.


def models_of_tasks(wildcards) -> list[str]:
    """The models of a compared network: seed by seed, one for each dataset."""
    tasks = of_study(settings.tasks, "backbone", "protocol")(wildcards)
    return [
        path("<results>/<run>/model.safetensors", wildcards, dataset=task, seed=seed)
        for seed in seeds(wildcards)
        for task in tasks
    ]


def probe_images(wildcards) -> str:
    """The images on which heads are compared."""
    name = study_of(wildcards)["interventions"]["similarity"]["probe"]
    return f"<results>/{{study}}/{name}/data/test.h5"
