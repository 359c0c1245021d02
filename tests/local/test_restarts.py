"""A broker, coordinator or agent that ends by itself is started again and reported in a line."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import COORDINATOR
from tests.patience import HANGS


@pytest.mark.long
async def test_killed_processes_are_started_again(tmp_path: Path) -> None:
    reports: asyncio.Queue[str] = asyncio.Queue()
    async with LocalCluster(tmp_path / "cluster", ["edge-1"], supervise=reports.put_nowait) as cluster:
        node = cluster.nodes["edge-1"].broker
        assert node is not None
        await cluster.kill("edge-1")
        await node.kill()
        lines = {await reports.get(), await reports.get()}
        assert lines == {
            "agent edge-1 was killed by signal 9; it starts again in 0.2 s",
            "broker edge-1 was killed by signal 9; it starts again in 0.2 s",
        }
        await cluster.wait_for_line("edge-1", "agent edge-1 is ready", times=2)
        await cluster.broker.kill()
        assert (await reports.get()).startswith("broker cloud was killed")
        await cluster.kill(COORDINATOR)
        assert (await reports.get()).startswith("coordinator was killed")
        await cluster.wait_for_line(COORDINATOR, "coordinator is ready", times=2)
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            assert "edge-1" in {each["metadata"]["name"] for each in await client.edges.list()}
    assert reports.empty()  # processes that the cluster stops stay ended
