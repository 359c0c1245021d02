"""Start-up times and the memory of an idle agent, with the shipped processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.declaration import Samples
from benchmarks.processes import resident_alone
from heliograph.bus.contract.topics import STATUS
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster


def cluster(edges: int = 3) -> Samples:
    """Return ``up``, seconds until a cluster is ready, ``agent``, seconds until a restarted agent is ready, and
    ``idle``, the agent's resident memory then, in MB of 1024 × 1024 bytes."""
    return asyncio.run(_cluster(edges))


def command(*words: str) -> Samples:
    """Return ``run``, the milliseconds of one call of the command line."""
    began = time.perf_counter()
    subprocess.run([str(Path(sys.executable).with_name("heliograph")), *words], check=True, capture_output=True)
    return {"run": [1000 * (time.perf_counter() - began)]}


async def wait_until_settled(client: AsyncClient, edges: set[str]) -> None:
    """Wait until every edge has listed the algorithms of its workers; until then those processes take CPU time."""
    async with asyncio.timeout(30), client.bus.subscribe(STATUS.filter(resource="algorithms")) as changes:
        while not any(edges <= set(each["status"]["edges"]) for each in await client.resources("algorithms").list()):
            await anext(changes)


async def _cluster(edges: int) -> Samples:
    names = [f"edge-{number + 1}" for number in range(edges)]
    with tempfile.TemporaryDirectory(prefix="heliograph-up-") as directory:
        began = time.perf_counter()
        async with LocalCluster(Path(directory), names) as local:
            ready = time.perf_counter() - began
            node = local.nodes["edge-1"]
            async with AsyncClient(local.server) as client:
                await wait_until_settled(client, set(names))
            await local.kill("edge-1")
            began = time.perf_counter()
            await local.start_agent("edge-1")
            assert node.child is not None
            await node.child.ready.wait()
            agent = time.perf_counter() - began
            memory = resident_alone(local.pid("edge-1"))
    return {"up": [ready], "agent": [agent], "idle": [memory / 2**20]}
