"""Reads a generator's settings from a plain mapping: closed keys, one-line errors."""

from collections.abc import Mapping, Sequence

import numpy as np


def closed(settings: Mapping[str, object], required: set[str], optional: set[str]) -> None:
    """Raises ValueError if a key is unknown or a required one is missing."""
    allowed = required | optional
    for key in settings:
        if key not in allowed:
            raise ValueError(f"unknown key {key}; allowed are {', '.join(sorted(allowed))}")
    for key in sorted(required):
        if key not in settings:
            raise ValueError(f"{key} is missing; required are {', '.join(sorted(required))}")


def integer(name: str, value: object, low: int, high: int, note: str = "") -> int:
    """The value as an integer within low..high, else a ValueError that names it."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not low <= value <= high:  # type: ignore[operator]
        raise ValueError(f"{name} is {value!r}; allowed is an integer, {low} to {high}{note}")
    return int(value)  # type: ignore[call-overload]


def number(name: str, value: object, low: float, high: float) -> float:
    """The value as a finite number within low..high, else a ValueError that names it."""
    real = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not real or not low <= value <= high:  # type: ignore[operator]
        raise ValueError(f"{name} is {value!r}; allowed is a number, {low:g} to {high:g}")
    return float(value)  # type: ignore[arg-type]


def choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """The value if it is one of the allowed words, else a ValueError that names it."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; allowed is one of {', '.join(allowed)}")
    return str(value)


def interval(name: str, value: object) -> tuple[object, object]:
    """The ends of a mapping {min, max}, unchecked but present, else a ValueError."""
    if not isinstance(value, Mapping) or set(value) != {"min", "max"}:
        raise ValueError(f"{name} is {value!r}; allowed is a mapping with min and max")
    return value["min"], value["max"]


def sequence(name: str, value: object) -> list[object]:
    """The value as a non-empty list, else a ValueError that names it."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"{name} is {value!r}; allowed is a list of at least one entry")
    return list(value)
