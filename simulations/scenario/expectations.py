"""The comparison of a scenario's expectations with its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heliograph.simulations.scenario.document import Expectation
from heliograph.simulations.scenario.outcome import Outcome


@dataclass(frozen=True)
class ExpectationResult:
    """One expectation with the outcome. ``expected`` is in words, such as ``at least 0.9``."""

    field: str
    expected: str
    got: str
    holds: bool

    def __str__(self) -> str:
        """``jobs.digits.accuracy: expected at least 0.9, got 0.87``."""
        return f"{self.field}: expected {self.expected}, got {self.got}"


def check_expectations(expectations: Sequence[Expectation], outcome: Outcome) -> list[ExpectationResult]:
    """Compare each expectation with the outcome, in their order."""
    return [_check(each, outcome.value(each.field)) for each in expectations]


def _check(each: Expectation, value: float | str | None) -> ExpectationResult:
    conditions = []
    if each.equals is not None:
        conditions.append(_text(each.equals))
    if each.minimum is not None:
        conditions.append(f"at least {_text(each.minimum)}")
    if each.maximum is not None:
        conditions.append(f"at most {_text(each.maximum)}")
    got = _text(value) if value is not None else "no value"
    return ExpectationResult(each.field, " and ".join(conditions), got, value is not None and _holds(each, value))


def _holds(each: Expectation, value: float | str) -> bool:
    if each.equals is not None:
        return each.equals == value
    if isinstance(value, str):
        return False
    return (each.minimum is None or value >= each.minimum) and (each.maximum is None or value <= each.maximum)


def _text(value: float | str | bool) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
