# Files of the configuration are readable before they are read, and the whole fits the schemas.
import os
import sys

import yaml
from snakemake.exceptions import WorkflowError

LIBRARY = Path(workflow.basedir) / "workflow/lib"
# Scripts find the library also in environments that do not have it installed.
sys.path.insert(0, str(LIBRARY))
os.environ |= {"PYTHONPATH": str(LIBRARY)}

from patchwork.jobs import configuration


class ConfigurationError(WorkflowError):
    """One line: the message says where the fault lies, so the place in the rules is left out."""

    __traceback__ = None


def contents_of(file) -> dict:
    """What a file of the configuration holds.

    Raises:
        ConfigurationError: if it is no YAML with keys, which Snakemake says without the name of the file.
    """
    file = Path(file)
    try:
        found = yaml.load(
            file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
    except yaml.YAMLError as error:
        line = error.problem_mark.line + 1
        problem = " ".join(str(error.problem).split())
        raise ConfigurationError(
            f"{name_of(file)}: line {line} is no YAML ({problem}); allowed is indentation by spaces"
        ) from None
    if not isinstance(found, dict):
        raise ConfigurationError(
            f"{name_of(file)}: is {'empty' if found is None else type(found).__name__}; allowed "
            "are keys with values"
        )
    return found


def name_of(file) -> str:
    """A file of the project by its place there, another one as seen from the working folder."""
    file, project = Path(file).resolve(), Path(workflow.basedir).resolve()
    own = file.is_relative_to(project / "config") and "scales" not in file.parts
    return os.path.relpath(file, project if own else Path.cwd())


def check_files() -> None:
    """Stops at a file of the project that Snakemake could not read."""
    for file in sorted(Path(workflow.basedir).glob("config/**/*.yaml")):
        contents_of(file)


def layers() -> list[tuple[str, dict]]:
    """Every part of the configuration by its name; later ones change earlier ones."""
    given = workflow.overwrite_configfiles
    files = [*workflow.configfiles[len(given) :], *given]
    command_line = ("--config", dict(workflow.config_settings.config))
    return [(name_of(file), contents_of(file)) for file in files] + [command_line]


def check_configuration() -> None:
    """Stops before the first job at a configuration that cannot work, in one line."""
    files = sorted(Path(workflow.basedir).glob("workflow/schemas/*.yaml"))
    schemas = {file.name: contents_of(file) for file in files}
    try:
        configuration.check(config, schemas)
    except configuration.ConfigurationError as error:
        raise ConfigurationError(error.located(layers())) from None


check_files()
