"""The injector of a plan's faults into a virtual cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from heliograph.bus.contract.topics import Stream
from heliograph.bus.transport import Message
from heliograph.simulations.fuzz.devices import Devices
from heliograph.simulations.fuzz.plan import REPEATED, Edge, Fault
from heliograph.simulations.virtual.loop import NO_PROCESS
from heliograph.simulations.virtual.virtual_cluster import VirtualCluster

REPEATED_WITHIN = 1.0


class FaultInjector:
    """An injector of faults. Times are seconds of the cluster's clock from its start."""

    def __init__(self, cluster: VirtualCluster, edges: Mapping[str, Edge], devices: Devices) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._edges = edges
        self._devices = devices
        self._repeating: dict[str, float] = {}
        """Share of each stream's messages that are repeated."""
        for stream, topic in REPEATED.items():
            assert topic.stream is not None
            cluster.hub.receivers.add(topic.filter(), "", partial(self._stored, stream, topic.stream))

    async def run(self, faults: Sequence[Fault]) -> None:
        """Inflict the faults, and return when the last one is over."""
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(self._inflict(fault))

    async def _inflict(self, fault: Fault) -> None:
        await self._sleep_until(fault.at)
        await self._begin(fault)
        if fault.duration:
            await self._sleep_until(fault.end)
        await self._end(fault)

    async def _begin(self, fault: Fault) -> None:
        cluster, target = self._cluster, fault.target
        if fault.kind in ("crash-coordinator", "crash-agent"):
            cluster.kill_after(target, fault.steps)
        elif fault.kind == "crash-worker":
            if workers := cluster.workers(target):
                cluster.kill_worker_after(workers[int(fault.amount) % len(workers)], fault.steps)
        elif fault.kind == "restart-node-broker":
            cluster.node_link(target).reset(fault.duration)
        elif fault.kind == "restart-device":
            await self._devices.kill(target)
        elif fault.kind == "cut":
            cluster.links[target].cut()
        elif fault.kind == "reset":
            cluster.links[target].reset()
        elif fault.kind == "slow":
            cluster.links[target].latency = fault.amount
        elif fault.kind == "drop":
            cluster.links[target].dropped = fault.amount
        elif fault.kind == "overtake":
            cluster.links[target].overtaken = fault.amount
        elif fault.kind == "overtake-on-node":
            cluster.node_link(target).overtaken = fault.amount
        elif fault.kind == "repeat":
            self._repeating[target] = fault.amount
        elif fault.kind == "full-disk":
            cluster.fill_disk(target, True)
        else:
            cluster.set_clock(target, fault.amount)

    async def _end(self, fault: Fault) -> None:
        cluster, target = self._cluster, fault.target
        if fault.kind in ("crash-coordinator", "crash-agent"):
            cluster.kill(target)  # if it has not taken enough steps to be killed
            cluster.start_process(target)
        elif fault.kind == "restart-device":
            await self._devices.start(target)
        elif fault.kind == "cut":
            cluster.links[target].restore()
        elif fault.kind == "slow":
            cluster.links[target].latency = self._edges[target].latency if target in self._edges else 0.0
        elif fault.kind == "drop":
            cluster.links[target].dropped = 0.0
        elif fault.kind == "overtake":
            cluster.links[target].overtaken = 0.0
        elif fault.kind == "overtake-on-node":
            cluster.node_link(target).overtaken = 0.0
        elif fault.kind == "repeat":
            del self._repeating[target]
        elif fault.kind == "full-disk":
            cluster.fill_disk(target, False)
        elif fault.kind == "wrong-clock":
            cluster.set_clock(target, 0.0)

    def _stored(self, name: str, stream: Stream, message: Message) -> None:
        """Repeat a stored message within a second, by the stream's share."""
        if self._world.rng.random() < self._repeating.get(name, 0.0):
            after, repeat = self._world.rng.random() ** 2 * REPEATED_WITHIN, self._cluster.hub.repeat
            loop = asyncio.get_running_loop()
            loop.call_later(after, repeat, stream, message, context=NO_PROCESS)  # outside the publisher's process

    async def _sleep_until(self, at: float) -> None:
        if (left := at - self._world.monotonic()) > 0:
            await self._world.sleep(left)
