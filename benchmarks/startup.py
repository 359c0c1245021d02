"""Start-up times and the memory of an idle agent, with the shipped processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.declaration import Samples
from benchmarks.processes import resident_alone
from heliograph.bus.contract.topics import STATUS
from heliograph.client import AsyncClient
from heliograph.core.world import Process, World
from heliograph.edge_agent.confinement.confiner import Confiner
from heliograph.edge_agent.confinement.site_policy import CONFINED, OPEN
from heliograph.edge_agent.launcher import LaunchRequest
from heliograph.edge_agent.process_launcher import ProcessLauncher
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


def confined(launches: int = 40) -> Samples:
    """Return ``confined`` and ``open``, milliseconds from a launch to the end of a worker that does nothing, in turn,
    and ``cost``, what confinement adds to each."""
    return asyncio.run(_confined(launches))


async def _confined(launches: int) -> Samples:
    found: dict[str, list[float]] = {"confined": [], "open": [], "cost": []}
    with tempfile.TemporaryDirectory(prefix="heliograph-confined-") as name:
        directory = Path(name)
        request = LaunchRequest("worker", "train", bytes(32), {"HELIOGRAPH_BUS": "mqtt://127.0.0.1:1883"},
                                directory / "models", (directory,))  # fmt: skip
        world = replace(World(), spawn=_spawn_nothing)
        launchers = {each: ProcessLauncher(world, directory / each, Confiner(policy, None, (directory,)))
                     for each, policy in (("open", OPEN), ("confined", CONFINED))}  # fmt: skip
        for number in range(launches + 1):
            for each, launcher in launchers.items():
                began = time.perf_counter()
                worker = await launcher.launch(request)
                assert worker.lines is not None
                async for _ in worker.lines:
                    pass
                if number:  # the first one loads what the others have
                    found[each].append(1000 * (time.perf_counter() - began))
            if number:
                found["cost"].append(found["confined"][-1] - found["open"][-1])
    return found


async def _spawn_nothing(argv: Sequence[str], **options: Any) -> Process:
    """Start an interpreter that ends at once, in place of a worker."""
    return await World().spawn([*argv[: argv.index("-m")], "-c", ""] if "-m" in argv else argv, **options)
