# Attention of single heads on known regions, their effects, and the published ablation.


rule attend_regions:
    input:
        test="<results>/{study}/{dataset}/data/test.h5",
        backbone=backbone_of_run,
        model="<results>/<run>/model.safetensors",
    output:
        scores="<results>/<run>/region_scores.parquet",
        heads="<results>/<run>/region_heads.parquet",
        overlay="<results>/<run>/overlay.csv",
        picture="<results>/<run>/overlay_picture.csv",
    log:
        "<logs>/<run>/attend_regions.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        n_images=from_config("studies/{study}/semantics/attention/n_images"),
        merged=from_config("studies/{study}/semantics/merged"),
        code=code_of("attend_regions.py"),
    script:
        "../scripts/attend_regions.py"


rule ablate_groups:
    input:
        test="<results>/{study}/{dataset}/data/test.h5",
        backbone=backbone_of_run,
        model="<results>/<run>/model.safetensors",
    output:
        effects="<results>/<run>/group_effects.parquet",
        spread="<results>/<run>/prediction_spread.csv",
    log:
        "<logs>/<run>/ablate_groups.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=240,
    params:
        settings=from_config("studies/{study}/semantics/groups"),
        targets=from_config("studies/{study}/semantics/targets"),
        code=code_of("ablate_groups.py"),
    script:
        "../scripts/ablate_groups.py"


rule ablate_rows:
    input:
        test="<results>/{study}/{dataset}/data/test.h5",
        backbone=backbone_of_run,
        model="<results>/<run>/model.safetensors",
    output:
        sweeps="<results>/<run>/row_sweeps.csv",
        scales="<results>/<run>/label_scales.csv",
    log:
        "<logs>/<run>/ablate_rows.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=240,
    params:
        settings=from_config("studies/{study}/semantics/released"),
        targets=from_config("studies/{study}/semantics/targets"),
        code=code_of("ablate_rows.py"),
    script:
        "../scripts/ablate_rows.py"


rule summarise_regions:
    input:
        predicted=for_each(
            conditions("groups"), "<results>/<condition>/predictions.parquet"
        ),
        attended=for_each(runs("attention"), "<results>/<run>/region_heads.parquet"),
        ablated=for_each(runs("groups"), "<results>/<run>/group_effects.parquet"),
        spread=for_each(runs("groups"), "<results>/<run>/prediction_spread.csv"),
        overlay=for_each(runs("attention"), "<results>/<run>/overlay.csv"),
        picture=for_each(runs("attention"), "<results>/<run>/overlay_picture.csv"),
    output:
        attention="<results>/{study}/tables/region_attention.csv",
        shares="<results>/{study}/tables/head_selectivity.csv",
        effects="<results>/{study}/tables/group_effects.csv",
        compared="<results>/{study}/tables/attention_and_effect.csv",
        competence="<results>/{study}/tables/competence.csv",
        spread="<results>/{study}/tables/prediction_spread.csv",
        overlay="<results>/{study}/tables/overlay.csv",
        picture="<results>/{study}/tables/overlay_picture.csv",
        findings="<results>/{study}/findings/regions.csv",
    log:
        "<logs>/{study}/summarise_regions.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        predicted=conditions("groups"),
        attended=runs("attention"),
        ablated=runs("groups"),
        planted=planted_effects,
        settings=from_config("studies/{study}/semantics"),
        code=code_of("summarise_regions.py"),
    script:
        "../scripts/summarise_regions.py"


rule summarise_released:
    input:
        predicted=for_each(
            conditions("released"), "<results>/<condition>/predictions.parquet"
        ),
        sweeps=for_each(runs("released"), "<results>/<run>/row_sweeps.csv"),
        scales=for_each(runs("released"), "<results>/<run>/label_scales.csv"),
    output:
        profile="<results>/{study}/tables/released_profile.csv",
        scales="<results>/{study}/tables/label_scales.csv",
        findings="<results>/{study}/findings/released.csv",
    log:
        "<logs>/{study}/summarise_released.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        conditions=conditions("released"),
        runs=runs("released"),
        gate=from_config("studies/{study}/semantics/competence"),
        planted=planted_effects,
        code=code_of("summarise_released.py"),
    script:
        "../scripts/summarise_released.py"
