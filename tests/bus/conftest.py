"""The meeting point of a test's clients, on each transport that the test names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.local.nats_server import Broker
from tests.bus.meeting import MEMORY, MOSQUITTO, NATS, Meeting


@pytest.fixture
async def meeting(
    kind: str, broker: Callable[..., Awaitable[Broker]], mosquitto: Callable[[], Awaitable[Any]], tmp_path: Path
) -> Meeting:
    if kind == MEMORY:
        return Meeting(f"memory://{tmp_path.name}", None)
    if kind == MOSQUITTO:
        server = await mosquitto()
        return Meeting(server.url(), server)
    cloud = await broker()
    return Meeting(cloud.url("coordinator", "nats" if kind == NATS else "mqtt"), cloud)
