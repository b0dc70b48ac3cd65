"""Check a configuration against closed schemas and say in one line what is wrong and where."""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from patchwork import stimuli
from patchwork.jobs import settings


def _ascending(_: Any, wanted: bool, value: Any, _schema: Any) -> Iterator[ValidationError]:
    """The keyword `ascending`, which JSON Schema lacks: numbers never fall; nulls do not count."""
    values = value if isinstance(value, list) else []
    numbers = [one for one in values if isinstance(one, int | float)]
    if wanted and numbers != sorted(numbers):
        yield ValidationError("falls")


_Validator = validators.extend(Draft202012Validator, {"ascending": _ascending})


def check(document: Mapping[str, Any], schemas: Mapping[str, Mapping[str, Any]]) -> None:
    """Stop at the first thing that a schema does not allow, or that does not fit the rest.

    Args:
        document: the whole configuration.
        schemas: file name to JSON Schema (2020-12); they may refer to each other by file name.

    Raises:
        ValueError: one line with file, key, value and what is allowed.
    """
    # A schema that names its own dialect would be read without the keyword that it lacks.
    plain = {
        name: {key: value for key, value in schema.items() if key != "$schema"}
        for name, schema in schemas.items()
    }
    resources = [(name, DRAFT202012.create_resource(schema)) for name, schema in plain.items()]
    registry: Registry = Registry().with_resources(resources)
    validator = _Validator(plain["config.schema.yaml"], registry=registry)
    error = best_match(validator.iter_errors(document))
    if error is not None:
        raise ValueError(f"{place(error.absolute_path)} {_complaint(error)}")
    studies = document["studies"]
    for name in document["run"]:
        if name not in studies:
            raise ValueError(
                f"config/config.yaml: run has {name!r}; allowed is {', '.join(studies)}"
            )
        check_study(name, studies[name])
        check_shared(name, studies)
        if "stimuli" in studies[name]:
            check_stimuli(name, studies[name])
    for name, study in studies.items():
        for recording, path in study.get("recordings", {}).get("files", {}).items():
            if not Path(path).exists():
                raise ValueError(
                    f"config/studies/{name}.yaml: recordings.files.{recording} is {path!r}; "
                    "allowed is a file or folder that exists"
                )


def place(path: Iterable[str | int]) -> str:
    """Where a value stands: the file of its study, and the key inside."""
    keys = list(path)
    file = "configuration"
    if keys[:1] == ["claims"]:
        file, keys = "config/claims.yaml", keys[1:]
    elif keys[:1] == ["amendments"]:
        file = "config/amendments.yaml"
    elif keys[:1] == ["preregistrations"]:
        file, keys = "config/preregistration.yaml", keys[1:]
    elif keys[:1] == ["studies"] and len(keys) > 1:
        file, keys = f"config/studies/{keys[1]}.yaml", keys[2:]
    elif keys:
        file = "config/config.yaml"
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return f"{file}: {text.lstrip('.')}".rstrip(": ")


def _complaint(error: ValidationError) -> str:
    rule: Any = error.validator
    allowed: Any = error.validator_value
    value: Any = error.instance
    schema: Any = error.schema
    if rule == "additionalProperties" and isinstance(value, Mapping):
        known = list(schema.get("properties", {}))
        odd = [key for key in value if key not in known]
        return f"has the unknown key {odd[0]!r}; allowed is {', '.join(known)}"
    if rule == "required":
        missing = [key for key in allowed if key not in value]
        return f"lacks {missing[0]!r}; needed are {', '.join(allowed)}"
    if rule == "dependentRequired":
        pairs = [(key, other) for key in allowed if key in value for other in allowed[key]]
        known, missing = next(pair for pair in pairs if pair[1] not in value)
        return f"lacks {missing!r}, which goes with {known}"
    return f"is {_short(value)}; allowed is {_allowed(rule, allowed, error)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _allowed(rule: Any, allowed: Any, error: ValidationError) -> str:
    texts = {
        "minimum": f"at least {allowed}",
        "exclusiveMinimum": f"more than {allowed}",
        "maximum": f"at most {allowed}",
        "exclusiveMaximum": f"less than {allowed}",
        "minItems": f"at least {allowed} entries",
        "maxItems": f"at most {allowed} entries",
        "minProperties": f"at least {allowed} entries",
        "uniqueItems": "no entry twice",
        "ascending": "the lower bound first",
        "pattern": f"text that matches {allowed}",
    }
    if rule in texts:
        return texts[rule]
    if rule == "enum":
        return ", ".join(map(str, allowed))
    if rule == "const":
        return str(allowed)
    if rule == "type":
        kinds = [allowed] if isinstance(allowed, str) else allowed
        return f"{' or '.join(kinds)}: {described(error.schema)}".rstrip(": ")
    return described(error.schema) or f"what {rule} says: {_short(allowed)}"


def described(schema: Any) -> str:
    """The description of a schema node, without its full stop."""
    return str(schema.get("description", "")).rstrip(".") if isinstance(schema, Mapping) else ""


def check_study(name: str, study: Mapping[str, Any]) -> None:
    """Stop at names that are used and not defined, and at images that patches do not fill.

    Raises:
        ValueError: one line with file, key, value and what is allowed.
    """
    where = f"config/studies/{name}.yaml"
    for i, row in enumerate(study.get("runs", ())):
        for plural, defined in (
            ("datasets", study["stimuli"]["datasets"]),
            ("backbones", study["backbones"]),
            ("protocols", study["protocols"]),
        ):
            for one in row[plural]:
                if one not in defined:
                    raise ValueError(
                        f"{where}: runs[{i}].{plural} has {one!r}; allowed is {', '.join(defined)}"
                    )
    if "runs" in study:
        _check_steps(where, study)
        _check_timed(where, study)
    image_px = study.get("stimuli", {}).get("common", {}).get("image_px")
    for key, backbone in study.get("backbones", {}).items():
        if "same_as" in backbone:
            continue
        patch = backbone["architecture"].get("options", {}).get("patch_size", 16)
        if image_px is not None and image_px % patch:
            raise ValueError(
                f"{where}: stimuli.common.image_px is {image_px}; allowed is a multiple of "
                f"{patch}, the patch_size of backbones.{key}"
            )


def check_shared(name: str, studies: Mapping[str, Any]) -> None:
    """Stop at a backbone that another study does not have, or has for images of another size.

    Raises:
        ValueError: one line with file, key, value and what is allowed.
    """
    for key, block in studies[name].get("backbones", {}).items():
        owner = block.get("same_as")
        if owner is None:
            continue
        where = f"config/studies/{name}.yaml: backbones.{key}.same_as"
        there = studies.get(owner["study"], {})
        own = [one for one, value in there.get("backbones", {}).items() if "same_as" not in value]
        if owner["backbone"] not in own:
            raise ValueError(
                f"{where} is {owner['backbone']} of {owner['study']}; allowed there is "
                f"{', '.join(own) or 'none'}"
            )
        sizes = [one["stimuli"]["common"]["image_px"] for one in (studies[name], there)]
        if sizes[0] != sizes[1]:
            raise ValueError(f"{where} takes images of {sizes[1]} px; allowed is {sizes[0]}")


def check_stimuli(name: str, study: Mapping[str, Any]) -> None:
    """Stop at a dataset of which the generator itself says that it cannot be drawn.

    Raises:
        ValueError: one line with file, key, value and what is allowed.
    """
    where, block = f"config/studies/{name}.yaml", study["stimuli"]
    for dataset, split in product(block["datasets"], block["splits"]):
        try:
            stimuli.LABELS[block["kind"]](settings.stimulus(study, dataset, split))
        except ValueError as error:
            raise ValueError(f"{where}: stimuli.datasets.{dataset}: {error}") from None


def _check_timed(where: str, study: Mapping[str, Any]) -> None:
    """What is timed is trained."""
    timing = study["analyses"].get("localisation", {}).get("timing")
    if timing is None:
        return
    trained = ["/".join(row.values()) for row in settings.conditions(study)]
    timed = "/".join(timing["condition"][key] for key in settings.CONDITION)
    if timed not in trained:
        raise ValueError(
            f"{where}: analyses.localisation.timing.condition is {timed}; allowed is one that the "
            f"runs have, such as {trained[0]}"
        )


def _check_steps(where: str, study: Mapping[str, Any]) -> None:
    """Loss curves that are searched for transitions are long enough, under every protocol."""
    if "transitions" not in study["analyses"]:
        return
    least = study["analyses"]["transitions"]["steps_min"]
    for row in settings.conditions(study):
        dataset, name = row["dataset"], row["protocol"]
        n = settings.split_of(study, dataset, "train")["n"]
        training = settings.training(study, dataset, name)
        steps = math.ceil(n / training["batch_size"]) * training["epochs"]
        left = steps - training["schedule"]["warmup_steps"]
        if left < least:
            raise ValueError(
                f"{where}: training gives {left} steps after warm-up on {dataset} under {name}; "
                f"allowed is at least {least}: raise epochs or n, or lower batch_size"
            )
