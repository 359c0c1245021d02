"""How quickly things are there, and what an idle agent costs: processes as they ship, on this machine."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from heliograph.bus.topics import STATUS
from heliograph.client import AsyncClient
from heliograph.simulations.cluster import LocalCluster

COMMANDS = (["--help"], ["topics"])


async def cluster(edges: int = 3) -> dict[str, float]:
    """Seconds until a whole cluster is ready, seconds from one agent's start until it is, its resident MB when idle."""
    names = [f"edge-{number + 1}" for number in range(edges)]
    with tempfile.TemporaryDirectory(prefix="heliograph-up-") as directory:
        began = time.perf_counter()
        async with LocalCluster(Path(directory), names) as local:
            ready = time.perf_counter() - began
            node = local.nodes["edge-1"]
            async with AsyncClient(local.server) as client:
                await _settled(client, set(names))
            await local.kill("edge-1")
            began = time.perf_counter()
            await local.start_agent("edge-1")
            assert node.child is not None
            await node.child.ready.wait()
            agent = time.perf_counter() - began
            status = Path(f"/proc/{local.pid('edge-1')}/status").read_text()
            resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return {"up": ready, "agent_ready": agent, "agent_mb": resident / 1024}


async def _settled(client: AsyncClient, edges: set[str]) -> None:
    """Returns when each edge has asked its workers what they offer: until then those processes take the time."""
    async with asyncio.timeout(30), client.bus.subscribe(STATUS.filter(resource="algorithms")) as changes:
        while not any(edges <= set(each["status"]["edges"]) for each in await client.resources("algorithms").list()):
            await anext(changes)


def command(words: list[str]) -> float:
    """Seconds of one run of the command line."""
    began = time.perf_counter()
    subprocess.run([str(Path(sys.executable).with_name("heliograph")), *words], check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    json.dump(asyncio.run(cluster()), sys.stdout)
