"""What people may do: scopes, each of which has all that the one before has, in projects."""

from __future__ import annotations

from typing import Literal, get_args

Scope = Literal["viewer", "submitter", "admin", "operator"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""From least to most. A viewer reads; a submitter also creates, and changes what is its own; an admin changes what is
anybody's in the project; an operator does everything in every project, and to what belongs to none."""
DEFAULT_PROJECT = "default"
"""The project of whatever names none."""


def covers(have: Scope | None, needed: Scope) -> bool:
    """Return whether whoever has a scope may do what needs another."""
    return have is not None and SCOPES.index(have) >= SCOPES.index(needed)
