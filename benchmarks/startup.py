"""How quickly things are there, and what an idle agent costs: processes as they ship, on this machine."""

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
    """``up``: seconds until a whole cluster is ready; ``agent``: seconds from one agent's start until it is; ``idle``:
    its resident MB (of 1024 × 1024 bytes) then."""
    return asyncio.run(_cluster(edges))


def command(*words: str) -> Samples:
    """``run``: milliseconds of one run of the command line."""
    began = time.perf_counter()
    subprocess.run([str(Path(sys.executable).with_name("heliograph")), *words], check=True, capture_output=True)
    return {"run": [1000 * (time.perf_counter() - began)]}


async def settled(client: AsyncClient, edges: set[str]) -> None:
    """Returns when each edge has asked its workers what they offer: until then those processes take the time."""
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
                await settled(client, set(names))
            await local.kill("edge-1")
            began = time.perf_counter()
            await local.start_agent("edge-1")
            assert node.child is not None
            await node.child.ready.wait()
            agent = time.perf_counter() - began
            held = resident_alone(local.pid("edge-1"))
    return {"up": [ready], "agent": [agent], "idle": [held / 2**20]}
