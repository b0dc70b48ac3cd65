# Attention of single heads on known regions, their effects, and the published ablation.


rule attend_regions:
    input:
        test="<results>/{study}/{dataset}/data/test.h5",
        backbone=backbone_of,
        model="<results>/<run>/model.safetensors",
    output:
        scores="<results>/<run>/region_scores.parquet",
        heads="<results>/<run>/region_heads.parquet",
        overlay="<results>/<run>/overlay.csv",
        picture="<results>/<run>/overlay_picture.csv",
    log:
        "<logs>/<run>/attend_regions.log",
    benchmark:
        "<benchmarks>/<run>/attend_regions.tsv"
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=60,
    params:
        settings=attention_settings,
        code=code_of("attend_regions.py"),
    script:
        "../scripts/attend_regions.py"


rule ablate_groups:
    input:
        test="<results>/{study}/{dataset}/data/test.h5",
        backbone=backbone_of,
        model="<results>/<run>/model.safetensors",
    output:
        effects="<results>/<run>/group_effects.parquet",
        spread="<results>/<run>/prediction_spread.csv",
    log:
        "<logs>/<run>/ablate_groups.log",
    benchmark:
        "<benchmarks>/<run>/ablate_groups.tsv"
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=240,
    params:
        settings=lookup("studies/{study}/semantics/groups", within=config),
        targets=lookup("studies/{study}/semantics/targets", within=config),
        code=code_of("ablate_groups.py"),
    script:
        "../scripts/ablate_groups.py"


rule ablate_rows:
    input:
        test="<results>/{study}/{dataset}/data/test.h5",
        backbone=backbone_of,
        model="<results>/<run>/model.safetensors",
    output:
        sweeps="<results>/<run>/row_sweeps.csv",
        scales="<results>/<run>/label_scales.csv",
    log:
        "<logs>/<run>/ablate_rows.log",
    benchmark:
        "<benchmarks>/<run>/ablate_rows.tsv"
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=240,
    params:
        settings=lookup("studies/{study}/semantics/released", within=config),
        targets=lookup("studies/{study}/semantics/targets", within=config),
        code=code_of("ablate_rows.py"),
    script:
        "../scripts/ablate_rows.py"


rule summarise_regions:
    input:
        attended=of_runs("region_heads.parquet", "attention"),
        ablated=of_runs("group_effects.parquet", "groups"),
        spread=of_runs("prediction_spread.csv", "groups"),
        overlay=of_runs("overlay.csv", "attention"),
        picture=of_runs("overlay_picture.csv", "attention"),
    output:
        attention="<results>/{study}/tables/region_attention.csv",
        shares="<results>/{study}/tables/head_selectivity.csv",
        effects="<results>/{study}/tables/group_effects.csv",
        compared="<results>/{study}/tables/attention_and_effect.csv",
        agreement="<results>/{study}/tables/agreement.csv",
        spread="<results>/{study}/tables/prediction_spread.csv",
        overlay="<results>/{study}/tables/overlay.csv",
        picture="<results>/{study}/tables/overlay_picture.csv",
        findings="<results>/{study}/findings/regions.csv",
    log:
        "<logs>/{study}/summarise_regions.log",
    benchmark:
        "<benchmarks>/{study}/summarise_regions.tsv"
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        runs=runs_of_semantics,
        settings=lookup("studies/{study}/semantics", within=config),
        block=lookup("studies/{study}/analyses", within=config),
        code=code_of("summarise_regions.py"),
    script:
        "../scripts/summarise_regions.py"


rule summarise_released:
    input:
        sweeps=of_runs("row_sweeps.csv", "released"),
        scales=of_runs("label_scales.csv", "released"),
    output:
        profile="<results>/{study}/tables/released_profile.csv",
        scales="<results>/{study}/tables/label_scales.csv",
        findings="<results>/{study}/findings/released.csv",
    log:
        "<logs>/{study}/summarise_released.log",
    benchmark:
        "<benchmarks>/{study}/summarise_released.tsv"
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        runs=runs_in("released"),
        block=lookup("studies/{study}/analyses", within=config),
        code=code_of("summarise_released.py"),
    script:
        "../scripts/summarise_released.py"
