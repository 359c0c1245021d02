"""Errors whose messages tell the reader what to mend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heliograph.core.text import encodable


class HeliographError(Exception):
    """Base of all errors that Heliograph raises on purpose."""


class Unreachable(HeliographError):
    """A broker or a peer does not answer."""


class NobodyAnswers(Unreachable):
    """No subscriber listens on a request's topic; the broker reports it at once."""


class NotHeld(Unreachable):
    """Who was asked for a blob has none."""


class Damaged(Unreachable):
    """A blob has come whole, with other bytes than its digest says. Another attempt may bring the right ones."""


class LinkDown(Unreachable):
    """The link went down before the answer came: the request may or may not have been received."""


class Forbidden(Unreachable):
    """The broker denies this login a permission; an operator may grant it later."""


class StoreFull(Unreachable):
    """The broker's store has no room for what was to be stored. It may have some later."""


class Conflict(HeliographError):
    """A compare-and-set found another revision than the expected one."""


class Refused(HeliographError):
    """Refused input, with everything its sender needs to mend it.

    Args:
        code: one word for programs: ``not-json``, ``invalid``, ``unknown-kind``, ``not-found``, ``conflict``, ...
        topic: the topic or file that carried the input.
        field: path of the offending field, for example ``spec.rounds``; empty for the whole document.
        expected: the values that would be accepted.
        got: the value that came; it is shortened.
        hint: the next step for the sender.
        details: further facts for programs, as JSON has them; the sentence leaves them out.
    """

    def __init__(
        self, code: str, *, topic: str = "", field: str = "", expected: str = "", got: object = "", hint: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.code = code
        self.topic = encodable(topic)
        self.field = encodable(field)
        self.expected = encodable(expected)
        self.got = encodable(shorten(got))
        self.hint = encodable(hint)
        self.details = dict(details or {})
        super().__init__(self.sentence())

    def sentence(self) -> str:
        where = " ".join(part for part in (self.topic, self.field and f"field {self.field}") if part)
        text = f"{where + ': ' if where else ''}expected {self.expected}" if self.expected else (where or self.code)
        if self.got:
            text += f", got {self.got}"
        return text + (f". {self.hint}" if self.hint else "")

    def about(self, topic: str) -> Refused:
        """Return the refusal with this topic; one that names its own stays as it is."""
        if self.topic:
            return self
        return Refused(self.code, topic=topic, field=self.field, expected=self.expected, got=self.got, hint=self.hint,
                       details=self.details)  # fmt: skip

    def hinted(self, hint: str) -> Refused:
        """Return the refusal with this hint."""
        return Refused(self.code, topic=self.topic, field=self.field, expected=self.expected, got=self.got, hint=hint,
                       details=self.details)  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Return the error as the mapping that a reply carries."""
        return {
            "code": self.code,
            "topic": self.topic,
            "field": self.field,
            "expected": self.expected,
            "got": self.got,
            "hint": self.hint,
            "message": self.sentence(),
            **({"details": self.details} if self.details else {}),
        }


def error_body(error: HeliographError) -> dict[str, Any]:
    """Return an error as an answer carries it: a refusal with all its fields, any other as ``unreachable``."""
    return error.as_dict() if isinstance(error, Refused) else {"code": "unreachable", "message": str(error)}


def first_error(error: BaseException) -> BaseException:
    """Return an error itself; of an exception group, which a task group raises, the first error in it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def shorten(value: object, limit: int = 120) -> str:
    """Return at most ``limit`` characters of ``value``, so that a hostile document cannot flood a log."""
    if isinstance(value, str):
        text = value[: limit + 1]
    elif isinstance(value, (bytes, bytearray, memoryview)):
        text = f"{len(value)} bytes starting with {bytes(value[:16])!r}"
    elif isinstance(value, (dict, list)) and len(value) > 8:
        text = f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)} entries"
    else:
        try:
            text = repr(value)
        except (RecursionError, ValueError):  # the value is nested too deeply, or is a number of too many digits
            text = f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= limit else text[:limit] + "…"
