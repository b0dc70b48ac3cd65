# Files of the configuration are readable before they are read, and the whole fits the schemas.
import os
import shutil
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


# More than any study needs; aliases of aliases could stand for billions.
MOST_VALUES, MOST_LEVELS = 100_000, 100


def contents_of(file) -> dict:
    """What a file of the configuration holds, read without running any of it.

    Raises:
        ConfigurationError: one line, if it is no YAML with keys, which Snakemake says without the
            name of the file; has a key twice, which Snakemake overlooks; or is a template.
    """
    file, loader = Path(file), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = file.read_text(encoding="utf-8")
        check_depth(yaml.parse(text, loader))
        reader = loader(text)
        node = reader.get_single_node()
        count_values(node, {})
        found = None if node is None else reader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = " ".join(str(error.problem).split())
        raise ConfigurationError(
            f"{name_of(file)}: line {line} is no YAML ({problem}); allowed is indentation by spaces"
        ) from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise ConfigurationError(
            f"{name_of(file)}: is no YAML of a configuration ({problem}); allowed are keys with values"
        ) from None
    if not isinstance(found, dict):
        raise ConfigurationError(
            f"{name_of(file)}: is {'empty' if found is None else type(found).__name__}; allowed "
            "are keys with values"
        )
    if "__use_yte__" in found:
        raise ConfigurationError(
            f"{name_of(file)}: __use_yte__ makes it a template that runs code; allowed are values"
        )
    return found


def check_depth(events) -> None:
    """Raises a ValueError at values so deep in each other that reading them would end the process."""
    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_LEVELS:
            line = event.start_mark.line + 1
            raise ValueError(f"line {line} has more than {MOST_LEVELS} levels")


def count_values(node, known: dict) -> int:
    """How many values a YAML node stands for, each alias counted as what it repeats.

    Raises:
        ValueError: if there are too many, an alias holds itself, or a key is no text or comes twice.
    """
    if node is None:
        return 0
    if id(node) in known:
        if known[id(node)] is None:
            raise ValueError(
                f"line {node.start_mark.line + 1} holds an alias of itself"
            )
        return known[id(node)]
    known[id(node)] = None
    parts = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        parts, keys = [value for _, value in node.value], set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not key.tag.endswith((":str", ":merge")):
                raise ValueError(
                    f"line {line} has a key that is no text; quote {str(key.value)[:40]!r}"
                )
            if key.value in keys:
                raise ValueError(f"line {line} has the key {key.value!r} again")
            keys.add(key.value)
    known[id(node)] = 1 + sum(count_values(part, known) for part in parts)
    if known[id(node)] > MOST_VALUES:
        raise ValueError(f"has more than {MOST_VALUES:,} values")
    return known[id(node)]


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


def check_software() -> None:
    """Stops where environments are asked for and nothing can make them."""
    methods = {
        str(one).lower() for one in workflow.deployment_settings.deployment_method
    }
    for program in ("conda", "apptainer"):
        if any(program in one for one in methods) and shutil.which(program) is None:
            raise ConfigurationError(
                f"--sdm {program}: no {program} is on the path; allowed is to install it, or to leave --sdm "
                "out, which takes the packages of .venv"
            )


check_software()
check_files()
