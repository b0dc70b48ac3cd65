# From the predictions and logs of all runs of a study to tables and findings.


rule score_predictions:
    input:
        predictions=for_each(conditions(), "<results>/<condition>/predictions.parquet"),
        tests=test_files,
    output:
        metrics="<results>/{study}/tables/metrics.csv",
        findings="<results>/{study}/findings/metrics.csv",
    log:
        "<logs>/{study}/score_predictions.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        conditions=conditions(),
        code=code_of("score_predictions.py"),
    script:
        "../scripts/score_predictions.py"


rule analyse_orientation:
    input:
        predictions=for_each(conditions(), "<results>/<condition>/predictions.parquet"),
        tests=test_files,
    output:
        curves="<results>/{study}/tables/orientation_curves.csv",
        histograms="<results>/{study}/tables/error_histograms.csv",
        bias="<results>/{study}/tables/orientation_bias.csv",
        harmonics="<results>/{study}/tables/orientation_harmonics.csv",
        contrasts="<results>/{study}/tables/orientation_contrasts.csv",
        findings="<results>/{study}/findings/orientation.csv",
    log:
        "<logs>/{study}/analyse_orientation.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        conditions=conditions(),
        settings=from_config("studies/{study}/analyses"),
        protocols=from_config("studies/{study}/protocols"),
        code=code_of("analyse_orientation.py"),
    script:
        "../scripts/analyse_orientation.py"


rule probe_depth:
    input:
        backbone=shared_backbone,
    output:
        errors="<results>/{study}/depth/{backbone}_errors.parquet",
    log:
        "<logs>/{study}/depth/{backbone}.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=120,
    params:
        images=of_study(settings.depth_images),
        settings=from_config("studies/{study}/analyses/depth"),
        code=code_of("probe_depth.py"),
    script:
        "../scripts/probe_depth.py"


rule summarise_depth:
    input:
        errors=collect(
            "<results>/{{study}}/depth/{backbone}_errors.parquet",
            backbone=from_config("studies/{study}/analyses/depth/backbones"),
        ),
    output:
        bias="<results>/{study}/tables/bias_by_depth.csv",
    log:
        "<logs>/{study}/summarise_depth.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        images=of_study(settings.depth_images),
        settings=from_config("studies/{study}/analyses/depth"),
        code=code_of("summarise_depth.py"),
    script:
        "../scripts/summarise_depth.py"


rule predict_colours:
    input:
        backbones=backbone_files,
        tuned=collect("<results>/<condition>/seed{seed}/model.safetensors", seed=seeds),
    output:
        errors="<results>/<condition>/paired_colours.parquet",
    log:
        "<logs>/<condition>/predict_colours.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=120,
    params:
        seeds=seeds,
        images=of_study(settings.images, "dataset"),
        settings=from_config("studies/{study}/analyses"),
        code=code_of("predict_colours.py"),
    script:
        "../scripts/predict_colours.py"


rule analyse_colour:
    input:
        errors=for_each(
            conditions("colour"), "<results>/<condition>/paired_colours.parquet"
        ),
    output:
        errors="<results>/{study}/tables/colour_errors.csv",
        predictions="<results>/{study}/tables/colour_predictions.csv",
        findings="<results>/{study}/findings/colour.csv",
    log:
        "<logs>/{study}/analyse_colour.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        conditions=conditions("colour"),
        drawn=of_study(settings.drawn_colours),
        settings=from_config("studies/{study}/analyses"),
        code=code_of("analyse_colour.py"),
    script:
        "../scripts/analyse_colour.py"


rule detect_transitions:
    input:
        steps=for_each(runs(), "<results>/<run>/training_log.parquet"),
        epochs=for_each(runs(), "<results>/<run>/validation.csv"),
    output:
        curves="<results>/{study}/tables/loss_curves.csv",
        transitions="<results>/{study}/tables/transitions.csv",
        counts="<results>/{study}/tables/transition_counts.csv",
        epochs="<results>/{study}/tables/validation.csv",
        findings="<results>/{study}/findings/transitions.csv",
    log:
        "<logs>/{study}/detect_transitions.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        runs=runs(),
        settings=from_config("studies/{study}/analyses"),
        options=of_study(settings.schedule),
        code=code_of("detect_transitions.py"),
    script:
        "../scripts/detect_transitions.py"
