"""Settings of generators from plain mappings; the configuration's schema bounds their values."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], settings: Mapping[str, object]) -> Settings:
    """Settings as a dataclass; a mapping {min, max} becomes a pair, a list a tuple.

    Args:
        kind: the dataclass; fields without a default are required.
        settings: by field.

    Raises:
        ValueError: one line that names the first key that is unknown, missing or a range whose ends
            are exchanged.
    """
    known = fields(kind)  # type: ignore[arg-type]
    names = [one.name for one in known]
    for key in settings:
        if key not in names:
            raise ValueError(f"unknown key {key}; allowed are {', '.join(names)}")
    required = [one.name for one in known if one.default is MISSING]
    for key in required:
        if key not in settings:
            raise ValueError(f"{key} is missing; required are {', '.join(required)}")
    return kind(**{key: _plain(key, value) for key, value in settings.items()})


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        if value["min"] > value["max"]:
            raise ValueError(f"{key}.min is {value['min']}; allowed is at most {value['max']}")
        return value["min"], value["max"]
    return tuple(_plain(key, one) for one in value) if isinstance(value, list) else value
