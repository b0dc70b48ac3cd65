# What single heads and layers of fine-tuned networks do, and how alike they are between tasks.
include: "interventions_inputs.smk"


rule ablate_heads:
    input:
        test="<results>/{study}/{dataset}/data/test.h5",
        backbones=backbone_files,
        tuned=collect("<results>/<condition>/seed{seed}/model.safetensors", seed=seeds),
    output:
        effects="<results>/<condition>/head_effects.parquet",
    log:
        "<logs>/<condition>/ablate_heads.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=240,
    params:
        seeds=seeds,
        settings=from_config("studies/{study}/interventions/ablation"),
        targets=from_config("studies/{study}/interventions/targets"),
        code=code_of("ablate_heads.py"),
    script:
        "../scripts/ablate_heads.py"


rule patch_layers:
    input:
        backbones=backbone_files,
        tuned=collect("<results>/<condition>/seed{seed}/model.safetensors", seed=seeds),
    output:
        effects="<results>/<condition>/patch_effects.parquet",
        picture="<results>/<condition>/patch_picture.csv",
    log:
        "<logs>/<condition>/patch_layers.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=480,
    params:
        seeds=seeds,
        images=of_study(settings.images, "dataset"),
        settings=from_config("studies/{study}/interventions/patching"),
        code=code_of("patch_layers.py"),
    script:
        "../scripts/patch_layers.py"


rule compare_heads:
    input:
        probe=probe_images,
        backbones=backbone_files,
        tuned=models_of_tasks,
    output:
        similarity="<results>/{study}/heads/{backbone}/{protocol}.csv",
        maps="<results>/{study}/attention/{backbone}/{protocol}.csv",
        picture="<results>/{study}/pictures/{backbone}/{protocol}.csv",
    log:
        "<logs>/{study}/heads/{backbone}/{protocol}.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=240,
    params:
        seeds=seeds,
        datasets=of_study(settings.tasks, "backbone", "protocol"),
        settings=from_config("studies/{study}/interventions/similarity"),
        code=code_of("compare_heads.py"),
    script:
        "../scripts/compare_heads.py"


rule summarise_heads:
    input:
        ablated=for_each(
            conditions("ablation"), "<results>/<condition>/head_effects.parquet"
        ),
        patched=for_each(
            conditions("patching"), "<results>/<condition>/patch_effects.parquet"
        ),
        pictures=for_each(
            conditions("patching"), "<results>/<condition>/patch_picture.csv"
        ),
        maps=for_each(
            of_study(settings.compared),
            "<results>/{study}/attention/{backbone}/{protocol}.csv",
        ),
        picture=for_each(
            of_study(settings.compared),
            "<results>/{study}/pictures/{backbone}/{protocol}.csv",
        ),
        compared=for_each(
            of_study(settings.compared),
            "<results>/{study}/heads/{backbone}/{protocol}.csv",
        ),
    output:
        effects="<results>/{study}/tables/head_effects.csv",
        patches="<results>/{study}/tables/patch_effects.csv",
        pictures="<results>/{study}/tables/patch_pictures.csv",
        similarity="<results>/{study}/tables/head_similarity.csv",
        maps="<results>/{study}/tables/attention_maps.csv",
        picture="<results>/{study}/tables/attention_picture.csv",
        findings="<results>/{study}/findings/heads.csv",
    log:
        "<logs>/{study}/summarise_heads.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        ablated=conditions("ablation"),
        patched=conditions("patching"),
        compared=of_study(settings.compared),
        similarity=from_config("studies/{study}/interventions/similarity"),
        settings=from_config("studies/{study}/analyses"),
        code=code_of("summarise_heads.py"),
    script:
        "../scripts/summarise_heads.py"
