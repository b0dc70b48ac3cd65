"""Check a configuration against closed schemas and say in one line what is wrong and where."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from patchwork import stimuli
from patchwork.jobs import settings

Layers = Sequence[tuple[str, Mapping[str, Any]]]


class ConfigurationError(ValueError):
    """A value of the configuration that is not allowed.

    Args:
        keys: where the value stands in the whole configuration.
        complaint: the value and what is allowed.
        held: keys by which the file that is at fault is known; those of the value if left out.
        defined: whether the file that first has these keys is at fault, not the last one.
    """

    def __init__(
        self, keys: Iterable[str | int], complaint: str, held: Iterable[str | int] = (),
        defined: bool = False,
    ) -> None:  # fmt: skip
        self.keys, self.complaint = tuple(keys), complaint
        self.held, self.defined = tuple(held) or self.keys, defined
        super().__init__(self.located(()))

    def located(self, layers: Layers) -> str:
        """One line with file, key, value and what is allowed.

        Args:
            layers: name and contents of each file, those that come later change earlier ones;
                without any, the file of the project where such a value belongs.
        """
        own, inside = _home(self.keys)
        files = [name for name, one in layers if self.held and _holds(one, self.held)]
        file = own if not files else files[0] if self.defined else files[-1]
        keys = inside if file == own else self.keys
        text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
        place = f"{file}: {text.lstrip('.')}" if keys else file
        return f"{place} {self.complaint}"


def _home(keys: Sequence[str | int]) -> tuple[str, Sequence[str | int]]:
    """The file of the project where a value belongs, and its keys inside of its block."""
    if keys[:1] == ("claims",):
        return "config/claims.yaml", keys[1:]
    if keys[:1] == ("amendments",):
        return "config/amendments.yaml", keys
    if keys[:1] == ("preregistrations",):
        return "config/preregistration.yaml", keys[1:]
    if keys[:1] == ("studies",) and len(keys) > 1:
        return f"config/studies/{keys[1]}.yaml", keys[2:]
    return "config/config.yaml" if keys else "configuration", keys


def _holds(contents: Any, keys: Sequence[str | int]) -> bool:
    for key in keys:
        known = isinstance(contents, Mapping) and key in contents
        if not known and not (isinstance(contents, list) and key in range(len(contents))):
            return False
        contents = contents[key]
    return True


def _ascending(_: Any, wanted: bool, value: Any, _schema: Any) -> Iterator[ValidationError]:
    """The keyword `ascending`, which JSON Schema lacks: numbers never fall; nulls do not count."""
    values = value if isinstance(value, list) else []
    numbers = [one for one in values if isinstance(one, int | float)]
    if wanted and numbers != sorted(numbers):
        yield ValidationError("falls")


def _finite(_: Any, value: Any) -> bool:
    plain = Draft202012Validator.TYPE_CHECKER.is_type(value, "number")
    # A whole number may be too large for a float.
    return plain and (isinstance(value, int) or math.isfinite(value))


_Validator = validators.extend(
    Draft202012Validator,
    {"ascending": _ascending},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("number", _finite),
)


def check(document: Mapping[str, Any], schemas: Mapping[str, Mapping[str, Any]]) -> None:
    """Stop at the first thing that a schema does not allow, or that does not fit the rest.

    Args:
        document: the whole configuration.
        schemas: file name to JSON Schema (2020-12); they may refer to each other by file name.

    Raises:
        ConfigurationError: one line with file, key, value and what is allowed.
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
        raise _misfit(error)
    studies = document["studies"]
    for name in document["run"]:
        if name not in studies:
            raise ConfigurationError(["run"], f"has {name!r}; allowed is {', '.join(studies)}")
        check_study(name, studies[name])
        check_shared(name, studies)
        _check_planted(name, studies[name], document["claims"])
        if "stimuli" in studies[name]:
            check_stimuli(name, studies[name])
    for name, study in studies.items():
        for recording, one in study.get("recordings", {}).get("files", {}).items():
            path = settings.recording_path(one)
            if not Path(path).exists():
                raise ConfigurationError(
                    ["studies", name, "recordings", "files", recording],
                    f"is {path!r}; allowed is a file or folder that exists",
                )


def _misfit(error: ValidationError) -> ConfigurationError:
    rule: Any = error.validator
    allowed: Any = error.validator_value
    value: Any = error.instance
    schema: Any = error.schema
    keys = list(error.absolute_path)
    if rule == "additionalProperties" and isinstance(value, Mapping):
        known = list(schema.get("properties", {}))
        odd = next(key for key in value if key not in known)
        text = f"has the unknown key {odd!r}; allowed is {', '.join(known)}"
        return ConfigurationError(keys, text, [*keys, odd])
    if rule == "required":
        missing = next(key for key in allowed if key not in value)
        text = f"lacks {missing!r}; needed are {', '.join(allowed)}"
        return ConfigurationError(keys, text, defined=True)
    if rule == "dependentRequired":
        pairs = [(key, other) for key in allowed if key in value for other in allowed[key]]
        known, missing = next(pair for pair in pairs if pair[1] not in value)
        text = f"lacks {missing!r}, which goes with {known}"
        return ConfigurationError(keys, text, [*keys, known])
    text = f"is {_short(value)}; allowed is {_allowed(rule, allowed, error)}"
    return ConfigurationError(keys, text)


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
        if isinstance(error.instance, float):  # nan and infinity are no numbers here
            kinds = ["finite number" if kind == "number" else kind for kind in kinds]
        return f"{' or '.join(kinds)}: {described(error.schema)}".rstrip(": ")
    return described(error.schema) or f"what {rule} says: {_short(allowed)}"


def described(schema: Any) -> str:
    """The description of a schema node, without its full stop."""
    return str(schema.get("description", "")).rstrip(".") if isinstance(schema, Mapping) else ""


def check_study(name: str, study: Mapping[str, Any]) -> None:
    """Stop at names that are used and not defined, and at images that patches do not fill.

    Raises:
        ConfigurationError: one line with file, key, value and what is allowed.
    """
    place = ("studies", name)
    for i, row in enumerate(study.get("runs", ())):
        for plural, defined in (
            ("datasets", study["stimuli"]["datasets"]),
            ("backbones", study["backbones"]),
            ("protocols", study["protocols"]),
        ):
            for one in row[plural]:
                if one not in defined:
                    raise ConfigurationError(
                        [*place, "runs", i, plural],
                        f"has {one!r}; allowed is {', '.join(defined)}",
                    )
    if "runs" in study:
        _check_steps(place, study)
        _check_timed(place, study)
        _check_transfer(place, study)
    image_px = study.get("stimuli", {}).get("common", {}).get("image_px")
    for key, backbone in study.get("backbones", {}).items():
        if "same_as" in backbone:
            continue
        patch = backbone["architecture"].get("options", {}).get("patch_size", 16)
        if image_px is not None and image_px % patch:
            raise ConfigurationError(
                [*place, "stimuli", "common", "image_px"],
                f"is {image_px}; allowed is a multiple of {patch}, the patch_size of "
                f"backbones.{key}",
            )


def check_shared(name: str, studies: Mapping[str, Any]) -> None:
    """Stop at a backbone that another study does not have, or has for images of another size.

    Raises:
        ConfigurationError: one line with file, key, value and what is allowed.
    """
    for key, block in studies[name].get("backbones", {}).items():
        owner = block.get("same_as")
        if owner is None:
            continue
        place = ["studies", name, "backbones", key, "same_as"]
        there = studies.get(owner["study"], {})
        own = [one for one, value in there.get("backbones", {}).items() if "same_as" not in value]
        if owner["backbone"] not in own:
            raise ConfigurationError(
                place,
                f"is {owner['backbone']} of {owner['study']}; allowed there is "
                f"{', '.join(own) or 'none'}",
            )
        sizes = [one["stimuli"]["common"]["image_px"] for one in (studies[name], there)]
        if sizes[0] != sizes[1]:
            raise ConfigurationError(place, f"takes images of {sizes[1]} px; allowed is {sizes[0]}")


def check_stimuli(name: str, study: Mapping[str, Any]) -> None:
    """Stop at a dataset of which the generator itself says that it cannot be drawn.

    Those of annotated pictures are not drawn.

    Raises:
        ConfigurationError: one line with file, key, value and what is allowed.
    """
    place, block = ("studies", name, "stimuli"), study["stimuli"]
    for dataset, own in block["datasets"].items():
        if "annotated" in own:
            continue
        try:
            stimuli.LABELS[block["kind"]](settings.stimulus(study, dataset))
        except ValueError as error:
            raise ConfigurationError(
                [*place, "datasets", dataset], f"cannot be drawn: {error}", place
            ) from None


def _check_planted(name: str, study: Mapping[str, Any], claims: Mapping[str, Any]) -> None:
    """What positive controls plant is decided by a claim."""
    own = [rule for one in claims.values() if one["study"] == name for rule in one["decisions"]]
    decided = sorted({rule["quantity"] for rule in own if "quantity" in rule})
    for quantity in study.get("planted", {}):
        if quantity not in decided:
            raise ConfigurationError(
                ["studies", name, "planted", quantity],
                f"is the estimate of no claim; allowed is {', '.join(decided)}",
            )


def _check_timed(place: Sequence[str], study: Mapping[str, Any]) -> None:
    """What is timed is trained."""
    timing = study["analyses"].get("timing")
    if timing is None:
        return
    trained = ["/".join(row.values()) for row in settings.conditions(study)]
    timed = "/".join(timing["condition"][key] for key in settings.CONDITION)
    if timed not in trained:
        raise ConfigurationError(
            [*place, "analyses", "timing", "condition"],
            f"is {timed}; allowed is one that the runs have, such as {trained[0]}",
        )


def _check_transfer(place: Sequence[str], study: Mapping[str, Any]) -> None:
    """Networks that are tried on annotated pictures are trained, and the pictures are there."""
    block = study["analyses"].get("transfer")
    if block is None:
        return
    annotated = [name for name, one in study["stimuli"]["datasets"].items() if "annotated" in one]
    trained = settings.conditions(study)
    chosen = {f"{key}s": sorted({row[key] for row in trained}) for key in settings.CONDITION}
    for key, allowed in {"pictures": annotated, **chosen}.items():
        given = block.get(key, [])
        for one in [given] if isinstance(given, str) else given:
            if one not in allowed:
                raise ConfigurationError(
                    [*place, "analyses", "transfer", key],
                    f"has {one!r}; allowed is {', '.join(allowed)}",
                )
    if not settings.conditions(study, "transfer"):
        raise ConfigurationError(
            [*place, "analyses", "transfer"],
            "names no network that the runs have; allowed is dataset, backbone, protocol of one",
        )


def _check_steps(place: Sequence[str], study: Mapping[str, Any]) -> None:
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
            raise ConfigurationError(
                [*place, "training"],
                f"gives {left} steps after warm-up on {dataset} under {name}; allowed is at least "
                f"{least}: raise epochs or n, or lower batch_size",
            )
