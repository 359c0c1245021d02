"""A cloud whose traces are recorded, and that traces are replayed to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from heliograph.local.nats_server import Broker
from tests.bus.traces.live_traces import opened


@pytest.fixture
async def cloud(broker: Callable[..., Awaitable[Broker]]) -> Broker:
    started = await broker()
    async with opened(started.url("coordinator")) as bus:
        await bus.prepare()
    return started
