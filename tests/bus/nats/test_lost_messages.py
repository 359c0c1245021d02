"""A message that was lost on its way to the client comes again, before those behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from nats.aio.msg import Msg

from heliograph.bus.contract.topics import TELEMETRY
from heliograph.local.nats_server import Broker
from tests.bus.nats.test_replicas import logged_in
from tests.patience import HANGS

EVENTS = 20


@pytest.mark.parametrize("lost", [1, 3, EVENTS - 1])
async def test_what_was_lost_on_the_way_is_delivered_again_and_in_order(
    broker: Callable[..., Awaitable[Broker]], monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    async with logged_in(await broker(), 0) as bus, asyncio.timeout(HANGS):
        await bus.prepare()
        topic = TELEMETRY.at(edge="edge-1", device="meter")
        for number in range(EVENTS):
            await bus.publish(topic, b'{"number": %d}' % number)
        subscribe, dropped = bus.connection.client.subscribe, list[str]()

        async def losing(subject: str, cb: Callable[[Msg], Awaitable[None]], **more: Any) -> Any:
            came = 0

            async def pass_on(message: Msg) -> None:
                nonlocal came
                came += 1
                if came == lost and not dropped:
                    dropped.append(message.reply)
                    return
                await cb(message)

            return await subscribe(subject, cb=pass_on, **more)

        monkeypatch.setattr(bus.connection.client, "subscribe", losing)
        async with bus.consume(TELEMETRY.filter()) as messages:
            found = [(await anext(messages)).body for _ in range(EVENTS)]
        assert dropped and found == [b'{"number": %d}' % number for number in range(EVENTS)]
