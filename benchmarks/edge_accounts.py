"""A thousand enrolled edges, each in an account of its own: the broker's memory, and what their connecting costs it."""

from __future__ import annotations

import asyncio
import os
import resource
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.declaration import Samples
from benchmarks.processes import resident
from heliograph.bus.connect import connect
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.topics import REPORT, TASK
from heliograph.bus.nats.bus import NatsBus
from heliograph.core.world import World
from heliograph.local.nats_server import Broker, User

SIZES = (250, 500, 1000)
AT_ONCE = 50
"""Edges that connect at the same time."""
_TICKS = os.sysconf("SC_CLK_TCK")
_MB = 1e6


def connected() -> Samples:
    """Measure one broker for each of ``SIZES``.

    Returns:
        by the number of edges ``N``: ``memory N`` in MB, of the broker with all connected; ``seconds N`` until each has
        connected, read its task and reported; ``cpu N`` seconds of the broker's CPU for that; ``start N`` seconds until
        the broker listens, for which the accounts' files are written. ``growth``: memory that an edge adds above the
        middle size over that below it; ``cpu growth`` likewise.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    found: dict[str, list[float]] = {}
    for size in SIZES:
        for name, value in asyncio.run(_of(size)).items():
            found[f"{name} {size}"] = [value]
    for name, key in (("memory", "growth"), ("cpu", "cpu growth")):
        small, middle, large = (found[f"{name} {size}"][0] for size in SIZES)
        found[key] = [((large - middle) / (SIZES[2] - SIZES[1])) / ((middle - small) / (SIZES[1] - SIZES[0]))]
    return found


async def _of(size: int) -> dict[str, float]:
    world = World()
    names = [f"edge-{number}" for number in range(size)]
    users = (User("coordinator", "", "coordinator"), *(User(f"agent-{each}", "", "agent", each) for each in names))
    with tempfile.TemporaryDirectory(prefix="heliograph-accounts-") as directory:
        server = Broker(Path(directory), "cloud", users, ping_interval="60s")
        began = world.monotonic()
        await server.start()
        started = world.monotonic() - began
        assert server.process is not None
        pid = server.process.pid
        try:
            async with AsyncExitStack() as stack:
                cloud = await stack.enter_async_context(connect(server.url("coordinator"), name="coordinator"))
                assert isinstance(cloud, NatsBus)
                await cloud.link.wait_up()
                await cloud.prepare()
                gate = asyncio.Semaphore(AT_ONCE)

                async def come(name: str) -> None:
                    async with gate:
                        url = server.url(f"agent-{name}")
                        bus = connect(url, name=f"agent-{name}", inbox=inbox_of(name))
                        await stack.enter_async_context(bus)
                        await bus.link.wait_up()
                        await stack.enter_async_context(bus.subscribe(TASK.at(edge=name)))
                        assert await bus.last(TASK.at(edge=name)) is None
                        await bus.publish(REPORT.at(edge=name), b"{}")

                before, began = _cpu(pid), world.monotonic()
                await asyncio.gather(*map(come, names))
                return {
                    "start": started,
                    "seconds": world.monotonic() - began,
                    "cpu": _cpu(pid) - before,
                    "memory": resident(pid) / _MB,
                }
        finally:
            await server.kill()


def _cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
