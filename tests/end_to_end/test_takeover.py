"""A second coordinator stands by: it leads when the first is killed, hangs or ends, and the running job goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract import topics
from heliograph.bus.port import Port
from heliograph.client import AsyncClient
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import COORDINATOR
from tests.patience import HANGS

EDGES = ["edge-1", "edge-2"]
WITHIN = HANGS


@pytest.mark.long
async def test_the_one_that_stands_by_finishes_the_job(tmp_path: Path, gates: Any) -> None:
    script = gates()
    async with LocalCluster(tmp_path / "cluster", EDGES, code=(script.code,)) as cluster:
        await cluster.start_coordinator("second")
        assert await cluster.wait_for_line("second", "stands by") == f"coordinator stands by; {COORDINATOR} leads"
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            await client.models.create({"kind": "Model", "metadata": {"name": "count"}})
            worker = {"trainScriptBootFile": "gated.py"}
            spec = {
                "aggregationWorker": {"model": {"name": "count"}},
                "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in EDGES],
                "rounds": 3,
            }
            await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": "gated"}, "spec": spec})
            following = asyncio.create_task(_generations(client))
            script.open("edge-1-initial")

            # the leader is killed while both edges train, and their updates come while nobody leads
            both = await _at_gates(cluster, 1)
            await cluster.kill(COORDINATOR)
            script.open(*both)
            await cluster.wait_for_line("second", "coordinator is ready", WITHIN)

            # the next leader hangs and resumes when another leads: it stands by, and has undone nothing
            await cluster.start_coordinator("third")
            await cluster.wait_for_line("third", "stands by; second leads")
            both = await _at_gates(cluster, 2)
            os.kill(cluster.pid("second"), signal.SIGSTOP)
            script.open(*both)
            await cluster.wait_for_line("third", "coordinator is ready", WITHIN)
            both = await _at_gates(cluster, 3)
            os.kill(cluster.pid("second"), signal.SIGCONT)
            await cluster.wait_for_line("second", "stands by; third leads", WITHIN)

            # SIGTERM ends the leader, and the next one leads at once
            os.kill(cluster.pid("third"), signal.SIGTERM)
            await cluster.wait_for_line("second", "coordinator is ready", HANGS, times=2)
            script.open(*both)
            async with asyncio.timeout(HANGS):
                async for document in client.jobs.watch("gated"):
                    status = document["status"]
            assert status["phase"] == "Succeeded", status
            assert [each["counted"] for each in status["rounds"]] == [2, 2, 2]
            assert len((await client.models.get("count"))["status"]["versions"]) == 1
            assert not following.done()
            following.cancel()


async def _at_gates(cluster: LocalCluster, round: int) -> list[str]:
    for edge in EDGES:
        await cluster.wait_for_line(edge, f"at gate {edge}-{round}")
    return [f"{edge}-{round}" for edge in EDGES]


async def _generations(client: AsyncClient) -> None:
    """Check that the generation of each edge's desired document only grows, whoever leads."""
    newest: dict[str, tuple[int, int]] = {}
    port = Port(client.bus, World(), "cloud/test/1")
    async with port.subscribe(topics.TASK, lambda error: None) as received:
        async for each in received:
            edge, order = each.payload.edge, each.payload.generation.order
            assert order > newest.get(edge, (0, 0))
            newest[edge] = order
