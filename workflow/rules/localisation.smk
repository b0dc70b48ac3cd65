# Where networks find chirps: scores beside baselines, time taken, and a user's own recordings.
include: "localisation_inputs.smk"


rule time_inference:
    input:
        unpack(timed_networks),
    output:
        timings="<results>/{study}/tables/timings.csv",
        findings="<results>/{study}/findings/timing.csv",
    log:
        "<logs>/{study}/time_inference.log",
    conda:
        "../../envs/patchwork.yaml"
    # All of the run's cores: passes are timed with no other job beside them.
    threads: workflow.cores if workflow.local_exec else 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        seeds=seeds,
        condition=of_study(settings.timed),
        settings=of_study(settings.timing),
        planted=planted_effects,
        code=code_of("time_inference.py"),
    script:
        "../scripts/time_inference.py"


rule analyse_localisation:
    input:
        predictions=for_each(conditions(), "<results>/<condition>/predictions.parquet"),
        tests=test_files,
        steps=for_each(runs(), "<results>/<run>/training_log.parquet"),
    output:
        metrics="<results>/{study}/tables/localisation.csv",
        errors_along="<results>/{study}/tables/errors_along.csv",
        conformal="<results>/{study}/tables/conformal.csv",
        presence="<results>/{study}/tables/presence.csv",
        points="<results>/{study}/tables/points.csv",
        sentences="<results>/{study}/tables/sentences.csv",
        histograms="<results>/{study}/tables/chirp_errors.csv",
        learning="<results>/{study}/tables/learning_curve.csv",
        losses="<results>/{study}/tables/training_losses.csv",
        findings="<results>/{study}/findings/localisation.csv",
    log:
        "<logs>/{study}/analyse_localisation.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=120,
    params:
        conditions=conditions(),
        runs=runs(),
        settings=of_study(settings.localisation),
        planted=planted_effects,
        code=code_of("analyse_localisation.py"),
    script:
        "../scripts/analyse_localisation.py"


# Networks that were trained on drawn spectrograms alone, on pictures of real seizures.
rule predict_pictures:
    input:
        pictures=annotated_pictures,
        backbones=backbone_files,
        tuned=collect("<results>/<condition>/seed{seed}/model.safetensors", seed=seeds),
    output:
        predictions="<results>/<condition>/predicted_pictures.parquet",
    log:
        "<logs>/<condition>/predict_pictures.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        seeds=seeds,
        code=code_of("predict_pictures.py"),
    script:
        "../scripts/predict_pictures.py"


rule score_transfer:
    input:
        predictions=for_each(
            conditions("transfer"),
            "<results>/<condition>/predicted_pictures.parquet",
        ),
        pictures=annotated_pictures,
    output:
        metrics="<results>/{study}/tables/transfer.csv",
        points="<results>/{study}/tables/transfer_points.csv",
        findings="<results>/{study}/findings/transfer.csv",
    log:
        "<logs>/{study}/score_transfer.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        conditions=conditions("transfer"),
        planted=planted_effects,
        code=code_of("score_transfer.py"),
    script:
        "../scripts/score_transfer.py"


rule localise_recording:
    input:
        unpack(search_files),
    output:
        events="<results>/{study}/recordings/{recording}/events.csv",
        channels="<results>/{study}/recordings/{recording}/channels.csv",
        bids="<results>/{study}/recordings/{recording}/events.tsv",
        page="<results>/{study}/recordings/{recording}/index.html",
        fif="<results>/{study}/recordings/{recording}/events-annot.fif",
        csv="<results>/{study}/recordings/{recording}/events-annot.csv",
        edf="<results>/{study}/recordings/{recording}/events-annot.edf",
        overlays=directory("<results>/{study}/recordings/{recording}/overlays"),
    log:
        "<logs>/{study}/recordings/{recording}.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=240,
    params:
        settings=of_study(settings.search, "recording"),
        code=code_of("localise_recording.py"),
    script:
        "../scripts/localise_recording.py"
