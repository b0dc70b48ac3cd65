# Stability of signed networks: one job per data set and kind of table, one per figure.
include: "networks_inputs.smk"


rule describe_networks:
    output:
        edges="<results>/{study}/{dataset}/edges.csv",
        nodes="<results>/{study}/{dataset}/nodes.csv",
        structure="<results>/{study}/{dataset}/structure.csv",
        signings="<results>/{study}/{dataset}/signings.parquet",
        spectra="<results>/{study}/{dataset}/spectra.csv",
        motifs="<results>/{study}/{dataset}/motifs.csv",
        walks="<results>/{study}/{dataset}/walks.csv",
        pseudospectrum="<results>/{study}/{dataset}/pseudospectrum.csv",
        edge_sweeps="<results>/{study}/{dataset}/edge_sweeps.csv",
    log:
        "<logs>/{study}/{dataset}/describe_networks.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=20,
    params:
        dataset=from_config("studies/{study}/networks/datasets/{dataset}"),
        analysis=from_config("studies/{study}/networks/analysis"),
        code=code_of("describe_networks.py"),
    script:
        "../scripts/describe_networks.py"


rule score_released_attention:
    output:
        scores="<results>/{study}/{dataset}/released_scores.csv",
    log:
        "<logs>/{study}/{dataset}/score_released_attention.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=20,
    params:
        dataset=from_config("studies/{study}/networks/datasets/{dataset}"),
        graph_free_epochs=from_config("studies/{study}/networks/graph_free_epochs"),
        code=code_of("score_released_attention.py"),
    script:
        "../scripts/score_released_attention.py"


rule train_graph_attention:
    output:
        attention="<results>/{study}/{dataset}/trained_attention.csv",
    log:
        "<logs>/{study}/{dataset}/train_graph_attention.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 2
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        dataset=from_config("studies/{study}/networks/datasets/{dataset}"),
        training=from_config("studies/{study}/networks/training"),
        code=code_of("train_graph_attention.py"),
    script:
        "../scripts/train_graph_attention.py"


rule associate_attention:
    input:
        nodes=rules.describe_networks.output.nodes,
        signings=rules.describe_networks.output.signings,
        released=rules.score_released_attention.output.scores,
        attention=rules.train_graph_attention.output.attention,
    output:
        scored="<results>/{study}/{dataset}/scored_nodes.csv",
        score_spread="<results>/{study}/{dataset}/score_spread.csv",
        summary="<results>/{study}/{dataset}/associations.csv",
        profiles="<results>/{study}/{dataset}/rank_profiles.csv",
        sign_effects="<results>/{study}/{dataset}/sign_effects.csv",
        findings="<results>/{study}/{dataset}/findings.csv",
    log:
        "<logs>/{study}/{dataset}/associate_attention.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=20,
    params:
        analysis=from_config("studies/{study}/networks/analysis"),
        code=code_of("associate_attention.py"),
    script:
        "../scripts/associate_attention.py"


rule plot_networks:
    input:
        unpack(network_tables),
    output:
        svg=in_report(
            "<results>/{study}/figures/{figure}.svg", "{figure}", "network_figure"
        ),
        png="<results>/{study}/figures/{figure}.png",
        shown="<results>/{study}/figures/{figure}.csv",
    log:
        "<logs>/{study}/figures/{figure}.log",
    wildcard_constraints:
        figure=figure_names("networks", "figures"),
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=10,
    params:
        datasets=from_config("studies/{study}/networks/datasets"),
        drawn=from_config("studies/{study}/networks/drawn"),
        code=code_of("plot_networks.py"),
    script:
        "../scripts/plot_networks.py"
