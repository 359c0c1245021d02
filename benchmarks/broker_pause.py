"""A federated job while each of the cloud's three nats-servers is killed: how long no round closes."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.declaration import Samples
from heliograph.bus.connect import connect
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import AGGREGATION
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError
from heliograph.core.tasks import cancel_and_wait
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import COORDINATOR

EDGES = ("edge-1", "edge-2")
SERVERS = 3
STEADY = 20
"""Rounds between two kills, and between a kill and the server's start."""
GOAL = 3
CAUSE = ("nats-server's followers wait 4 to 9 s for a leader that is gone (constants of server/raft.go), and a round "
         "writes to several streams, each with a leader of its own")  # fmt: skip
_SCRIPT = """
import time
import numpy as np
from heliograph import FederatedLearning
model = {"w": np.zeros(3, np.float32)}
for r in FederatedLearning(model, num_samples=10).rounds():
    time.sleep(0.1)
    model["w"] += 1
"""


def pauses() -> Samples:
    """Kill each server once.

    Returns:
        ``pause``: seconds from the last round before each kill to the first after it; ``usual``: the same of rounds
        without a kill.
    """
    return asyncio.run(_pauses())


async def _pauses() -> Samples:
    with tempfile.TemporaryDirectory(prefix="heliograph-pause-") as directory:
        code = Path(directory) / "code"
        code.mkdir()
        (code / "slow.py").write_text(_SCRIPT)
        cluster = LocalCluster(Path(directory) / "cluster", [*EDGES], code=(code,), servers=SERVERS)
        async with cluster, AsyncClient(cluster.server, timeout=30, leader_timeout=60) as client:
            await _begin(client)
            closed = _Closed()
            following = asyncio.create_task(closed.follow(cluster.broker.url(COORDINATOR)))
            try:
                await closed.pass_by(STEADY)
                usual = closed.gaps()
                found = [await _pause(closed, broker.kill, broker.start) for broker in cluster.cloud_brokers]
            finally:
                await cancel_and_wait(following)
    return {"pause": found, "usual": usual}


async def _pause(
    closed: _Closed, kill: Callable[[], Awaitable[None]], start: Callable[[], Awaitable[None]]
) -> float:  # fmt: skip
    closed.times = [max(closed.times)]
    await kill()
    await closed.pass_by(STEADY)
    await start()
    await closed.pass_by(STEADY)
    return max(closed.gaps())


class _Closed:
    """When rounds have closed, by the aggregation worker's clock: who reads of it may have lost the server too."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._changed = asyncio.Event()
        self._seen: set[str] = set()

    async def follow(self, server: str) -> None:
        """Note when each round closes, for ever; each is stored once, whenever it is read."""
        start = 1
        async with connect(server, name="pauses") as bus:
            while True:
                with contextlib.suppress(HeliographError):
                    async with bus.consume(AGGREGATION.filter(), start=start) as messages:
                        async for message in messages:
                            start = message.sequence + 1
                            self._note(decode(message.body, message.topic).time)

    async def pass_by(self, more: int) -> None:
        """Wait until so many more rounds have closed."""
        wanted = len(self._seen) + more
        while len(self._seen) < wanted:
            self._changed.clear()
            await self._changed.wait()

    def gaps(self) -> list[float]:
        """Return the seconds between two rounds that closed one after the other."""
        return [later - earlier for earlier, later in pairwise(sorted(self.times))]

    def _note(self, time: str) -> None:
        if time not in self._seen:
            self._seen.add(time)
            self.times.append(datetime.fromisoformat(time).timestamp())
            self._changed.set()


async def _begin(client: AsyncClient) -> None:
    await client.models.create({"kind": "Model", "metadata": {"name": "slow"}})
    worker: dict[str, Any] = {"trainScriptBootFile": "slow.py"}
    workers = [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in EDGES]
    spec = {"aggregationWorker": {"model": {"name": "slow"}}, "trainingWorkers": workers, "rounds": 10_000}
    await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": "slow"}, "spec": spec})
