# Synthetic images: shards side by side, then one file per dataset and split.
include: "data_inputs.smk"


scattergather:
    shards=2,


rule synthesise_shard:
    output:
        shard=temp("<results>/{study}/{dataset}/data/{split}_{scatteritem}.h5"),
    log:
        "<logs>/{study}/{dataset}/synthesise_shard_{split}_{scatteritem}.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=60,
    params:
        images=of_study(settings.images, "dataset", "split"),
        code=code_of("synthesise_shard.py"),
    script:
        "../scripts/synthesise_shard.py"


rule synthesise_dataset:
    input:
        shards=gather.shards(
            "<results>/{{study}}/{{dataset}}/data/{{split}}_{scatteritem}.h5"
        ),
    output:
        dataset="<results>/{study}/{dataset}/data/{split}.h5",
    log:
        "<logs>/{study}/{dataset}/synthesise_dataset_{split}.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=60,
    params:
        code=code_of("synthesise_dataset.py"),
    script:
        "../scripts/synthesise_dataset.py"


# Pictures that people have annotated take the place of drawn ones.
ruleorder: gather_annotated > synthesise_dataset


rule gather_annotated:
    input:
        annotated_files,
    output:
        train="<results>/{study}/{dataset}/data/train.h5",
        validation="<results>/{study}/{dataset}/data/validation.h5",
        test="<results>/{study}/{dataset}/data/test.h5",
    log:
        "<logs>/{study}/{dataset}/gather_annotated.log",
    wildcard_constraints:
        dataset=annotated_datasets(),
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=60,
    params:
        settings=from_config("studies/{study}/stimuli/datasets/{dataset}/annotated"),
        image_px=from_config("studies/{study}/stimuli/common/image_px"),
        code=code_of("gather_annotated.py"),
    script:
        "../scripts/gather_annotated.py"


rule describe_dataset:
    input:
        train="<results>/{study}/{dataset}/data/train.h5",
        validation="<results>/{study}/{dataset}/data/validation.h5",
        test="<results>/{study}/{dataset}/data/test.h5",
    output:
        card="<results>/{study}/{dataset}/data/README.md",
    log:
        "<logs>/{study}/{dataset}/describe_dataset.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=30,
    params:
        named=card_texts,
        code=code_of("describe_dataset.py"),
    script:
        "../scripts/describe_dataset.py"
