"""Failures are counted, said once for each kind, and end nothing."""

from __future__ import annotations

import pytest

from heliograph.core.errors import Conflict, Refused, Unreachable
from heliograph.core.failures import Failures


def test_a_flood_of_one_refusal_is_said_at_the_1st_10th_and_100th() -> None:
    said: list[str] = []
    failures = Failures(said.append)
    for n in range(150):
        with failures.contain("event/a"):
            raise Refused("invalid", topic="event/a", field="n", expected="a number", got=str(n))
    assert failures.count == 150
    assert said == [
        "event/a field n: expected a number, got 0",
        "event/a field n: expected a number, got 9 (10 times)",
        "event/a field n: expected a number, got 99 (100 times)",
    ]


def test_a_defect_is_said_with_its_message_type_and_place() -> None:
    said: list[str] = []
    failures = Failures(said.append)
    with failures.contain("event/a"):
        _ = 1 // 0
    (line,) = said
    assert line.startswith("event/a: not handled, by a defect of this program: ZeroDivisionError")
    assert "tests/core/test_failures.py:" in line


def test_a_defect_in_a_group_is_contained_like_one_alone() -> None:
    said: list[str] = []
    with Failures(said.append).contain("event/a"):
        raise ExceptionGroup("tasks", [KeyError("x")])
    assert "KeyError" in said[0]


@pytest.mark.parametrize("error", [Unreachable("away"), Conflict("changed")])
def test_an_error_that_another_attempt_may_mend_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)), Failures(pytest.fail).contain("event/a"):
        raise error


def test_another_topic_or_field_is_another_kind() -> None:
    said: list[str] = []
    failures = Failures(said.append)
    for topic in ("event/a", "event/b"):
        for field in ("n", "m"):
            failures.add(topic, Refused("invalid", topic=topic, field=field, expected="a number"))
    assert len(said) == 4
