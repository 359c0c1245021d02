"""A stream that acknowledges before it stores gets replicas: nothing of it is lost, wherever a coordinator ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.topics import LOG
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.nats.connection import NatsConnection
from heliograph.core.errors import Unreachable
from tests.bus.nats.test_replicas import logged_in, not_three, reached, three
from tests.patience import HANGS

LOGS, COPY = "LOGS", "LOGS-COPY"
CHANGES = tuple(f"{verb}.{name}" for verb in ("CREATE", "UPDATE", "DELETE") for name in (LOGS, COPY))
LINES = 5


class Ended(BaseException):
    """The coordinator was killed."""


class Killed:
    """Ends whoever makes the n-th change of one of the two streams, once the broker has made it."""

    def __init__(self, connection: NatsConnection, nth: int) -> None:
        self._ask = connection.ask
        self._left = nth

    async def ask(self, subject: str, document: Any = None) -> dict[str, Any]:
        if not subject.endswith(CHANGES):
            return await self._ask(subject, document)
        answer = await self._ask(subject, document)
        self._left -= 1
        if not self._left:
            raise Ended
        return answer


async def write_lines(bus: NatsBus, first: int) -> None:
    for number in range(first, first + LINES):
        await bus.publish(LOG.at("info", edge="edge-1", component="agent"), b"%d" % number)
    await bus.connection.settle()


async def stored(bus: NatsBus, count: int = LINES) -> list[tuple[int, bytes]]:
    """Return the number and the body of each line that the stream has, once it has so many."""
    found: list[tuple[int, bytes]] = []
    async with bus.consume(LOG.filter()) as lines, asyncio.timeout(HANGS):
        while len(found) < count or found[-1][0] < await bus.last_sequence(LOGS):
            line = await anext(lines)
            found.append((line.sequence, line.body))
    return found


async def names(bus: NatsBus) -> set[str]:
    return {each["config"]["name"] for each in (await bus.connection.streams())[0]}


@asynccontextmanager
async def kept_by_one_server(tmp_path: Path) -> AsyncIterator[tuple[NatsBus, NatsBus]]:
    """Yield the connections of a coordinator without replicas, and of one with three."""
    async with three(tmp_path) as servers, logged_in(servers[0], 1) as one, logged_in(servers[1], 3) as all_servers:
        await reached(one.prepare)
        yield one, all_servers


@pytest.mark.long
async def test_lines_keep_their_numbers_and_the_next_ones_follow(tmp_path: Path) -> None:
    async with kept_by_one_server(tmp_path) as (one, bus):
        await write_lines(one, 1)
        before = await stored(one)
        assert (await bus.connection.stream_config(LOGS) or {})["persist_mode"] == "async"
        await reached(bus.prepare)
        assert await stored(bus) == before and len(before) == LINES
        assert COPY not in await names(bus)
        await write_lines(bus, 1 + LINES)
        assert await stored(bus, 2 * LINES) == [(number, b"%d" % number) for number in range(1, 2 * LINES + 1)]
        made = await bus.connection.stream_config(LOGS)
        assert await not_three(bus) == {}
        await reached(bus.prepare)
        assert await bus.connection.stream_config(LOGS) == made


@pytest.mark.long
async def test_whoever_leads_next_goes_on_where_a_killed_coordinator_ended(tmp_path: Path) -> None:
    async with kept_by_one_server(tmp_path) as (one, bus):
        changes = 1
        while await ended_at(one, bus, changes):
            changes += 1
        assert changes > 8  # two copies: each made, subjects given and taken, and the other deleted


async def ended_at(one: NatsBus, bus: NatsBus, nth: int) -> bool:
    """Kill a coordinator at a change, and let another lead. Return whether there were so many changes."""
    await bus.connection.ask(f"$JS.API.STREAM.DELETE.{LOGS}")
    await reached(one.prepare)
    await write_lines(one, 1)
    before = await stored(one)
    asked = bus.connection.ask
    bus.connection.ask = Killed(bus.connection, nth).ask  # type: ignore[method-assign]
    try:
        await reached(bus.prepare)
        ended = False
    except Ended:
        ended = True
    finally:
        bus.connection.ask = asked  # type: ignore[method-assign]
    await reached(bus.prepare)
    assert await stored(bus) == before, nth
    assert await not_three(bus) == {} and COPY not in await names(bus), nth
    await write_lines(bus, 1 + LINES)
    assert [body for _, body in await stored(bus, 2 * LINES)] == [b"%d" % n for n in range(1, 2 * LINES + 1)], nth
    return ended


@pytest.mark.long
async def test_a_copy_whose_server_is_away_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heliograph.bus.nats.stream_copying._STUCK_AFTER", 0.2)
    async with three(tmp_path) as servers, logged_in(servers[0], 1) as one:
        await reached(one.prepare)
        await write_lines(one, 1)
        before = await stored(one)
        leader = (await one.connection.ask(f"$JS.API.STREAM.INFO.{LOGS}"))["cluster"]["leader"]
        away = next(each for each in servers if each.name == leader)
        other = next(each for each in servers if each.name != leader)
        await away.kill()
        async with logged_in(other, 3) as bus:
            with pytest.raises(Unreachable):
                await bus.prepare()
            await away.start()
            await reached(bus.prepare)
            assert await stored(bus) == before and await not_three(bus) == {}
