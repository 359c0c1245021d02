"""Counts of faults go to the cloud ever more seldom, whatever the pattern of the faults; news do at once, so many."""

from __future__ import annotations

from itertools import pairwise

import pytest

from heliograph.edge_agent.report_pace import LONGEST, NEWS, CountPace

DAY = 86_400.0


def _told_in_a_day(faults_every: float) -> list[float]:
    pace, now, told = CountPace(), 0.0, []
    while now < DAY:
        if now >= pace.due_at:
            pace.told(now)
            told.append(now)
        now += faults_every
    return told


@pytest.mark.parametrize("faults_every", [0.1, 1.0, 1.01, 7.0, 150.0, 299.0, 301.0, 1000.0])
def test_no_rate_of_faults_makes_more_than_300_reports_a_day(faults_every: float) -> None:
    assert len(_told_in_a_day(faults_every)) <= 300


def test_the_wait_doubles_up_to_the_longest() -> None:
    told = _told_in_a_day(1.0)
    waits = [after - before for before, after in pairwise(told)]
    assert waits[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, LONGEST]
    assert set(waits[9:]) == {LONGEST}


def test_a_fault_after_a_quiet_time_is_told_at_once() -> None:
    pace, now = CountPace(), 0.0
    for _ in range(20):
        pace.told(now)
        now = pace.due_at
    assert now - LONGEST < pace.due_at <= now


def test_news_are_told_at_once_until_there_are_too_many() -> None:
    pace = CountPace()
    assert sum(pace.admits_news(1000.0) for _ in range(1000)) == NEWS
    assert not pace.admits_news(1000.0 + LONGEST / 2)
    assert pace.admits_news(1000.0 + 1.5 * LONGEST)
    assert sum(pace.admits_news(1e6) for _ in range(1000)) == NEWS
