"""The driver of a plan's faults on real processes: inflict each fault, end it, and note both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.mosquitto import Mosquitto
from heliograph.local.nats_server import Broker
from heliograph.local.relay import Relay
from heliograph.simulations.faults.fault_plan import COORDINATOR, Fault
from heliograph.simulations.faults.keeping_device import Device
from heliograph.simulations.faults.other_processes import descendants, free_files, kill, limit_files, workers_of
from heliograph.simulations.faults.skewed import Clock

SLOW_BANDWIDTH = 1_000_000.0
"""Bytes per second of a slow link, in addition to its latency."""
POLL_EVERY = 0.2


@dataclass
class Timeline:
    """Notes of the run, in seconds from the start of the faults."""

    world: World
    began: float = 0.0
    lines: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.began = self.world.monotonic()
        self.note(f"it is {self.world.timestamp()}")  # the time format of the processes' log

    @property
    def seconds(self) -> float:
        return self.world.monotonic() - self.began

    def note(self, text: str) -> None:
        self.lines.append(f"{self.seconds:7.2f} s  {text}")


class Driver:
    """A driver of faults on a cluster.

    Args:
        brokers: each edge's own broker.
        clocks: clocks that faults may change, by process.

    Attributes:
        incidents: descriptions of processes that ended without being killed.
    """

    def __init__(
        self,
        cluster: LocalCluster,
        brokers: Mapping[str, Broker | Mosquitto],
        devices: Mapping[str, Device],
        clocks: Mapping[str, Clock],
        timeline: Timeline,
    ) -> None:
        self._cluster = cluster
        self._brokers = brokers
        self._devices = devices
        self._clocks = clocks
        self._timeline = timeline
        self._world = cluster.world
        self._killed: set[str] = set()
        self._full: set[str] = set()
        """Nodes whose disk is full: an agent that still starts there ends, and its service manager starts it again."""
        self.incidents: list[str] = []

    async def run(self, faults: Sequence[Fault]) -> None:
        """Inflict the faults, and return when the last one is over."""
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(self._inflict(fault))

    async def watch(self) -> None:
        """Restart and note processes that ended by themselves, like a node's service manager, until cancelled."""
        names = [COORDINATOR, *self._cluster.nodes]
        while True:
            for name in names:
                code = self._cluster.exit_code(name)
                if code is not None and name not in self._killed:
                    ended = f"{name} ended by itself with exit code {code}"
                    if name not in self._full or self._cluster.is_ready(name):
                        self.incidents.append(ended)
                    self._timeline.note(f"{ended}; started again")
                    await self._start(name)
            await self._world.sleep(POLL_EVERY)

    async def _inflict(self, fault: Fault) -> None:
        await self._world.sleep(max(0.0, fault.at - self._timeline.seconds))
        effects = {
            "black-hole": self._cut, "reset": self._cut, "slow-link": self._slow, "kill-broker": self._kill_broker,
            "kill-coordinator": self._kill, "kill-agent": self._kill, "kill-node-broker": self._kill_broker,
            "kill-worker": self._kill_worker, "full-disk": self._fill, "wrong-clock": self._skew,
            "restart-device": self._restart,
        }  # fmt: skip
        async with effects[fault.kind](fault):
            self._timeline.note(f"{fault.kind} {fault.target}")
            await self._world.sleep(max(0.0, fault.end - self._timeline.seconds))
        if fault.duration:
            self._timeline.note(f"  over: {fault.kind} {fault.target}")

    @asynccontextmanager
    async def _cut(self, fault: Fault) -> AsyncIterator[None]:
        link = self._link(fault.target)
        link.cut("reset" if fault.kind == "reset" else "blackhole")
        yield
        link.restore()

    @asynccontextmanager
    async def _slow(self, fault: Fault) -> AsyncIterator[None]:
        link = self._link(fault.target)
        link.latency, link.bandwidth = fault.amount, SLOW_BANDWIDTH
        yield
        link.latency, link.bandwidth = 0.0, None

    @asynccontextmanager
    async def _kill(self, fault: Fault) -> AsyncIterator[None]:
        self._killed.add(fault.target)
        await self._cluster.kill(fault.target)
        yield
        await self._start(fault.target)
        self._killed.discard(fault.target)

    @asynccontextmanager
    async def _kill_broker(self, fault: Fault) -> AsyncIterator[None]:
        of_cloud = {broker.name: broker for broker in self._cluster.cloud_brokers}
        broker = self._brokers[fault.target] if fault.kind == "kill-node-broker" else of_cloud[fault.target]
        await broker.kill()
        yield
        await broker.start()

    @asynccontextmanager
    async def _kill_worker(self, fault: Fault) -> AsyncIterator[None]:
        """Kill one of the node's workers, if it has any; its agent starts it again."""
        agent = self._cluster.pid(fault.target)
        for pid in workers_of(agent)[:1]:
            self._timeline.note(f"worker {pid} of {fault.target} is killed")
            kill(pid)
        yield

    @asynccontextmanager
    async def _fill(self, fault: Fault) -> AsyncIterator[None]:
        agent = self._cluster.pid(fault.target)
        limit_files([agent], max(0, int(fault.amount)))
        self._full.add(fault.target)
        yield
        agent = self._cluster.pid(fault.target)
        free_files([agent, *descendants(agent)])  # processes started meanwhile have inherited the limit
        await self._world.sleep(2 * POLL_EVERY)  # its end is noticed by then
        self._full.discard(fault.target)

    @asynccontextmanager
    async def _skew(self, fault: Fault) -> AsyncIterator[None]:
        clock = self._clocks[fault.target]
        clock.offset = fault.amount
        yield
        clock.offset = 0.0

    @asynccontextmanager
    async def _restart(self, fault: Fault) -> AsyncIterator[None]:
        device = self._devices[fault.target]
        await device.kill()
        yield
        await device.start()

    async def _start(self, name: str) -> None:
        if name == COORDINATOR:
            await self._cluster.start_coordinator()
        else:
            await self._cluster.start_agent(name)

    def _link(self, edge: str) -> Relay:
        relay = self._cluster.nodes[edge].relay
        assert relay is not None, f"{edge} has no relay before it"
        return relay
