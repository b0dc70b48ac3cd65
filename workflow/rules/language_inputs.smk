# Files of language studies.


def model_files(folder: str) -> dict[str, str]:
    """The files of a language model."""
    names = {"weights": "model.safetensors", "settings": "config.json"}
    return {key: f"{folder}/model/{name}" for key, name in names.items()}


def is_invented(wildcards) -> bool:
    """Whether the abstracts of a data set are invented here."""
    source = study_of(wildcards)["language"]["datasets"][wildcards.dataset]["source"]
    return source["kind"] == "invented"


def tokenizer_texts(wildcards) -> str:
    """What a tokenizer is trained on: text without facts, or the fetched abstracts."""
    name = "background" if is_invented(wildcards) else "abstracts"
    return f"<results>/{{study}}/{{dataset}}/data/{name}.parquet"


def text_backbone(wildcards) -> dict:
    """The backbone of a run."""
    return study_of(wildcards)["language"]["backbones"][wildcards.backbone]


def tokenizer_file(wildcards) -> str:
    """The tokenizer of a run: that of its backbone's folder, or one trained here."""
    backbone = text_backbone(wildcards)
    if backbone["source"] == "folder":
        return f"{backbone['path']}/tokenizer.json"
    return "<results>/{study}/{dataset}/tokenizer/seed{seed}/tokenizer.json"


def weights_before(wildcards) -> str:
    """The weights that a run starts from; one pre-training serves every seed."""
    backbone = text_backbone(wildcards)
    if backbone["source"] == "folder":
        return f"{backbone['path']}/model.safetensors"
    first = study_of(wildcards)["seeds"][0]
    return f"<results>/{{study}}/{{dataset}}/backbones/{{backbone}}_seed{first}/model/model.safetensors"


def abstracts_file(wildcards) -> str:
    """The abstracts of a run; fetched ones are the same for every seed."""
    if not is_invented(wildcards):
        return "<results>/{study}/{dataset}/data/abstracts.parquet"
    protocol = study_of(wildcards)["language"]["protocols"][wildcards.protocol]
    name = "shuffled" if protocol["facts"] == "shuffled" else "abstracts"
    return f"<results>/{{study}}/{{dataset}}/data/seed{{seed}}/{name}.parquet"


def text_table(wildcards) -> list[str]:
    """The local table of abstracts, if they come from one."""
    source = study_of(wildcards)["language"]["datasets"][wildcards.dataset]["source"]
    return [source["path"]] if source["kind"] == "file" else []


def facts_file(wildcards) -> str:
    """The facts that a run is asked."""
    source = study_of(wildcards)["language"]["datasets"][wildcards.dataset]["source"]
    drawn = "<results>/{study}/{dataset}/data/seed{seed}/facts.csv"
    return source.get("facts", drawn)


# Params functions: seeds of a condition; every condition of a study.
text_seeds = of_study(settings.text_seeds, "dataset", "backbone", "protocol")
text_conditions = of_study(settings.text_conditions)


def of_text_seeds(file_of):
    """Input function: what `file_of` gives for each seed of a condition, in their order."""
    return lambda wildcards: [
        file_of(wildcards).replace("{seed}", str(seed))
        for seed in text_seeds(wildcards)
    ]


def fetched_abstracts(wildcards) -> list[str]:
    """Corpora in which words are counted, in the order of `settings.mentions`."""
    return [
        f"<results>/{{study}}/{name}/data/abstracts.parquet"
        for name in settings.mentions(study_of(wildcards))
    ]
