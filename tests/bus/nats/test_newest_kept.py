"""A stream whose newest message was purged: whoever waits for its last sequence would wait for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.port import Port
from heliograph.coordinator.edges.following import EdgeFollower
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.local.nats_server import Broker
from tests.patience import HANGS


async def test_reports_are_read_although_the_newest_was_purged(broker: Callable[..., Awaitable[Broker]]) -> None:
    one = await broker()
    async with connect(one.url("coordinator"), name="coordinator") as bus:
        assert isinstance(bus, NatsBus)
        await bus.link.wait_up(HANGS)
        await bus.prepare()
        assert await bus.newest_kept(topics.REPORT.filter()) == 0
        for edge in ("edge-1", "edge-2", "edge-3"):
            await bus.publish(topics.REPORT.at(edge=edge), b"{}")
        gone = bus.subjects.subject(topics.REPORT.at(edge="edge-3"))
        await bus.connection.ask("$JS.API.STREAM.PURGE.REPORTS", {"filter": gone})
        assert await bus.last_sequence("REPORTS") == 3
        assert await bus.newest_kept(topics.REPORT.filter()) == 2
        refused: list[str] = []
        nothing, failures = cast(Any, None), Failures(refused.append)
        follower = EdgeFollower(Port(bus, World(), "a/b/c"), None, nothing, nothing, print, print, failures)
        following = asyncio.create_task(follower.follow())
        async with asyncio.timeout(HANGS):
            await follower.reports_read.wait()
        await cancel_and_wait(following)
        assert failures.count == 2
