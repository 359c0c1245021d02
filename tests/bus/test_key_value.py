"""Key-value buckets with compare-and-set."""

from __future__ import annotations

import asyncio

import pytest

from heliograph.core.errors import Conflict
from tests.bus.meeting import (
    Meeting,
    where_events_are_stored,
)


@where_events_are_stored
async def test_compare_and_set(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other):
        mine, theirs = await one.kv("state"), await other.kv("state")
        assert await mine.get("a") is None
        first = await mine.put("a", b"1", 0)
        with pytest.raises(Conflict):
            await theirs.put("a", b"2", 0)
        second = await theirs.put("a", b"2", first)
        assert second > first
        with pytest.raises(Conflict):
            await mine.put("a", b"3", first)
        entry = await mine.get("a")
        assert entry is not None
        assert (entry.key, entry.value, entry.revision) == ("a", b"2", second)
        third = await mine.put("a", b"3")
        assert third > second


@where_events_are_stored
async def test_one_of_many_wins(meeting: Meeting) -> None:
    async with meeting.clients(2) as buses:
        buckets = [await bus.kv("state") for bus in buses]
        revision = await buckets[0].put("a", b"", 0)
        results = await asyncio.gather(
            *(buckets[n % 2].put("a", b"%d" % n, revision) for n in range(10)), return_exceptions=True
        )
        won = [n for n, result in enumerate(results) if isinstance(result, int)]
        assert len(won) == 1
        assert sum(isinstance(result, Conflict) for result in results) == 9
        entry = await buckets[0].get("a")
        assert entry is not None
        assert entry.value == b"%d" % won[0]


@where_events_are_stored
async def test_a_deleted_key_is_made_anew_and_its_revisions_are_not(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other):
        mine = await one.kv("state")
        old = await mine.put("a", b"1", 0)
        await mine.delete("a")
        assert await mine.get("a") is None
        theirs = await other.kv("state")
        new = await theirs.put("a", b"2", 0)
        assert new > old
        with pytest.raises(Conflict):
            await mine.put("a", b"3", old)


@where_events_are_stored
async def test_entries_returns_the_keys_under_a_prefix_in_order(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,):
        state, other = await bus.kv("state"), await bus.kv("other")
        assert await state.entries() == []
        for key in ("jobs.b", "edges.a", "jobs.a", "jobs.c"):
            await state.put(key, key.encode())
        await other.put("jobs.d", b"")
        await state.delete("jobs.c")
        assert [(each.key, each.value) for each in await state.entries("jobs.")] == [
            ("jobs.a", b"jobs.a"),
            ("jobs.b", b"jobs.b"),
        ]
        assert [each.key for each in await state.entries()] == ["edges.a", "jobs.a", "jobs.b"]


@where_events_are_stored
async def test_many_keys_are_made_together_or_none(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other):
        mine, theirs = await one.kv("state"), await other.kv("state")
        values = {f"{n}": b"%d" % n for n in range(5)}
        made = await mine.create_all(values)
        assert {each.key: (each.value, each.revision) for each in await theirs.entries()} == {
            key: (value, made[key]) for key, value in values.items()
        }
        with pytest.raises(Conflict):
            await theirs.create_all({"5": b"", "3": b""})
        assert await mine.get("5") is None
        await theirs.put("3", b"new", made["3"])
        assert (await mine.create_all({}), len(await mine.create_all({"6": b""}))) == ({}, 1)
