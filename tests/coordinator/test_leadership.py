"""Leadership: one coordinator at a time, by its own clock, even where wall clocks jump and messages are lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.connect import connect
from heliograph.bus.transport import KeyValueEntry
from heliograph.coordinator import leadership as lease
from heliograph.coordinator.leadership import KEY, TAKEN_AFTER, Lease, ObservedLease
from heliograph.core.errors import Unreachable
from heliograph.core.world import World


def entry(revision: int, incarnation: str = "one") -> KeyValueEntry:
    return KeyValueEntry(KEY, json.dumps({"holder": "a", "incarnation": incarnation}).encode(), revision)


def test_a_lease_that_was_never_taken_or_was_given_back_is_free_at_once() -> None:
    assert ObservedLease().observe(None, 5.0).seconds_until_free("me", 5.0) == 0
    assert ObservedLease().observe(entry(3, ""), 5.0).seconds_until_free("me", 5.0) == 0
    assert ObservedLease().observe(entry(3, "me"), 5.0).seconds_until_free("me", 5.0) == 0  # the answer was lost


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), min_size=1))
def test_it_is_free_when_its_revision_has_stood_still_for_long_enough(looks: list[tuple[float, bool]]) -> None:
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
    assert lease.RENEW_EVERY < lease.STOPS_AFTER < lease.TAKEN_AFTER < 5


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RENEW_EVERY", "STOPS_AFTER", "TAKEN_AFTER"):
        monkeypatch.setattr(lease, name, getattr(lease, name) / 15)


class Candidate:
    """A coordinator that only leads."""

    def __init__(self, kv: Any, name: str, world: World) -> None:
        self.name = name
        self.leads = asyncio.Event()
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


@pytest.fixture
def candidate() -> Callable[..., Any]:
    world = World()
    url = f"memory://lease-{world.new_id()}"
    buses = []

    async def make(name: str, world: World = world) -> tuple[Candidate, Cut]:
        bus = connect(url, world=world)
        await bus.open()
        buses.append(bus)  # the hub lives as long as one of its buses
        kv = Cut(await bus.kv("coordinator"))
        made = Candidate(kv, name, world)
        made.start()
        return made, kv

    return make


async def test_the_second_stands_by_and_leads_when_the_first_gives_back(quick: None, candidate: Any) -> None:
    first, _ = await candidate("first")
    async with asyncio.timeout(0.1):  # the lease is free: nothing to wait for
        await first.leads.wait()
    second, _ = await candidate("second")
    await asyncio.sleep(2 * lease.TAKEN_AFTER)
    assert (second.stands_by_for, second.leads.is_set(), first.leads.is_set()) == (["first"], False, True)
    await first.stop()
    async with asyncio.timeout(0.1):
        await second.leads.wait()
    await second.stop()


async def test_a_leader_that_cannot_renew_stops_before_another_leads_and_stands_by(
    quick: None, candidate: Any
) -> None:
    first, kv = await candidate("first")
    await first.leads.wait()
    second, _ = await candidate("second")
    kv.down = True
    async with asyncio.timeout(5):
        await second.leads.wait()
    assert not first.leads.is_set()
    kv.down = False
    async with asyncio.timeout(5):
        while first.stands_by_for != ["second"]:
            await asyncio.sleep(0.01)
    await second.stop()
    async with asyncio.timeout(1):
        await first.leads.wait()
    await first.stop()


async def test_a_renewal_whose_answer_is_lost_is_still_ones_own(quick: None, candidate: Any) -> None:
    first, kv = await candidate("first")
    await first.leads.wait()
    kv.loses_answers = True
    await asyncio.sleep(2 * lease.STOPS_AFTER)
    assert not kv.loses_answers
    assert first.leads.is_set()
    await first.stop()


async def test_a_wall_clock_that_jumps_changes_nothing(quick: None, candidate: Any) -> None:
    jumps = iter(range(10**9))
    world = World(now=lambda: (-1) ** next(jumps) * 1e9)
    first, _ = await candidate("first", world)
    await first.leads.wait()
    second, _ = await candidate("second", world)
    await asyncio.sleep(2 * lease.TAKEN_AFTER)
    assert first.leads.is_set()
    assert not second.leads.is_set()
    await second.stop()
    await first.stop()
