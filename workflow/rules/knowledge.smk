# Where language models keep facts: tracing, editing, and what both show together.
include: "knowledge_inputs.smk"


rule trace_facts:
    input:
        facts=of_text_seeds(facts_file),
        tokenizers=of_text_seeds(tokenizer_file),
        weights=rules.score_knowledge.input.weights,
    output:
        traced_facts="<results>/<condition>/traced_facts.csv",
        traces="<results>/<condition>/traces.parquet",
        minimal_sets="<results>/<condition>/minimal_sets.csv",
        attribution="<results>/<condition>/attribution.csv",
        released="<results>/<condition>/released_modules.csv",
    log:
        "<logs>/<condition>/trace_facts.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=120,
    params:
        seeds=text_seeds,
        settings=from_config("studies/{study}/tracing/tracing"),
        code=code_of("trace_facts.py"),
    script:
        "../scripts/trace_facts.py"


rule edit_facts:
    input:
        facts=of_text_seeds(facts_file),
        abstracts=of_text_seeds(abstracts_file),
        tokenizers=of_text_seeds(tokenizer_file),
        weights=rules.score_knowledge.input.weights,
        known=rules.trace_facts.output.traced_facts,
    output:
        edits="<results>/<condition>/edits.csv",
        moments="<results>/<condition>/moments.csv",
    log:
        "<logs>/<condition>/edit_facts.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=240,
    params:
        seeds=text_seeds,
        settings=from_config("studies/{study}/tracing/editing"),
        code=code_of("edit_facts.py"),
    script:
        "../scripts/edit_facts.py"


rule summarise_tracing:
    input:
        traced_facts=for_each(text_conditions, "<results>/<condition>/traced_facts.csv"),
        traces=for_each(text_conditions, "<results>/<condition>/traces.parquet"),
        minimal_sets=for_each(text_conditions, "<results>/<condition>/minimal_sets.csv"),
        attribution=for_each(text_conditions, "<results>/<condition>/attribution.csv"),
        released=for_each(text_conditions, "<results>/<condition>/released_modules.csv"),
        edits=for_each(edited_conditions, "<results>/<condition>/edits.csv"),
        moments=for_each(edited_conditions, "<results>/<condition>/moments.csv"),
    output:
        knowledge_shares="<results>/{study}/tables/knowledge_shares.csv",
        recoveries="<results>/{study}/tables/recoveries.csv",
        set_curves="<results>/{study}/tables/set_curves.csv",
        knowledge_contrasts="<results>/{study}/tables/knowledge_contrasts.csv",
        edit_scores="<results>/{study}/tables/edit_scores.csv",
        released_recoveries="<results>/{study}/tables/released_recoveries.csv",
        findings="<results>/{study}/findings/tracing.csv",
    log:
        "<logs>/{study}/summarise_tracing.log",
    conda:
        "../../envs/patchwork.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=60,
    params:
        conditions=text_conditions,
        edited=edited_conditions,
        settings=from_config("studies/{study}/tracing/comparison"),
        layers=of_study(settings.planted_layers),
        planted=planted_effects,
        code=code_of("summarise_tracing.py"),
    script:
        "../scripts/summarise_tracing.py"
