"""Leadership: one coordinator leads at a time by its own clock, despite jumping clocks and lost messages."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.memory.bus import MemoryBus
from heliograph.bus.memory.hub import Hub
from heliograph.bus.transport import KeyValueEntry
from heliograph.coordinator.leadership import KEY, RENEW_EVERY, STOPS_AFTER, TAKEN_AFTER, Lease, ObservedLease
from heliograph.core.errors import Unreachable
from heliograph.core.world import World
from heliograph.simulations.virtual.loop import VirtualLoop, run


def entry(revision: int, incarnation: str = "one") -> KeyValueEntry:
    return KeyValueEntry(KEY, json.dumps({"holder": "a", "incarnation": incarnation}).encode(), revision)


def test_a_lease_that_was_never_taken_or_was_given_back_is_free_at_once() -> None:
    assert ObservedLease().observe(None, 5.0).seconds_until_free("me", 5.0) == 0
    assert ObservedLease().observe(entry(3, ""), 5.0).seconds_until_free("me", 5.0) == 0
    assert ObservedLease().observe(entry(3, "me"), 5.0).seconds_until_free("me", 5.0) == 0  # its own lost write


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), min_size=1))
def test_a_lease_is_free_when_its_revision_has_stood_still_for_long_enough(looks: list[tuple[float, bool]]) -> None:
    seen, now, revision, moved = ObservedLease(), 0.0, 1, 0.0
    seen = seen.observe(entry(revision), now)
    for wait, renewed in looks:
        now += wait
        if renewed:
            revision, moved = revision + 1, now
        seen = seen.observe(entry(revision), now)
        assert seen.seconds_until_free("me", now) == pytest.approx(max(0.0, moved + TAKEN_AFTER - now))


def test_an_unreadable_lease_belongs_to_another_program() -> None:
    seen = ObservedLease().observe(KeyValueEntry(KEY, b"\xff", 2), 1.0)
    assert seen.seconds_until_free("me", 1.0) == TAKEN_AFTER


def test_a_leader_stops_before_another_takes_the_lease() -> None:
    assert RENEW_EVERY < STOPS_AFTER < TAKEN_AFTER < 5


class Candidate:
    """A coordinator that only leads."""

    def __init__(self, kv: Any, name: str, world: World) -> None:
        self.name = name
        self.leads = asyncio.Event()
        self.stops = asyncio.Event()
        self.stands_by_for: list[str] = []
        self.lease = Lease(kv, world, name, world.new_id(), self.stands_by_for.append, print)
        self.running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.running = asyncio.create_task(self.lead())

    async def lead(self) -> None:
        while True:
            await self.lease.lead(self.work)

    async def work(self) -> None:
        self.leads.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.leads.clear()
            self.stops.set()

    async def stop(self) -> None:
        assert self.running is not None
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running


class Cut:
    """A key-value bucket whose link can be cut."""

    def __init__(self, kv: Any) -> None:
        self._kv = kv
        self.down = False
        self.loses_answers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kv, name)

    async def get(self, key: str) -> Any:
        return await self._through(self._kv.get(key))

    async def put(self, key: str, value: bytes, revision: int) -> int:
        written: int = await self._through(self._kv.put(key, value, revision))
        if self.loses_answers:
            self.loses_answers = False
            raise Unreachable("the answer is lost")
        return written

    async def _through(self, call: Any) -> Any:
        if self.down:
            call.close()
            raise Unreachable("cut")
        return await call


class Candidates:
    """Coordinators of one cloud, in virtual time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self._hub = Hub(loop.time)
        self._ids = count(1)

    async def start(self, name: str, now: Callable[[], float] | None = None) -> tuple[Candidate, Cut]:
        """Start another coordinator; ``now`` is its wall clock."""
        world = World(monotonic=self.loop.time, now=now or self.loop.time, new_id=lambda: f"{next(self._ids):032x}")
        bus = MemoryBus("memory://cloud", DEFAULT_ROOT, world, name, self._hub)
        await bus.open()
        kv = Cut(await bus.kv("coordinator"))
        made = Candidate(kv, name, world)
        made.start()
        await self.loop.wait_until_idle()
        return made, kv


def virtually(test: Callable[[Candidates], Coroutine[Any, Any, None]]) -> None:
    run(lambda loop: test(Candidates(loop)))


def test_the_second_stands_by_and_leads_when_the_first_gives_back() -> None:
    async def test(candidates: Candidates) -> None:
        first, _ = await candidates.start("first")
        assert (first.leads.is_set(), candidates.loop.time()) == (True, 0)  # the lease was free, so nobody waited
        second, _ = await candidates.start("second")
        await asyncio.sleep(100 * TAKEN_AFTER)
        assert (second.stands_by_for, second.leads.is_set(), first.leads.is_set()) == (["first"], False, True)
        at = candidates.loop.time()
        await first.stop()
        await candidates.loop.wait_until_idle()
        assert (second.leads.is_set(), candidates.loop.time()) == (True, at)
        await second.stop()

    virtually(test)


def test_a_holder_that_cannot_renew_stops_before_another_leads_and_stands_by() -> None:
    async def test(candidates: Candidates) -> None:
        first, kv = await candidates.start("first")
        second, _ = await candidates.start("second")
        await asyncio.sleep(10 * TAKEN_AFTER)
        kv.down = True
        cut = candidates.loop.time()
        await first.stops.wait()
        stopped = candidates.loop.time()
        assert not second.leads.is_set()
        assert stopped - cut <= STOPS_AFTER
        await second.leads.wait()
        assert candidates.loop.time() - cut <= TAKEN_AFTER  # counted from the last renewal that the second has seen
        assert not first.leads.is_set()
        kv.down = False
        await asyncio.sleep(1)
        assert first.stands_by_for == ["second"]
        await second.stop()
        await candidates.loop.wait_until_idle()
        assert first.leads.is_set()
        await first.stop()

    virtually(test)


def test_a_leader_keeps_the_lease_if_the_answer_to_a_renewal_is_lost() -> None:
    async def test(candidates: Candidates) -> None:
        first, kv = await candidates.start("first")
        kv.loses_answers = True
        await asyncio.sleep(2 * STOPS_AFTER)
        assert not kv.loses_answers
        assert first.leads.is_set()
        assert not first.stops.is_set()
        await first.stop()

    virtually(test)


def test_a_wall_clock_that_jumps_changes_nothing() -> None:
    async def test(candidates: Candidates) -> None:
        jumps = count()
        first, _ = await candidates.start("first", lambda: (-1) ** next(jumps) * 1e9)
        second, _ = await candidates.start("second", lambda: (-1) ** next(jumps) * 1e9)
        await asyncio.sleep(20 * TAKEN_AFTER)
        assert (first.leads.is_set(), first.stops.is_set(), second.leads.is_set()) == (True, False, False)
        await second.stop()
        await first.stop()

    virtually(test)
