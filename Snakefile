# Which files there are and what is made by default. How: workflow/rules. Numbers: config.
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


pathvars:
    results="results",
    logs="<results>/logs",
    condition="{study}/{dataset}/{backbone}/{protocol}",
    run="<condition>/seed{seed}",


report: "workflow/report/workflow.rst"


include: "workflow/rules/configuration.smk"


configfile: "config/config.yaml"
configfile: "config/claims.yaml"
configfile: "config/preregistration.yaml"
configfile: "config/amendments.yaml"


for study_file in sorted(Path(workflow.basedir).glob("config/studies/*.yaml")):

    configfile: study_file


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/backbone.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/interventions.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/localisation.smk"
include: "workflow/rules/semantics.smk"
include: "workflow/rules/rearing.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/networks.smk"
include: "workflow/rules/language.smk"
include: "workflow/rules/knowledge.smk"
include: "workflow/rules/claims.smk"


onstart:
    hold_results()
    start_jobs_without_limit()
    share_imports()
    record_start()


localrules:
    all,
    localise_chirps,


rule all:
    default_target: True
    input:
        "<results>/claims.csv",
        "<results>/claims.html",
        figures_of_all_studies(),


rule localise_chirps:
    input:
        searched_recordings(),
