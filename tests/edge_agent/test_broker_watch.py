"""An agent without its node's broker serves the cloud, and says what it cannot hear; once, and once when it is back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from heliograph.bus.link import Link
from heliograph.client import AsyncClient
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.edge_agent import broker_watch
from heliograph.edge_agent.broker_watch import BrokerWatch
from heliograph.enrolment import enroll
from heliograph.invitations import invite
from heliograph.local.child import Child
from heliograph.local.cluster import LocalCluster
from heliograph.local.mosquitto import Mosquitto
from tests.patience import HANGS


async def test_it_says_once_that_the_broker_is_away_and_once_that_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_watch, "GRACE", 0.01)
    said: asyncio.Queue[str] = asyncio.Queue()
    link = Link()
    task = asyncio.create_task(BrokerWatch(link, "mqtt://127.0.0.1:1883", said.put_nowait, said.put_nowait).run())

    async def line() -> str:
        async with asyncio.timeout(HANGS):
            return await said.get()

    for _ in range(2):
        assert (await line()).startswith("the node's broker at mqtt://127.0.0.1:1883 is away: not connected after")
        link.set(True)
        assert await line() == "the node's broker at mqtt://127.0.0.1:1883 is back"
        link.set(False)
    link.refused = "bad password"
    assert "is away" in await line()
    await cancel_and_wait(task)
    assert said.empty()


async def test_a_restart_of_the_broker_is_not_told_of() -> None:
    said: list[str] = []
    link = Link()
    task = asyncio.create_task(BrokerWatch(link, "mqtt://127.0.0.1:1883", said.append, said.append).run())
    for up in (True, False, True):
        link.set(up)
        await asyncio.sleep(0)
    await cancel_and_wait(task)
    assert said == []


async def test_an_edge_is_online_without_its_nodes_broker_and_serves_devices_once_it_comes(
    tmp_path: Path, mosquitto: Callable[..., Awaitable[Mosquitto]]
) -> None:
    broker = await mosquitto()
    await broker.kill()
    async with LocalCluster(tmp_path / "c", []) as cluster, AsyncClient(cluster.server) as client:
        state = tmp_path / "state"
        await enroll(await invite(client, "edge-7"), "edge-7", state / "identity", World())
        words = [sys.executable, "-m", "heliograph.cli.main", "agent", "--state", str(state)]
        agent = Child("edge-7", words, {"HELIOGRAPH_NODE": f"mqtt://127.0.0.1:{broker.port}"}, tmp_path, World(),
                      lambda line: None)  # fmt: skip
        await agent.start()
        try:
            await agent.wait_for_line(f"the node's broker at mqtt://127.0.0.1:{broker.port} is away", HANGS)
            found = {each["metadata"]["name"]: each["status"] for each in await client.edges.list()}
            assert found["edge-7"]["online"] and found["edge-7"]["version"]
            assert not agent.ready.is_set()
            await broker.start()
            await agent.wait_for_line("is back", HANGS)
            await agent.wait_ready(HANGS)
        finally:
            await agent.stop()
