"""Settings of a coordinator that its options name one by one, ``NAME=N`` each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, fields, replace
from typing import Any, ClassVar, Protocol, TypeVar

from heliograph.core.errors import Refused


class _Settings(Protocol):
    """A dataclass whose fields are whole numbers."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


S = TypeVar("S", bound=_Settings)
MOST = 1 << 40
"""Largest value of a setting."""


def changed(defaults: S, what: str, settings: Iterable[str]) -> S:
    """Return the defaults with these settings; a field's name with dashes is the setting's. Raise Refused for others.

    Args:
        what: what a setting is, in errors.
    """
    names = {each.name.replace("_", "-"): each.name for each in fields(defaults)}
    changes: dict[str, int] = {}
    for text in settings:
        name, _, number = text.partition("=")
        if name not in names:
            raise Refused("invalid", field=what, expected=f"NAME=N with a name of {', '.join(names)}", got=text)
        if not (number.isascii() and number.isdigit() and 0 < int(number[:20]) <= MOST):
            raise Refused("invalid", field=f"{what} {name}", expected=f"a number from 1 to {MOST}", got=number)
        changes[names[name]] = int(number)
    return replace(defaults, **changes)
