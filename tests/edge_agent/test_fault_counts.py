"""Counts of faults are kept in the journal: they go on behind those of the agent before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from heliograph.core.tasks import Background
from heliograph.core.world import World
from heliograph.edge_agent.fault_counts import FAULTS, SAVE_EVERY, FaultCounts, Faults
from tests.edge_agent.journals import Open


class Life:
    """The counts of one life of an agent."""

    def __init__(self, journal: Any, world: World, said: list[str]) -> None:
        self.now = Faults()
        self.background = Background(said.append)
        self.told: list[tuple[int, bool]] = []
        self.counts = FaultCounts(journal, world, self.background, lambda: self.now, self._kept)

    def fault(self, news: bool = False) -> None:
        self.now += Faults(refused=1, unplaced=2)
        self.counts.grown(news)

    async def end(self) -> None:
        await self.background.close()
        await self.counts.save()

    def _kept(self, news: bool) -> None:
        self.told.append((self.counts.shown.refused, news))


async def test_counts_go_on_after_a_restart(journal_at: Open, logged: list[str]) -> None:
    for life in range(3):
        it = Life(journal_at(), World(), logged)
        assert it.counts.shown == Faults(refused=100 * life, unplaced=200 * life)
        for _ in range(100):
            it.fault()
        await asyncio.sleep(0)  # the first commit is under way
        await it.end()
    assert logged == []


async def test_a_kill_loses_no_more_than_what_has_come_since_the_last_commit(
    journal_at: Open, logged: list[str]
) -> None:
    asleep, wake = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        assert seconds == SAVE_EVERY
        asleep.set()
        await wake.wait()

    it = Life(journal_at(), World(sleep=sleep), logged)
    it.fault()
    await asleep.wait()  # the first one is saved at once
    it.fault()
    await it.background.close()  # and no clean end
    assert it.told == [(1, False)]  # nobody has heard of more
    again = Life(journal_at(), World(sleep=sleep), logged)
    assert again.counts.shown == Faults(refused=1, unplaced=2)


async def test_a_flood_is_few_commits(journal_at: Open, logged: list[str]) -> None:
    journal, saved = journal_at(), []

    async def save(key: str, value: bytes) -> None:
        saved.append(value)

    journal.save = save  # type: ignore[method-assign]
    asleep = asyncio.Semaphore(0)
    it = Life(journal, World(sleep=lambda seconds: asleep.acquire()), logged)  # type: ignore[arg-type,return-value]
    for _ in range(3):
        for _ in range(1000):
            it.fault()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asleep.release()
    await it.end()
    assert len(saved) <= 4
    assert it.now.refused == 3000


async def test_news_are_told_once_they_are_kept(journal_at: Open, logged: list[str]) -> None:
    it = Life(journal_at(), World(sleep=lambda seconds: asyncio.sleep(0)), logged)
    for news in (False, True, False):
        it.fault(news)
        async with asyncio.timeout(10):
            while not it.told or it.told[-1][0] < it.now.refused:
                await asyncio.sleep(0)
    assert it.told == [(1, False), (2, True), (3, False)]
    it.counts.grown(news=True)  # of what is not counted
    await asyncio.sleep(0)
    assert len(it.told) == 3
    await it.end()


@pytest.mark.parametrize("kept", [b"[]", b"{", b'{"refused": -1}', b'{"refused": "7"}', b'{"others": 1}', b"\xff"])
async def test_what_cannot_be_read_counts_as_nothing(journal_at: Open, logged: list[str], kept: bytes) -> None:
    journal = journal_at()
    await journal.save(FAULTS, kept)
    assert Life(journal, World(), logged).counts.shown == Faults()
