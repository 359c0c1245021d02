"""Whether what was expected came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heliograph.simulations.scenario.document import Expectation
from heliograph.simulations.scenario.outcome import Outcome


@dataclass(frozen=True)
class Checked:
    """One expectation, and what came. ``wanted`` in words: ``at least 0.9``."""

    field: str
    wanted: str
    got: str
    holds: bool

    def __str__(self) -> str:
        """``jobs.digits.accuracy: expected at least 0.9, got 0.87``."""
        return f"{self.field}: expected {self.wanted}, got {self.got}"


def checked(expectations: Sequence[Expectation], outcome: Outcome) -> list[Checked]:
    """Each expectation with what came of it, in their order."""
    return [_check(each, outcome.value(each.field)) for each in expectations]


def _check(each: Expectation, value: float | str | None) -> Checked:
    wanted = []
    if each.equals is not None:
        wanted.append(_shown(each.equals))
    if each.minimum is not None:
        wanted.append(f"at least {_shown(each.minimum)}")
    if each.maximum is not None:
        wanted.append(f"at most {_shown(each.maximum)}")
    got = _shown(value) if value is not None else "nothing: it was never seen"
    return Checked(each.field, " and ".join(wanted), got, value is not None and _holds(each, value))


def _holds(each: Expectation, value: float | str) -> bool:
    if each.equals is not None:
        return each.equals == value
    if isinstance(value, str):
        return False
    return (each.minimum is None or value >= each.minimum) and (each.maximum is None or value <= each.maximum)


def _shown(value: float | str | bool) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
