# Fine-tuning of a backbone on one dataset under one protocol, and its predictions.


rule extract_features:
    input:
        train="<results>/{study}/{dataset}/data/train.h5",
        validation=selection_images,
        backbone=shared_backbone,
    output:
        features="<results>/<condition>/features.safetensors",
    log:
        "<logs>/<condition>/extract_features.log",
    priority: 5
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=240,
    params:
        protocol=from_config("studies/{study}/protocols/{protocol}"),
        code=code_of("extract_features.py"),
    script:
        "../scripts/extract_features.py"


rule fine_tune:
    input:
        unpack(features_of_run),
        train="<results>/{study}/{dataset}/data/train.h5",
        validation=selection_images,
        backbone=backbone_of_run,
    output:
        # The seed's limits would not reach through <run>, which then matches folders below a run.
        model="<results>/<condition>/seed{seed,[0-9]+}/model.safetensors",
        steps="<results>/<run>/training_log.parquet",
        epochs="<results>/<run>/validation.csv",
    log:
        "<logs>/<run>/fine_tune.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=720,
    params:
        protocol=from_config("studies/{study}/protocols/{protocol}"),
        training=of_study(settings.training, "dataset", "protocol"),
        checkpoints=path_of("<results>/checkpoints/<run>"),
        events=path_of("<results>/tensorboard/<run>"),
        code=code_of("fine_tune.py"),
    script:
        "../scripts/fine_tune.py"


# All seeds in one job: loading the libraries takes longer than a seed's predictions.
rule evaluate:
    input:
        test="<results>/{study}/{dataset}/data/test.h5",
        backbones=backbone_files,
        tuned=collect("<results>/<condition>/seed{seed}/model.safetensors", seed=seeds),
    output:
        predictions="<results>/<condition>/predictions.parquet",
    log:
        "<logs>/<condition>/evaluate.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        seeds=seeds,
        code=code_of("evaluate.py"),
    script:
        "../scripts/evaluate.py"
