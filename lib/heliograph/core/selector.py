"""Label selectors in Kubernetes' syntax: ``site=berlin,tier in (a, b),!old``. Pure.

Requirements are joined by commas, and all of them hold: ``key``, ``!key``, ``key=value``, ``key==value``,
``key!=value``, ``key in (a, b)`` and ``key notin (a, b)``. As in Kubernetes, ``!=`` and ``notin`` hold for a resource
without the label too.
(kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from heliograph.core.errors import Refused

MAX_LENGTH = 4096
"""Characters of a selector, at most."""
_TOKEN = re.compile(r"\s*(?:(?P<word>[A-Za-z0-9][-A-Za-z0-9_./]*)|(?P<sign>==|!=|[=!,()]))")
_SYNTAX = "requirements joined by ',', each one of: key, !key, key=value, key!=value, key in (a,b), key notin (a,b)"


@dataclass(frozen=True)
class Requirement:
    """One requirement on the labels of a resource."""

    key: str
    operator: Literal["exists", "absent", "in", "notin"]
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case "exists":
                return self.key in labels
            case "absent":
                return self.key not in labels
            case "in":
                return labels.get(self.key) in self.values
        return labels.get(self.key) not in self.values


@dataclass(frozen=True)
class Selector:
    """Requirements that all hold; without any, every resource is selected."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(each.holds(labels) for each in self.requirements)

    @classmethod
    def parse(cls, text: str, field: str = "selector") -> Selector:
        """Return the selector of a text. Raise Refused, naming ``field`` and the place, where it is none."""
        if len(text) > MAX_LENGTH:
            raise Refused("bad-selector", field=field, expected=f"at most {MAX_LENGTH} characters", got=len(text))
        if not text.strip():
            return cls()
        tokens = _Tokens(text, field)
        found = [_requirement(tokens)]
        while tokens.next:
            tokens.take(",")
            found.append(_requirement(tokens))
        return cls(tuple(found))


class _Tokens:
    """The words and signs of a selector, one by one. ``next`` is empty at the end."""

    def __init__(self, text: str, field: str) -> None:
        self._text = text
        self._field = field
        self._tokens = self._split()
        self._step()

    def _split(self) -> Iterator[tuple[str, int, bool]]:
        at = 0
        while self._text[at:].strip():
            match = _TOKEN.match(self._text, at)
            if match is None:
                start = at + len(self._text[at:]) - len(self._text[at:].lstrip())
                raise self._refused(start, self._text[start])
            start = match.start(match.lastgroup or 0)
            yield self._text[start : match.end()], start, match.lastgroup == "word"
            at = match.end()

    def _step(self) -> None:
        self.next, self._at, self.is_word = next(self._tokens, ("", len(self._text), False))

    def take(self, *expected: str) -> str:
        """Return the next token, which has to be one of ``expected``; without any, a word."""
        found = self.next
        if found not in expected if expected else not self.is_word:
            raise self._refused(self._at, found)
        self._step()
        return found

    def _refused(self, at: int, found: str) -> Refused:
        got = f"'{found}'" if found else "the end"
        return Refused("bad-selector", field=self._field, expected=_SYNTAX, got=f"{got} at character {at + 1}",
                       hint=f"The selector is '{self._text[:200]}'.")  # fmt: skip


def _requirement(tokens: _Tokens) -> Requirement:
    if tokens.next == "!":
        tokens.take("!")
        return Requirement(tokens.take(), "absent")
    key = tokens.take()
    if tokens.next in ("", ","):
        return Requirement(key, "exists")
    sign = tokens.take("=", "==", "!=", "in", "notin")
    if sign in ("in", "notin"):
        return Requirement(key, "in" if sign == "in" else "notin", frozenset(_values(tokens)))
    value = tokens.take() if tokens.is_word else ""
    return Requirement(key, "notin" if sign == "!=" else "in", frozenset((value,)))


def _values(tokens: _Tokens) -> Iterator[str]:
    tokens.take("(")
    while True:
        yield tokens.take() if tokens.is_word else ""
        if tokens.take(",", ")") == ")":
            return
