# Every claim decided by its rule, as a table for machines, a page and a picture for readers.
include: "claims_inputs.smk"


rule decide_claims:
    input:
        findings=findings_of_all_studies(),
    output:
        claims="<results>/claims.csv",
    log:
        "<logs>/decide_claims.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=10,
    params:
        claims=config["claims"],
        amendments=config.get("amendments", []),
        seeds={name: config["studies"][name]["seeds"] for name in config["run"]},
        studies=studies_of_findings(),
        code=code_of("decide_claims.py"),
    script:
        "../scripts/decide_claims.py"


rule plot_claims:
    input:
        claims=rules.decide_claims.output.claims,
    output:
        page=in_report("<results>/claims.html", "claims page", "claims", "claims"),
        svg=in_report(
            "<results>/claims/claims.svg", "claims picture", "claims", "claims"
        ),
        png="<results>/claims/claims.png",
    log:
        "<logs>/plot_claims.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=10,
    params:
        code=code_of("plot_claims.py"),
    script:
        "../scripts/plot_claims.py"
