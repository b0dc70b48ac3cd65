# Fine-tuning of a backbone on one dataset under one protocol, and its predictions.


rule fine_tune:
    input:
        train="<results>/{study}/{dataset}/data/train.h5",
        validation=selected_on,
        backbone=backbone_of,
    output:
        model="<results>/<run>/model.safetensors",
        steps="<results>/<run>/training_log.parquet",
        epochs="<results>/<run>/validation.csv",
    log:
        "<logs>/<run>/fine_tune.log",
    benchmark:
        "<benchmarks>/<run>/fine_tune.tsv"
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=720,
    params:
        protocol=lookup("studies/{study}/protocols/{protocol}", within=config),
        training=training_of,
        checkpoints=checkpoints_of,
        events=events_of,
        code=code_of("fine_tune.py"),
    script:
        "../scripts/fine_tune.py"


# All seeds in one job: loading the libraries takes longer than a seed's predictions.
rule evaluate:
    input:
        test="<results>/{study}/{dataset}/data/test.h5",
        backbones=backbones_of_seeds,
        tuned=tuned_of_seeds,
    output:
        predictions="<results>/<condition>/predictions.parquet",
    log:
        "<logs>/<condition>/evaluate.log",
    benchmark:
        "<benchmarks>/<condition>/evaluate.tsv"
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=60,
    params:
        seeds=seeds_in,
        code=code_of("evaluate.py"),
    script:
        "../scripts/evaluate.py"
