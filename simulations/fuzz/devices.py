"""The devices of a run, like the chaos run's, each in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from heliograph.simulations.faults.keeping_device import NAME, Device, Life
from heliograph.simulations.fuzz.plan import Edge
from heliograph.simulations.virtual.loop import Process
from heliograph.simulations.virtual.virtual_cluster import NODE_URL, VirtualCluster


class Devices:
    """The devices of the edges that have one."""

    def __init__(self, cluster: VirtualCluster, edges: Sequence[Edge]) -> None:
        self._devices: dict[str, tuple[Process, Device]] = {}
        for each in edges:
            if each.every:
                process, world = cluster.new_process(each.name, NAME)
                self._devices[each.name] = process, Device(each.name, NODE_URL, world, each.every)

    @property
    def lives(self) -> dict[str, list[Life]]:
        """Incarnations of each edge's device, oldest first."""
        return {edge: device.lives for edge, (_, device) in self._devices.items()}

    async def start(self, *edges: str) -> None:
        """Start new incarnations on the named edges; without names, on all."""
        for edge in edges or self._devices:
            if edge in self._devices:
                await self._run_in_process(edge, self._devices[edge][1].start())

    async def kill(self, edge: str) -> None:
        if edge in self._devices:
            await self._devices[edge][1].kill()

    async def finish(self, timeout: float) -> None:
        """Stop sending, and wait until all events are acknowledged, at most ``timeout`` seconds."""
        async with asyncio.TaskGroup() as group:
            for edge, (_, device) in self._devices.items():
                group.create_task(self._run_in_process(edge, device.finish(timeout)))

    async def _run_in_process(self, edge: str, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the context of the device's process."""
        await self._devices[edge][0].context.run(asyncio.create_task, coroutine)
