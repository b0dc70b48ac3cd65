# Controlled rearing: what the conditions of a study look like inside, and how they differ.


rule probe_backbones:
    input:
        pretrained=backbone_files,
        snapshots=snapshot_files,
    output:
        measures="<results>/{study}/rearing_conditions/{backbone}.csv",
    log:
        "<logs>/{study}/rearing_conditions/{backbone}.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=megabytes(4000),
        runtime=120,
    params:
        seeds=seeds,
        image_px=from_config("studies/{study}/stimuli/common/image_px"),
        settings=from_config("studies/{study}/rearing_conditions"),
        code=code_of("probe_backbones.py"),
    script:
        "../scripts/probe_backbones.py"


rule describe_rearing:
    input:
        pictures="<results>/{study}/pictures.h5",
    output:
        energy="<results>/{study}/tables/edge_energy.csv",
        hues="<results>/{study}/tables/hues.csv",
        ceiling="<results>/{study}/tables/stimulus_ceiling.csv",
        svg=in_report(
            "<results>/{study}/figures/rearing_conditions.svg", "rearing_conditions"
        ),
        png="<results>/{study}/figures/rearing_conditions.png",
        shown="<results>/{study}/figures/rearing_conditions.csv",
    log:
        "<logs>/{study}/describe_rearing.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=20,
    params:
        views=of_study(settings.views_of_conditions),
        seeds=seeds,
        settings=from_config("studies/{study}/rearing_conditions"),
        caption="Views of the same pictures in every condition.",
        code=code_of("describe_rearing.py"),
    script:
        "../scripts/describe_rearing.py"


rule contrast_rearing:
    input:
        measures=collect(
            "<results>/{{study}}/rearing_conditions/{name}.csv",
            name=from_config("studies/{study}/rearing_conditions/names"),
        ),
        predictions=for_each(conditions(), "<results>/<condition>/predictions.parquet"),
    output:
        curves="<results>/{study}/tables/rearing_curves.csv",
        biases="<results>/{study}/tables/rearing_biases.csv",
        contrasts="<results>/{study}/tables/rearing_contrasts.csv",
        trajectory="<results>/{study}/tables/rearing_trajectory.csv",
        planes="<results>/{study}/tables/rearing_planes.csv",
        adapted="<results>/{study}/tables/rearing_adaptation.csv",
        excluded="<results>/{study}/tables/rearing_exclusions.csv",
        findings="<results>/{study}/findings/rearing_conditions.csv",
    log:
        "<logs>/{study}/contrast_rearing.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=20,
    params:
        rearing_conditions=from_config("studies/{study}/rearing_conditions/names"),
        conditions=conditions(),
        settings=from_config("studies/{study}/rearing_conditions"),
        plan=from_config("preregistrations/{study}"),
        code=code_of("contrast_rearing.py"),
    script:
        "../scripts/contrast_rearing.py"
