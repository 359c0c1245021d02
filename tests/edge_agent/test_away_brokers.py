"""An agent without its node's broker serves the cloud, says what it cannot hear, and that the broker is back."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from heliograph.client import AsyncClient
from heliograph.core.world import World
from heliograph.enrolment import enroll
from heliograph.invitations import invite
from heliograph.local.child import Child
from heliograph.local.cluster import LocalCluster
from heliograph.local.mosquitto import Mosquitto
from tests.patience import HANGS


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
            gone = f"the node's broker at mqtt://127.0.0.1:{broker.port} is not reached: nothing listens"
            await agent.wait_for_line(gone, HANGS)
            found = {each["metadata"]["name"]: each["status"] for each in await client.edges.list()}
            assert found["edge-7"]["online"] and found["edge-7"]["version"]
            assert not agent.ready.is_set()
            await broker.start()
            await agent.wait_for_line("is reached again", HANGS)
            await agent.wait_ready(HANGS)
        finally:
            await agent.stop()
