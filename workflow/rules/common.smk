# Which files? Enumerations, input functions, checks of the configuration. No numbers.
import os
import sys

import yaml
from snakemake.exceptions import WorkflowError

LIBRARY = Path(workflow.basedir) / "workflow/lib"
SCRIPTS = Path(workflow.basedir) / "workflow/scripts"
# Scripts find the library also in environments that do not have it installed.
sys.path.insert(0, str(LIBRARY))
os.environ |= {"PYTHONPATH": str(LIBRARY)}
# For the jobs: glibc would give memory back after each step and map it anew for the next, which
# takes a tenth of a training step and of importing torch. Other C libraries do not look here.
KEPT = "mmap_threshold=33554432 trim_threshold=4294967296 hugetlb=1"
os.environ.setdefault(
    "GLIBC_TUNABLES", ":".join(f"glibc.malloc.{one}" for one in KEPT.split())
)

from patchwork.jobs import configuration
from patchwork import stimuli
from patchwork.figures import registry
from patchwork.jobs.provenance import code_digest


def seeds_of(study: str) -> list[int]:
    """Repetitions of a study: its own, or those of all."""
    return config["studies"][study].get("seeds", config["seeds"])


def check_configuration() -> None:
    """Stops before the first job at a configuration that cannot work, in one line."""
    folder = Path(workflow.basedir) / "workflow/schemas"
    schemas = {
        path.name: yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")
    }
    try:
        configuration.check(config, schemas, "config.schema.yaml")
        for name in config["run"]:
            if name not in config["studies"]:
                raise ValueError(
                    f"config/config.yaml: run has {name!r}; allowed is {', '.join(config['studies'])}"
                )
            configuration.check_study(name, config["studies"][name])
            configuration.check_shared(name, config["studies"])
            check_stimuli(name, config["studies"][name].get("stimuli"))
    except ValueError as error:
        raise WorkflowError(str(error)) from None


def check_stimuli(study: str, block: dict | None) -> None:
    """Asks the generator itself whether each dataset can be drawn."""
    for dataset in block["datasets"] if block else ():
        for split in block["splits"]:
            drawn = configuration.stimulus_settings(block, dataset, split)
            try:
                stimuli.LABELS[block["kind"]](drawn)
            except ValueError as error:
                raise ValueError(
                    f"config/studies/{study}.yaml: stimuli.datasets.{dataset}: {error}"
                ) from None


def code_of(script: str) -> str:
    """Digest of a script and of the library's modules that it imports."""
    return code_digest(SCRIPTS / script)


def runs_of(study: str, part: str | None = None) -> list[dict]:
    """Every run of a study; a part of its interventions or semantics names those it wants."""
    runs = configuration.cross(config["studies"][study]["runs"], seeds_of(study))
    blocks = [
        config["studies"][study].get(k, {}) for k in ("interventions", "semantics")
    ]
    wanted = {**blocks[0], **blocks[1]}[part] if part else {}
    return [
        run
        for run in runs
        if all(
            run[key] in wanted.get(f"{key}s", [run[key]])
            for key in ("dataset", "backbone", "protocol")
        )
    ]


def findings_of_all_studies() -> list[str]:
    """Everything that claims are decided from."""
    files = []
    for name in config["run"]:
        study = config["studies"][name]
        if "runs" in study:
            # Places of chirps are scored with the same words, beside simple methods.
            wanted = [*study["analyses"]]
            wanted += [] if "localisation" in wanted else ["metrics"]
            files += [
                f"results/{name}/findings/{kind}.csv"
                for kind in FINDINGS_OF_RUNS
                if kind in wanted
            ]
            files += timing_findings(name)
        if "interventions" in study:
            files.append(f"results/{name}/findings/heads.csv")
        if "semantics" in study:
            files += [
                f"results/{name}/findings/{kind}.csv"
                for kind in ("regions", "released")
            ]
        if "rearing_conditions" in study:
            files.append(f"results/{name}/findings/rearing_conditions.csv")
        for dataset in study.get("networks", {}).get("datasets", {}):
            files.append(f"results/{name}/{dataset}/findings.csv")
    return files


FINDINGS_OF_RUNS = "metrics orientation colour transitions localisation".split()


def studies_of_findings() -> list[str]:
    """The study of each file of `findings_of_all_studies`, in the same order."""
    return [Path(file).parts[1] for file in findings_of_all_studies()]


def figures_of_all_studies() -> list[str]:
    """Every figure of the studies that run."""
    figures = ["results/claims/claims_table.svg"]
    for name in config["run"]:
        study = config["studies"][name]
        names = [*study.get("figures", {})]
        names += ["samples"] if "samples" in study else []
        names += ["rearing_conditions"] if "rearing_conditions" in study else []
        names += registry.NETWORK_FIGURES if "networks" in study else []
        figures += [f"results/{name}/figures/{figure}.svg" for figure in names]
    return figures


wildcard_constraints:
    study="[a-z][a-z0-9_]*",
    dataset="[a-z][a-z0-9_]*",
    backbone="[a-z][a-z0-9_]*",
    protocol="[a-z][a-z0-9_]*",
    split="train|validation|test",
    seed=r"\d+",
    recording="[A-Za-z0-9][A-Za-z0-9_-]*",


check_configuration()
