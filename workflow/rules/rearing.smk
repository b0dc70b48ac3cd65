# Controlled rearing: what the arms of a study look like inside, and how they differ.


rule probe_backbones:
    input:
        reared=reared_of_seeds,
        snapshots=snapshots_of_seeds,
    output:
        measures="<results>/{study}/arms/{backbone}.csv",
    log:
        "<logs>/{study}/arms/{backbone}.log",
    benchmark:
        "<benchmarks>/{study}/arms/{backbone}.tsv"
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=120,
    params:
        seeds=seeds_in,
        image_px=lookup("studies/{study}/stimuli/common/image_px", within=config),
        settings=lookup("studies/{study}/arms", within=config),
        code=code_of("probe_backbones.py"),
    script:
        "../scripts/probe_backbones.py"


rule describe_arms:
    input:
        pictures="<results>/{study}/pictures.h5",
    output:
        energy="<results>/{study}/tables/edge_energy.csv",
        hues="<results>/{study}/tables/hues.csv",
        ceiling="<results>/{study}/tables/stimulus_ceiling.csv",
        svg=report(
            "<results>/{study}/figures/arms.svg",
            caption="../report/figure.rst",
            category="{study}",
            labels={"figure": "arms"},
        ),
        png="<results>/{study}/figures/arms.png",
        shown="<results>/{study}/figures/arms.csv",
    log:
        "<logs>/{study}/describe_arms.log",
    benchmark:
        "<benchmarks>/{study}/describe_arms.tsv"
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        views=views_of_arms,
        seed=first_seed,
        settings=lookup("studies/{study}/arms", within=config),
        caption="Views of the same pictures in every arm.",
        code=code_of("describe_arms.py"),
    script:
        "../scripts/describe_arms.py"


rule contrast_arms:
    input:
        measures=measures_of_arms,
        predictions=of_conditions("predictions.parquet"),
        tests=datasets_of_runs,
    output:
        curves="<results>/{study}/tables/arm_curves.csv",
        biases="<results>/{study}/tables/arm_biases.csv",
        contrasts="<results>/{study}/tables/arm_contrasts.csv",
        trajectory="<results>/{study}/tables/arm_trajectory.csv",
        optima="<results>/{study}/tables/arm_optima.csv",
        lattice="<results>/{study}/tables/arm_lattice.csv",
        adapted="<results>/{study}/tables/arm_adaptation.csv",
        excluded="<results>/{study}/tables/arm_exclusions.csv",
        findings="<results>/{study}/findings/arms.csv",
    log:
        "<logs>/{study}/contrast_arms.log",
    benchmark:
        "<benchmarks>/{study}/contrast_arms.tsv"
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        arms=lookup("studies/{study}/arms/names", within=config),
        conditions=conditions_in,
        settings=lookup("studies/{study}/arms", within=config),
        plan=lookup("preregistrations/{study}", within=config),
        code=code_of("contrast_arms.py"),
    script:
        "../scripts/contrast_arms.py"
