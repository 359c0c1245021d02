"""The meeting point of a test's clients, on each transport that the test names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.local.nats_server import Broker
from tests.bus.meeting import EMQX_IMAGE, IN_CONTAINERS, MEMORY, MOSQUITTO, MOSQUITTO_IMAGE, NATS, Meeting
from tests.matrix.brokers import Mqtt, NatsCluster, emqx, mosquitto_image
from tests.matrix.engine import need_docker


@pytest.fixture
async def meeting(
    kind: str, broker: Callable[..., Awaitable[Broker]], mosquitto: Callable[[], Awaitable[Any]], tmp_path: Path
) -> AsyncIterator[Meeting]:
    if kind == MEMORY:
        yield Meeting(f"memory://{tmp_path.name}", None)
    elif kind == MOSQUITTO:
        server = await mosquitto()
        yield Meeting(server.url(), server)
    elif kind in IN_CONTAINERS:
        await need_docker()
        image = in_container(kind, tmp_path)
        try:
            await image.start()
            yield Meeting(image.url(), image)
        finally:
            await image.remove()
    else:
        cloud = await broker()
        yield Meeting(cloud.url("coordinator", "nats" if kind == NATS else "mqtt"), cloud)


def in_container(kind: str, directory: Path) -> NatsCluster | Mqtt:
    if kind == EMQX_IMAGE:
        return emqx()
    return mosquitto_image(directory / "mosquitto") if kind == MOSQUITTO_IMAGE else NatsCluster(directory)
