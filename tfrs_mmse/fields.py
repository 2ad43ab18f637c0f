"""The fields of a config: what each can be, checked in one place and told in one place.

A config is a dataclass whose docstring describes each field under `Attributes:`; the field's default stands in the
class body as it is, or inside one of the functions here, which say what else it can be.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from tfrs_mmse.cli import CommandError


class Allowed(NamedTuple):
    """The values that a field can take.

    Attributes:
        wanted: They in words, as they follow "must be".
        holds: Whether a value of the field's type is one of them.
        choices: They one by one, where they can be counted.
    """

    wanted: str
    holds: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


class Field(NamedTuple):
    """A field as people read of it.

    Attributes:
        name: As in the class.
        type: `int`, `float`, `bool` or `str`.
        default: Of that type.
        wanted: What it must be, in words; empty for any value of its type.
        description: One paragraph.
    """

    name: str
    type: str
    default: Any
    wanted: str
    description: str


_ANY = Allowed("", lambda value: True)


def positive(default: Any) -> Any:
    """A number above 0."""
    return _field(default, Allowed("positive", lambda value: value > 0))


def not_negative(default: Any) -> Any:
    """A number from 0 on."""
    return _field(default, Allowed("at least 0", lambda value: value >= 0))


def share(default: float) -> Any:
    """A number from 0 to 1."""
    return _field(default, Allowed("from 0 to 1", lambda value: 0 <= value <= 1))


def one_of(*choices: str) -> Any:
    """One of these texts; the first is the default."""
    wanted = f"one of {', '.join(choices)}"
    return _field(choices[0], Allowed(wanted, choices.__contains__, choices))


def check(config: Any) -> None:
    """Makes sure that every field holds what it can hold.

    Args:
        config: Instance of a config's class.

    Raises:
        CommandError: one does not.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if type(value) is not type(field.default):
            _refuse(field.name, type(field.default).__name__, value)
        if not _allowed(field).holds(value):
            _refuse(field.name, _allowed(field).wanted, value)


def choices(config: type, name: str) -> tuple[str, ...]:
    """What a field made by `one_of` can be."""
    return next(
        _allowed(f).choices for f in dataclasses.fields(config) if f.name == name
    )


def describe(config: type) -> list[Field]:
    """All fields of a config's class, in its order.

    Raises:
        KeyError: the class's docstring lacks one.
    """
    described = _descriptions(config)
    return [
        Field(
            field.name,
            type(field.default).__name__,
            field.default,
            _allowed(field).wanted,
            described[field.name],
        )
        for field in dataclasses.fields(config)
    ]


def _field(default: Any, allowed: Allowed) -> Any:
    return dataclasses.field(default=default, metadata={Allowed: allowed})


def _allowed(field: dataclasses.Field[Any]) -> Allowed:
    return field.metadata.get(Allowed, _ANY)


def _refuse(name: str, wanted: str, value: Any) -> None:
    raise CommandError(f"config field {name} must be {wanted}, got {value!r}")


def _descriptions(config: type) -> dict[str, str]:
    """By field, what the docstring says of it, its lines joined."""
    _, _, attributes = (inspect.getdoc(config) or "").partition("\nAttributes:\n")
    # A field begins with four spaces, what goes on with eight.
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in entries}
