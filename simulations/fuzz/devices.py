"""The devices of a run, as in the chaos run; each life is a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from heliograph.simulations.faults.keeping_device import NAME, Device, Life
from heliograph.simulations.fuzz.plan import Edge
from heliograph.simulations.virtual.loop import Process
from heliograph.simulations.virtual.virtual_cluster import NODE_URL, VirtualCluster


class Devices:
    """One on each edge that has one."""

    def __init__(self, cluster: VirtualCluster, edges: Sequence[Edge]) -> None:
        self._devices: dict[str, tuple[Process, Device]] = {}
        for each in edges:
            if each.every:
                process, world = cluster.new_process(each.name, NAME)
                self._devices[each.name] = process, Device(each.name, NODE_URL, world, each.every)

    @property
    def lives(self) -> dict[str, list[Life]]:
        """Each edge's device's incarnations, oldest first."""
        return {edge: device.lives for edge, (_, device) in self._devices.items()}

    async def start(self, *edges: str) -> None:
        """New incarnations on those edges; without names, on all."""
        for edge in edges or self._devices:
            if edge in self._devices:
                await self._within(edge, self._devices[edge][1].start())

    async def kill(self, edge: str) -> None:
        if edge in self._devices:
            await self._devices[edge][1].kill()

    async def finish(self, timeout: float) -> None:
        """They send no more; returns when all they sent is acknowledged, or after so many seconds."""
        async with asyncio.TaskGroup() as group:
            for edge, (_, device) in self._devices.items():
                group.create_task(self._within(edge, device.finish(timeout)))

    async def _within(self, edge: str, doing: Coroutine[Any, Any, None]) -> None:
        """In the process' context: what comes of it is its own."""
        await self._devices[edge][0].context.run(asyncio.create_task, doing)
