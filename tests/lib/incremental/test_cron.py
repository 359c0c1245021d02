"""Schedules: the next time is the one that a search minute by minute finds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.core.errors import Refused
from heliograph.incremental.cron import Cron

T0 = datetime(2024, 2, 27, 22, 58, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", "2024-02-27 22:59"),
        ("0 3 * * *", "2024-02-28 03:00"),
        ("*/20 * * * *", "2024-02-27 23:00"),
        ("5-50/15 23 * * *", "2024-02-27 23:05"),
        ("0 0 29 2 *", "2024-02-29 00:00"),
        ("0 0 31 * *", "2024-03-31 00:00"),
        ("30 12 * * mon-fri", "2024-02-28 12:30"),
        ("0 0 * * 7", "2024-03-03 00:00"),
        ("0 0 13 * fri", "2024-03-01 00:00"),  # day or weekday, where both are restricted
        ("0 0 1 jan,JUL *", "2024-07-01 00:00"),
        ("0 0 30 2 *", None),
    ],
)
def test_the_next_time(text: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(Refused, match="a day that some month has"):
            Cron.parse(text)
        return
    found = Cron.parse(text).next_after(T0.timestamp())
    assert found is not None
    assert datetime.fromtimestamp(found, UTC).strftime("%Y-%m-%d %H:%M") == expected


def _part(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    spans = st.tuples(number, number).map(lambda two: f"{min(two)}-{max(two)}")
    return st.one_of(st.just("*"), number.map(str), spans, st.integers(1, high).map("*/{}".format))


@settings(max_examples=60, deadline=None)
@given(st.tuples(_part(0, 59), _part(0, 23), _part(1, 28), _part(1, 12), _part(0, 6)), st.integers(0, 10**6))
def test_no_time_is_passed_over(words: tuple[str, ...], minutes: int) -> None:
    schedule = Cron.parse(" ".join(words))
    start = datetime(2023, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    found = schedule.next_after(start.timestamp())
    assert found is not None and found > start.timestamp()
    at = start + timedelta(minutes=1)
    for _ in range(2000):
        matches = schedule.next_after((at - timedelta(minutes=1)).timestamp()) == at.timestamp()
        assert matches == (at.timestamp() == found)
        if matches:
            break
        at += timedelta(minutes=1)


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "a * * * *", "*/0 * * * *",
     "5-1 * * * *", "1,,2 * * * *", "1/ * * * *", "-1 * * * *", "٣ * * * *", "* * * * monday"],
)  # fmt: skip
def test_what_is_no_schedule_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(Refused) as refused:
        Cron.parse(text)
    assert (refused.value.field or "").startswith("cron")
