"""Two agent processes of the same name: one of them reports it and ends."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.client import AsyncClient
from heliograph.core.child_process import dying_with_parent
from heliograph.local.cluster import LocalCluster
from heliograph.local.nats_server import free_ports
from tests.patience import HANGS


@asynccontextmanager
async def another(cluster: LocalCluster, state: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start another agent named edge-1, on its own node."""
    environment = {
        "HELIOGRAPH_CLOUD": cluster.agent_url("edge-1"),
        "HELIOGRAPH_EDGE_KEY": str(cluster.nodes["edge-1"].key),
        "HELIOGRAPH_NODE": f"mqtt://127.0.0.1:{free_ports(1)[0]}",
    }
    words = ("-m", "heliograph.cli.main", "agent", "--name", "edge-1", "--state", str(state))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, env={**os.environ, **environment}, stdout=-1, stderr=-1, preexec_fn=dying_with_parent()
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.long
async def test_the_one_that_comes_second_is_refused_with_one_line(tmp_path: Path, regression: Any) -> None:
    datasets = {"edge-1": {"data": regression("one")}}
    async with LocalCluster(tmp_path / "cluster", ["edge-1"], datasets=datasets) as cluster:
        async with another(cluster, tmp_path / "other") as second:
            async with asyncio.timeout(HANGS):
                _, err = await second.communicate()
            assert second.returncode == 1
            assert err.decode().startswith("error: another agent named edge-1 runs on ")
            assert err.decode().endswith("give one of the two another --name\n")
            assert err.count(b"\n") == 1
        assert cluster.exit_code("edge-1") is None
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            # the second agent's report has not replaced the first one's
            edge = await client.edges.get("edge-1")
            assert edge["status"]["datasets"] == ["data"]

        await cluster.kill("edge-1")  # an agent's own dead predecessor is no rival
        await cluster.start_agent("edge-1")
        await cluster.wait_ready()
        assert cluster.exit_code("edge-1") is None


@pytest.mark.long
async def test_of_two_that_met_when_a_link_came_back_one_ends(tmp_path: Path) -> None:
    async with (
        LocalCluster(tmp_path / "cluster", ["edge-1"], relayed=("edge-1",)) as cluster,
        AsyncClient(cluster.server, timeout=HANGS) as client,
        client.bus.consume(topics.REPORT.at(edge="edge-1")) as reports,
    ):
        relay = cluster.nodes["edge-1"].relay
        assert relay is not None
        first = decode((await anext(reports)).body).source
        relay.cut()
        async with another(cluster, tmp_path / "other") as second:
            async with asyncio.timeout(HANGS):  # it reports, because the first cannot answer its question
                while decode((await anext(reports)).body).source == first:
                    pass
            assert second.returncode is None
            relay.restore()
            ends = [asyncio.create_task(each) for each in (second.wait(), cluster.wait_ended("edge-1"))]
            async with asyncio.timeout(HANGS):
                done, left = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                await client.edges.get("edge-1")  # the other agent goes on and answers as the edge
            assert (len(done), len(left)) == (1, 1)
            for each in left:
                each.cancel()
            assert {second.returncode, cluster.exit_code("edge-1")} == {1, None}
