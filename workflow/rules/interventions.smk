# What single heads and layers of fine-tuned networks do, and how alike they are between tasks.


rule ablate_heads:
    input:
        test="<results>/{study}/{dataset}/data/test.h5",
        backbones=backbones_of_seeds,
        tuned=tuned_of_seeds,
    output:
        effects="<results>/<condition>/head_effects.parquet",
    log:
        "<logs>/<condition>/ablate_heads.log",
    benchmark:
        "<benchmarks>/<condition>/ablate_heads.tsv"
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=240,
    params:
        seeds=seeds_in,
        settings=lookup("studies/{study}/interventions/ablation", within=config),
        targets=lookup("studies/{study}/interventions/targets", within=config),
        code=code_of("ablate_heads.py"),
    script:
        "../scripts/ablate_heads.py"


rule patch_layers:
    input:
        backbones=backbones_of_seeds,
        tuned=tuned_of_seeds,
    output:
        effects="<results>/<condition>/patch_effects.parquet",
    log:
        "<logs>/<condition>/patch_layers.log",
    benchmark:
        "<benchmarks>/<condition>/patch_layers.tsv"
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=480,
    params:
        seeds=seeds_in,
        images=test_images,
        settings=lookup("studies/{study}/interventions/patching", within=config),
        code=code_of("patch_layers.py"),
    script:
        "../scripts/patch_layers.py"


rule compare_heads:
    input:
        probe=probe_of,
        backbones=backbones_of_seeds,
        tuned=tuned_on_each_dataset,
    output:
        similarity="<results>/{study}/heads/{backbone}/{protocol}.csv",
    log:
        "<logs>/{study}/heads/{backbone}/{protocol}.log",
    benchmark:
        "<benchmarks>/{study}/heads/{backbone}/{protocol}.tsv"
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=240,
    params:
        seeds=seeds_in,
        datasets=tasks_of,
        settings=lookup("studies/{study}/interventions/similarity", within=config),
        code=code_of("compare_heads.py"),
    script:
        "../scripts/compare_heads.py"


rule summarise_heads:
    input:
        ablated=of_conditions("head_effects.parquet", "ablation"),
        patched=of_conditions("patch_effects.parquet", "patching"),
        compared=comparisons,
    output:
        effects="<results>/{study}/tables/head_effects.csv",
        patches="<results>/{study}/tables/patch_effects.csv",
        similarity="<results>/{study}/tables/head_similarity.csv",
        findings="<results>/{study}/findings/heads.csv",
    log:
        "<logs>/{study}/summarise_heads.log",
    benchmark:
        "<benchmarks>/{study}/summarise_heads.tsv"
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        runs=conditions_of_heads,
        untrained=untrained_backbones,
        settings=lookup("studies/{study}/analyses", within=config),
        code=code_of("summarise_heads.py"),
    script:
        "../scripts/summarise_heads.py"
