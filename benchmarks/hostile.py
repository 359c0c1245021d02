"""Another client's requests while hostile ones flood the coordinator: latency, losses, and lost leases."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.declaration import Samples
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.nats_server import User

RATE = 1000
"""Hostile requests in a second."""
SECONDS = 30.0
PAUSE = 0.02
"""Seconds between two requests of the client that is measured."""
HOSTILE = "hostile"
"""Login of the hostile clients."""


def flood() -> Samples:
    """Measure one client's ``get`` during ``SECONDS`` of ``RATE`` hostile requests a second, over NATS and MQTT.

    Returns:
        ``get``: milliseconds of each request. ``lost``: its requests without a right answer. ``leases``: leases that
        the coordinator lost. ``sent``: hostile requests; ``answered`` and ``refused``: those with an answer that they
        succeeded, and with another one.
    """
    return asyncio.run(_flood())


async def _flood() -> Samples:
    world = World()
    times: list[float] = []
    lost = 0
    with tempfile.TemporaryDirectory(prefix="heliograph-hostile-") as directory:
        log = Path(directory) / "log"
        cluster = LocalCluster(Path(directory) / "cluster", [], log=log)
        cluster.broker.users += (User(HOSTILE, world.new_secret().hex(), "operator"),)
        async with cluster, AsyncClient(cluster.server) as client:
            await client.models.create({"kind": "Model", "metadata": {"name": "honest"}})
            flooding = asyncio.ensure_future(_run_hostile_clients(cluster))
            while not flooding.done():
                began = world.monotonic()
                try:
                    found = await client.models.get("honest")
                    lost += found["metadata"]["name"] != "honest"
                except HeliographError as error:
                    print(f"lost: {error}", file=sys.stderr)
                    lost += 1
                times.append(1000 * (world.monotonic() - began))
                await world.sleep(PAUSE)
            answers = await flooding
        leases = log.read_text().count("the lease was not renewed")
    print(f"hostile requests, answers by code: {dict(answers)}", file=sys.stderr)
    refused = sum(number for code, number in answers.items() if code not in ("sent", "ok"))
    return {
        "get": times,
        "lost": [float(lost)],
        "leases": [float(leases)],
        "sent": [float(answers["sent"])],
        "answered": [float(answers.get("ok", 0))],
        "refused": [float(refused)],
    }


async def _run_hostile_clients(cluster: LocalCluster) -> Mapping[str, int]:
    """Flood from a process of its own; return the number of requests ``sent``, and of answers by code."""
    urls = cluster.broker.url(HOSTILE), cluster.broker.url(HOSTILE, "mqtt")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.hostile_clients", *urls, str(RATE), str(SECONDS),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await child.communicate()
    if child.returncode:
        raise HeliographError(f"the hostile clients ended with exit code {child.returncode}")
    answers: dict[str, int] = json.loads(out)
    return answers
