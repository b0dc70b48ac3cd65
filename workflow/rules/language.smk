# Language models: abstracts, tokenizers, training, and what the models know.
include: "language_inputs.smk"


rule invent_background:
    output:
        background="<results>/{study}/{dataset}/data/background.parquet",
    log:
        "<logs>/{study}/{dataset}/invent_background.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=10,
    params:
        source=from_config("studies/{study}/language/datasets/{dataset}/source"),
        code=code_of("invent_background.py"),
    script:
        "../scripts/invent_background.py"


rule train_tokenizer:
    input:
        texts=tokenizer_texts,
    output:
        tokenizer="<results>/{study}/{dataset}/tokenizer/seed{seed}/tokenizer.json",
    log:
        "<logs>/{study}/{dataset}/train_tokenizer_seed{seed}.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=20,
    params:
        vocabulary=from_config("studies/{study}/language/datasets/{dataset}/vocabulary"),
        code=code_of("train_tokenizer.py"),
    script:
        "../scripts/train_tokenizer.py"


rule invent_corpus:
    input:
        background=rules.invent_background.output.background,
        tokenizer=rules.train_tokenizer.output.tokenizer,
    output:
        abstracts="<results>/{study}/{dataset}/data/seed{seed}/abstracts.parquet",
        shuffled="<results>/{study}/{dataset}/data/seed{seed}/shuffled.parquet",
        facts="<results>/{study}/{dataset}/data/seed{seed}/facts.csv",
    log:
        "<logs>/{study}/{dataset}/invent_corpus_seed{seed}.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=10,
    params:
        source=from_config("studies/{study}/language/datasets/{dataset}/source"),
        code=code_of("invent_corpus.py"),
    script:
        "../scripts/invent_corpus.py"


rule fetch_abstracts:
    input:
        table=text_table,
    output:
        abstracts="<results>/{study}/{dataset}/data/abstracts.parquet",
    log:
        "<logs>/{study}/{dataset}/fetch_abstracts.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=240,
    params:
        source=from_config("studies/{study}/language/datasets/{dataset}/source"),
        parts=path_of("<results>/checkpoints/{study}/{dataset}/abstracts"),
        code=code_of("fetch_abstracts.py"),
    script:
        "../scripts/fetch_abstracts.py"


rule pretrain_language_model:
    input:
        texts=rules.invent_background.output.background,
        tokenizer=rules.train_tokenizer.output.tokenizer,
    output:
        **model_files("<results>/{study}/{dataset}/backbones/{backbone}_seed{seed}"),
        steps="<results>/{study}/{dataset}/backbones/{backbone}_seed{seed}/language_log.parquet",
        epochs="<results>/{study}/{dataset}/backbones/{backbone}_seed{seed}/language_validation.csv",
    log:
        "<logs>/{study}/{dataset}/backbones/pretrain_{backbone}_seed{seed}.log",
    priority: 10
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=240,
    params:
        backbone=from_config("studies/{study}/language/backbones/{backbone}"),
        share=from_config(
            "studies/{study}/language/datasets/{dataset}/validation_share"
        ),
        checkpoints=path_of(
            "<results>/checkpoints/{study}/{dataset}/backbones/{backbone}_seed{seed}"
        ),
        events=path_of(
            "<results>/tensorboard/{study}/{dataset}/backbones/{backbone}_seed{seed}"
        ),
        code=code_of("pretrain_language_model.py"),
    script:
        "../scripts/pretrain_language_model.py"


rule fine_tune_language_model:
    input:
        abstracts=abstracts_file,
        tokenizer=tokenizer_file,
        weights=weights_before,
    output:
        **model_files("<results>/<run>"),
        steps="<results>/<run>/language_log.parquet",
        epochs="<results>/<run>/language_validation.csv",
    log:
        "<logs>/<run>/fine_tune_language_model.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=720,
    params:
        protocol=from_config("studies/{study}/language/protocols/{protocol}"),
        training=of_study(settings.text_training, "protocol"),
        share=from_config(
            "studies/{study}/language/datasets/{dataset}/validation_share"
        ),
        checkpoints=path_of("<results>/checkpoints/<run>"),
        events=path_of("<results>/tensorboard/<run>"),
        code=code_of("fine_tune_language_model.py"),
    script:
        "../scripts/fine_tune_language_model.py"


# All seeds in one job: loading the libraries takes longer than a seed's answers.
rule score_knowledge:
    input:
        facts=of_text_seeds(facts_file),
        abstracts=of_text_seeds(abstracts_file),
        tokenizers=of_text_seeds(tokenizer_file),
        weights=collect(
            "<results>/<condition>/seed{seed}/model/model.safetensors", seed=text_seeds
        ),
    output:
        knowledge="<results>/<condition>/knowledge.csv",
        losses="<results>/<condition>/text_losses.csv",
    log:
        "<logs>/<condition>/score_knowledge.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        seeds=text_seeds,
        share=from_config(
            "studies/{study}/language/datasets/{dataset}/validation_share"
        ),
        code=code_of("score_knowledge.py"),
    script:
        "../scripts/score_knowledge.py"


rule summarise_knowledge:
    input:
        knowledge=for_each(text_conditions, "<results>/<condition>/knowledge.csv"),
        losses=for_each(text_conditions, "<results>/<condition>/text_losses.csv"),
        fetched=fetched_abstracts,
    output:
        findings="<results>/{study}/findings/knowledge.csv",
    log:
        "<logs>/{study}/summarise_knowledge.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=10,
    params:
        conditions=text_conditions,
        mentions=of_study(settings.mentions),
        code=code_of("summarise_knowledge.py"),
    script:
        "../scripts/summarise_knowledge.py"
