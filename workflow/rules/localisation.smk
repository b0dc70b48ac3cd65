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
