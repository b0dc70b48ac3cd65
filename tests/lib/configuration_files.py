"""The check of a configuration as the workflow does it, without Snakemake's start."""

import copy
from pathlib import Path
from types import SimpleNamespace

from patchwork.jobs import settings
from snakemake.utils import update_config

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "workflow/rules/configuration.smk"


class Configuration:
    """The project's configuration of some studies, one file of which is another.

    Args:
        file: where that other file will be.
        instead_of: the file of the project that it replaces, such as ``config/config.yaml``.
        run: the studies that run.
    """

    def __init__(self, file: Path, instead_of: str, run: list[str]) -> None:
        self.file = file
        names = ["config/config.yaml", "config/claims.yaml",
                 *(f"config/studies/{one}.yaml" for one in run)]  # fmt: skip
        self.workflow = SimpleNamespace(
            basedir=str(ROOT), overwrite_configfiles=[],
            configfiles=[file if n == instead_of else ROOT / n for n in names],
            config_settings=SimpleNamespace(config={"run": run}),
            deployment_settings=SimpleNamespace(deployment_method=[]),
        )  # fmt: skip
        self.rules = {"workflow": self.workflow, "Path": Path}
        exec(compile(RULES.read_text(), RULES.name, "exec"), self.rules)
        plain, named = self.rules["contents_of"], self.rules["name_of"]
        self.rules["name_of"] = lambda one: instead_of if one == file else named(one)
        kept = {one: plain(one) for one in self.workflow.configfiles if one != file}
        schemas = {one: plain(one) for one in (ROOT / "workflow/schemas").glob("*.yaml")}
        kept |= schemas
        self.rules["contents_of"] = lambda one: kept[one] if one in kept else plain(one)

    def check(self) -> None:
        """Raises the workflow's one line as a ValueError."""
        found: dict = {}
        try:
            for one in self.workflow.configfiles:
                update_config(found, copy.deepcopy(self.rules["contents_of"](one)))
            update_config(found, self.workflow.config_settings.config)
            own = [k for k, v in found["claims"].items() if v["study"] in found["run"]]
            found["claims"] = {name: found["claims"][name] for name in own}
            settings.leave_out(found)
            self.rules["config"] = found
            self.rules["check_configuration"]()
            settings.share_seeds(found)
        except self.rules["ConfigurationError"] as error:
            raise ValueError(str(error)) from None
