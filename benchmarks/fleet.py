"""A round of very many updates on a real nats-server, with a model of 100 kB.

The cloud's processes are the shipped ones; the edges' agents are tasks of two processes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.client import AsyncClient
from heliograph.core.child_process import dying_with_parent
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.simulations.virtual.virtual_cluster import SCRIPT

PROCESSES = 2
TIMEOUT = 240.0
"""Longest duration of the whole measurement and of one round, in seconds."""


def rounds(edges: int = 1000, elements: int = 25_000, rounds: int = 3) -> dict[str, list[float]]:
    """Return ``round``, the seconds from one round's close to the next, and ``lost``, each round's uncounted updates.

    The first round is left out, because the workers start in it.
    """
    return asyncio.run(_rounds(edges, elements, rounds))


async def _rounds(edges: int, elements: int, count: int) -> dict[str, list[float]]:
    names = [f"edge-{number + 1}" for number in range(edges)]
    found: dict[str, list[float]] = {"round": [], "lost": []}
    world = World()
    with tempfile.TemporaryDirectory(prefix="heliograph-fleet-") as directory:
        async with LocalCluster(Path(directory), [], guests=names, code=(Path(directory),)) as cluster:
            fleets = [asyncio.create_task(_run_fleet(world, cluster, Path(directory) / f"fleet-{number}", elements,
                                                 names[number::PROCESSES])) for number in range(PROCESSES)]  # fmt: skip
            try:
                async with AsyncClient(cluster.server) as client, connect(cluster.server) as bus:
                    await bus.link.wait_up(5)
                    async with asyncio.timeout(TIMEOUT):
                        await _wait_for_reports(bus, edges + 1)
                        await client.models.create({"kind": "Model", "metadata": {"name": "fleet"}})
                        port = Port(bus, world, "bench/fleet/1")
                        async with port.subscribe(topics.AGGREGATION, lambda error: None) as closed:
                            await client.jobs.create(_job(count + 1))
                            last = 0.0
                            async for each in closed:
                                now, number = world.monotonic(), each.payload.round
                                if number > 1:
                                    found["round"].append(now - last)
                                    found["lost"].append(edges - len(each.payload.counted))
                                last = now
                                if number == count + 1:
                                    break
            finally:
                await cancel_and_wait(*fleets)
    return found


async def _run_fleet(world: World, cluster: LocalCluster, directory: Path, elements: int, names: list[str]) -> None:
    settings = {"edges": {name: cluster.agent_url(name) for name in names}, "elements": elements,
                "directory": str(directory)}  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "heliograph.simulations.fleet", stdin=asyncio.subprocess.PIPE,
        preexec_fn=dying_with_parent(),
    )
    try:
        await process.communicate(json.dumps(settings).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _wait_for_reports(bus: Bus, edges: int) -> None:
    seen: dict[str, None] = {}
    async with bus.consume(topics.REPORT.filter(), start=1) as reports:
        async for each in reports:
            seen[each.topic] = None
            if len(seen) == edges:
                return


def _job(rounds: int) -> dict[str, object]:
    return {
        "kind": "FederatedTask",
        "metadata": {"name": "fleet"},
        "spec": {
            "aggregationWorker": {"model": {"name": "fleet"}},
            "rounds": rounds,
            "participants": {"all": True},
            "roundDeadlineSeconds": TIMEOUT,
            "trainingWorkers": [{"name": "edge", "workerSpec": {"trainScriptBootFile": SCRIPT}}],
        },
    }
