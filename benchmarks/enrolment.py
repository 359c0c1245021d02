"""The time until a node has enrolled, with the shipped commands: invited, enrolled, its agent seen by the cloud."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.declaration import Samples
from heliograph.bus.contract.topics import STATUS
from heliograph.client import AsyncClient
from heliograph.invitations import invite
from heliograph.local.cluster import LocalCluster

NODES = 3


def run() -> Samples:
    """Return ``enroll``, seconds of one command ``heliograph enroll``, and ``online``, seconds from the start of
    the node's agent until the cloud shows the edge online."""
    return asyncio.run(_run())


async def _run() -> Samples:
    found: dict[str, list[float]] = {"enroll": [], "online": []}
    with tempfile.TemporaryDirectory(prefix="heliograph-enrolment-") as name:
        directory = Path(name)
        async with LocalCluster(directory / "cluster", ["edge-1"]) as cluster, AsyncClient(cluster.server) as client:
            broker = cluster.nodes["edge-1"].broker
            assert broker is not None
            home = {"XDG_STATE_HOME": str(directory / "state"), "HELIOGRAPH_NODE": broker.url("agent", "mqtt")}
            for number in range(NODES):
                edge = f"node-{number}"
                token = await invite(client, edge)
                began = time.perf_counter()
                await _typed("enroll", "-", home=home, text=token.text())
                found["enroll"].append(time.perf_counter() - began)
                found["online"].append(await _online(client, edge, home))
    return found


async def _online(client: AsyncClient, edge: str, home: dict[str, str]) -> float:
    words = [sys.executable, "-m", "heliograph.cli.main", "agent", "--name", edge]
    async with client.bus.subscribe(STATUS.at(resource="edges", name=edge)) as changes:
        began = time.perf_counter()
        agent = await asyncio.create_subprocess_exec(*words, stdout=subprocess.DEVNULL, env=os.environ | home)
        try:
            async with asyncio.timeout(30):
                while not (await client.edges.get(edge))["status"]["online"]:
                    await anext(changes)
            return time.perf_counter() - began
        finally:
            agent.terminate()
            await agent.wait()


async def _typed(*words: str, home: dict[str, str], text: str) -> None:
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "heliograph.cli.main", *words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        env=os.environ | home,
    )  # fmt: skip
    await run.communicate(text.encode())
    assert run.returncode == 0
