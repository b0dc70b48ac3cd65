# Figures of studies of networks: one job per figure, from the tables of all data sets.


rule plot_networks:
    input:
        edges=collect(
            "<results>/{{study}}/{dataset}/edges.csv",
            dataset=lookup("studies/{study}/networks/datasets", within=config),
        ),
        spectra=collect(
            "<results>/{{study}}/{dataset}/spectra.csv",
            dataset=lookup("studies/{study}/networks/datasets", within=config),
        ),
        motifs=collect(
            "<results>/{{study}}/{dataset}/motifs.csv",
            dataset=lookup("studies/{study}/networks/datasets", within=config),
        ),
        pseudospectrum=collect(
            "<results>/{{study}}/{dataset}/pseudospectrum.csv",
            dataset=lookup("studies/{study}/networks/datasets", within=config),
        ),
        edge_sweeps=collect(
            "<results>/{{study}}/{dataset}/edge_sweeps.csv",
            dataset=lookup("studies/{study}/networks/datasets", within=config),
        ),
        scored=collect(
            "<results>/{{study}}/{dataset}/scored_nodes.csv",
            dataset=lookup("studies/{study}/networks/datasets", within=config),
        ),
        score_spread=collect(
            "<results>/{{study}}/{dataset}/score_spread.csv",
            dataset=lookup("studies/{study}/networks/datasets", within=config),
        ),
        summary=collect(
            "<results>/{{study}}/{dataset}/associations.csv",
            dataset=lookup("studies/{study}/networks/datasets", within=config),
        ),
        profiles=collect(
            "<results>/{{study}}/{dataset}/rank_profiles.csv",
            dataset=lookup("studies/{study}/networks/datasets", within=config),
        ),
    output:
        svg=report(
            "<results>/{study}/figures/{figure}.svg",
            caption="../report/network_figure.rst",
            category="{study}",
            labels={"figure": "{figure}"},
        ),
        png="<results>/{study}/figures/{figure}.png",
        shown="<results>/{study}/figures/{figure}.csv",
    log:
        "<logs>/{study}/figures/{figure}.log",
    benchmark:
        "<benchmarks>/{study}/figures/{figure}.tsv"
    wildcard_constraints:
        figure="network|spectrum|motif_costs|attention_scores|attention_instability|associations|edge_sweep|factor_sweep",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        datasets=lookup("studies/{study}/networks/datasets", within=config),
        drawn=lookup("studies/{study}/networks/drawn", within=config),
        code=code_of("plot_networks.py"),
    script:
        "../scripts/plot_networks.py"
