# Figures of studies of fine-tuned networks: drawn from tables, each with the numbers it shows.


rule plot_samples:
    input:
        tests=sample_files,
    output:
        svg=report(
            "<results>/{study}/figures/samples.svg",
            caption="../report/figure.rst",
            category="{study}",
            labels={"figure": "samples"},
        ),
        png="<results>/{study}/figures/samples.png",
        shown="<results>/{study}/figures/samples.csv",
    log:
        "<logs>/{study}/figures/samples.log",
    benchmark:
        "<benchmarks>/{study}/figures/samples.tsv"
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        samples=lookup("studies/{study}/samples", within=config),
        caption="Test images of each dataset with their labels.",
        code=code_of("plot_samples.py"),
    script:
        "../scripts/plot_samples.py"


rule plot_figure:
    input:
        unpack(figure_tables),
    output:
        svg=report(
            "<results>/{study}/figures/{figure}.svg",
            caption="../report/figure.rst",
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
        figure=drawn_figures(),
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        figure=lookup("studies/{study}/figures/{figure}", within=config),
        caption=lookup("studies/{study}/figures/{figure}/caption", within=config),
        code=code_of("plot_figure.py"),
    script:
        "../scripts/plot_figure.py"
