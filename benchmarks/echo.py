"""Echo rounds over the full path: coordinator, agents, brokers, journal and aggregation worker as real processes."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from benchmarks.declaration import Samples
from benchmarks.peers.environment import echo_samples
from benchmarks.processes import MemoryWatch, resident
from benchmarks.startup import wait_until_settled
from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.port import Port
from heliograph.client import AsyncClient
from heliograph.core.world import World
from heliograph.local.cluster import HERE, LocalCluster
from heliograph.local.cluster_tls import Listening
from heliograph.local.cluster_users import COORDINATOR

SCRIPT = Path(__file__).with_name("echo_script.py")
WARM_UP = 3


def rounds(edges: int, size: int, rounds: int, listening: Listening = HERE) -> Samples:
    """Measure echo rounds of a model of ``size`` bytes on ``edges`` edges, after a warm-up.

    Args:
        listening: where the cloud's broker listens, and whether by TLS.

    Returns:
        ``round``: milliseconds from one round's close to the next. Memory in MB: ``aggregating`` is the aggregation
        worker's peak, ``servers`` the largest sum over the cloud's broker, coordinator, agent and workers, ``idle``
        one edge's agent and broker before the first job.
    """
    return asyncio.run(_rounds(edges, size, rounds, listening))


async def _rounds(edges: int, size: int, rounds: int, listening: Listening) -> Samples:
    names = [f"edge-{number + 1}" for number in range(edges)]
    with tempfile.TemporaryDirectory(prefix="heliograph-echo-") as directory:
        async with (
            LocalCluster(Path(directory), names, code=(SCRIPT.parent,), listening=listening) as cluster,
            AsyncClient(cluster.server) as client,
            connect(cluster.server) as bus,
        ):
            await bus.link.wait_up(5)
            await wait_until_settled(client, set(names))
            broker, node = cluster.broker.process, cluster.nodes[names[0]].broker
            assert broker is not None and node is not None and node.process is not None
            idle = resident(cluster.pid(names[0]), node.process.pid)
            world = World()
            port = Port(bus, world, "bench/echo/1")
            await client.models.create({"kind": "Model", "metadata": {"name": "echo"}})
            times: list[float] = []
            servers = [broker.pid, cluster.pid(COORDINATOR), cluster.pid("cloud")]
            with MemoryWatch(servers, "heliograph.workers.aggregation.worker") as watch:
                async with port.subscribe(topics.AGGREGATION, lambda error: None) as closed:
                    # a separate task, because rounds may close before the reply arrives and are timed as they close
                    creating = asyncio.create_task(client.jobs.create(_job(names, size, rounds + WARM_UP)))
                    while len(times) < rounds + WARM_UP + 1:
                        event = await asyncio.wait_for(anext(closed), 120)
                        times.append(world.monotonic())
                        assert not event.payload.refused, event.payload.refused
                        assert event.payload.round == 0 or len(event.payload.counted) == edges
                    await creating
    return echo_samples(times, rounds, watch, idle)


def _job(names: list[str], size: int, rounds: int) -> dict[str, object]:
    spec = {
        "trainScriptBootFile": SCRIPT.name,
        "parameters": [{"key": "elements", "value": size // 4}],
    }
    return {
        "kind": "FederatedTask",
        "metadata": {"name": "echo"},
        "spec": {
            "aggregationWorker": {"model": {"name": "echo"}},
            "rounds": rounds,
            "trainingWorkers": [{"name": name, "nodeName": name, "workerSpec": spec} for name in names],
        },
    }

