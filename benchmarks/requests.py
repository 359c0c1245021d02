"""Requests to a coordinator: how fast it lists and gets. Broker and coordinator are the shipped processes."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.declaration import Samples
from heliograph.client import AsyncClient
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster

LISTS = 10
"""Lists that are measured."""
PAUSE = 1.5
"""Seconds between two lists, in which the caller's quota of bytes grows again."""
CALLERS = 16
"""Callers that get at once, each with a login of its own: the quota of one caller is lower than the figure."""
AT_ONCE = 8
"""Requests of one caller that wait for their answers at the same time."""
SECONDS = 5.0


def lists(jobs: int = 1000) -> Samples:
    """Return ``list``, the milliseconds of each list of so many jobs by a client that is connected."""
    return asyncio.run(_lists(jobs))


def gets() -> Samples:
    """Return ``rate``, the resources got in each second by callers that ask as fast as they get answers; and ``lost``,
    the requests without a right answer."""
    return asyncio.run(_gets())


async def _lists(jobs: int) -> Samples:
    world, times = World(), list[float]()
    async with _cloud() as cluster, AsyncClient(cluster.server, timeout=60) as client:
        for number in range(jobs):
            await client.jobs.create(_job(f"job-{number}"))
        for _ in range(LISTS):
            await world.sleep(PAUSE)
            began = world.monotonic()
            found = await client.jobs.list()
            times.append(1000 * (world.monotonic() - began))
            assert len(found) == jobs
    return {"list": times}


async def _gets() -> Samples:
    world = World()
    logins = {f"caller-{number}": world.new_secret().hex() for number in range(CALLERS)}
    async with _cloud(logins=logins) as cluster, AsyncClient(cluster.server) as operator:
        await operator.jobs.create(_job("asked"))
        clients = [AsyncClient(cluster.broker.url(name)) for name in logins]
        for client in clients:
            await client.__aenter__()
        answered, lost = 0, 0

        async def ask(client: AsyncClient) -> None:
            nonlocal answered, lost
            while True:
                found = await client.jobs.get("asked")
                lost += found["metadata"]["name"] != "asked"
                answered += 1

        asking = [asyncio.create_task(ask(client)) for client in clients for _ in range(AT_ONCE)]
        rates = []
        try:
            await world.sleep(1.0)
            for _ in range(int(SECONDS)):
                before, began = answered, world.monotonic()
                await world.sleep(1.0)
                rates.append((answered - before) / (world.monotonic() - began))
        finally:
            lost += sum(each.done() for each in asking)
            await cancel_and_wait(*asking)
            for client in clients:
                await client.__aexit__()
    return {"rate": rates, "lost": [float(lost)]}


@asynccontextmanager
async def _cloud(**options: Any) -> AsyncIterator[LocalCluster]:
    with tempfile.TemporaryDirectory(prefix="heliograph-requests-") as directory:
        async with LocalCluster(Path(directory), [], **options) as cluster:
            yield cluster


def _job(name: str) -> dict[str, Any]:
    """Return a job of a common size. Its model does not exist, so that it waits."""
    script = {"dataset": {"name": "digits"}, "trainScriptBootFile": "train.py", "frameworkType": "numpy",
              "parameters": [{"key": "learning_rate", "value": 0.01}, {"key": "local_epochs", "value": 3}]}  # fmt: skip
    return {
        "kind": "FederatedTask",
        "metadata": {"name": name, "labels": {"team": "bench", "tier": "a"}},
        "spec": {
            "aggregationWorker": {"model": {"name": "nowhere"}, "workerSpec": {"aggregationAlgorithm": "FedAvg"}},
            "trainingWorkers": [{"name": f"worker-{number}", "workerSpec": script} for number in range(3)],
            "rounds": 10,
        },
    }
