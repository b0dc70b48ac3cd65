# Figures of studies of fine-tuned networks: drawn from tables, each with the numbers it shows.
include: "figures_inputs.smk"


rule plot_samples:
    input:
        tests=collect(
            "<results>/{{study}}/{dataset}/data/test.h5",
            dataset=from_config("studies/{study}/samples/datasets"),
        ),
    output:
        svg=in_report("<results>/{study}/figures/samples.svg", "samples"),
        png="<results>/{study}/figures/samples.png",
        shown="<results>/{study}/figures/samples.csv",
    log:
        "<logs>/{study}/figures/samples.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=10,
    params:
        samples=from_config("studies/{study}/samples"),
        caption="Test images of each dataset with their labels.",
        code=code_of("plot_samples.py"),
    script:
        "../scripts/plot_samples.py"


rule plot_figure:
    input:
        unpack(figure_tables),
    output:
        svg=in_report("<results>/{study}/figures/{figure}.svg", "{figure}"),
        png="<results>/{study}/figures/{figure}.png",
        shown="<results>/{study}/figures/{figure}.csv",
    log:
        "<logs>/{study}/figures/{figure}.log",
    wildcard_constraints:
        figure=figure_names("figures"),
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=10,
    params:
        figure=from_config("studies/{study}/figures/{figure}"),
        caption=from_config("studies/{study}/figures/{figure}/caption"),
        code=code_of("plot_figure.py"),
    script:
        "../scripts/plot_figure.py"
