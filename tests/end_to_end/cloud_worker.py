"""The process of a worker of the cloud's agent."""

from __future__ import annotations

import asyncio
from pathlib import Path

from heliograph.bus.contract.topics import STATUS
from heliograph.client import AsyncClient
from heliograph.core.names import CLOUD
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS


async def worker_of(local: LocalCluster, client: AsyncClient, module: str) -> int:
    """Return the pid of the cloud's worker that runs ``heliograph.workers.<module>``, once it has started."""
    agent = local.pid(CLOUD)
    async with asyncio.timeout(HANGS), client.bus.subscribe(STATUS.at(resource="edges", name=CLOUD)) as changes:
        while True:
            for pid in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
                if f"workers.{module}" in Path(f"/proc/{pid}/cmdline").read_text():
                    return int(pid)
            await anext(changes)  # the agent reports each started worker
