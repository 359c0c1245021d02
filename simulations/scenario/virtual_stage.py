"""A stage in virtual time: the shipped components in one process."""

from __future__ import annotations

from collections.abc import Sequence

from heliograph.bus.transport import Bus
from heliograph.core.telemetry import NO_TELEMETRY, Telemetry
from heliograph.core.world import World
from heliograph.simulations.scenario.director import Tap
from heliograph.simulations.scenario.document import Behaviour
from heliograph.simulations.scenario.job_document import HELD_OUT_SET, Naming
from heliograph.simulations.scenario.learning import Learning
from heliograph.simulations.scenario.timeline import EdgePlan
from heliograph.simulations.virtual.loop import VirtualLoop
from heliograph.simulations.virtual.virtual_cluster import SCRIPT, EdgeSpec, VirtualCluster

NAMING = Naming(SCRIPT, "")
"""The workload has its own samples, so the edges need no data set."""
DAY = 86400.0
LONG_LEASE = 60.0
"""Factor on the coordinator's lease in a run of days. No other coordinator stands by, and renewing the lease every
second would take most of the run."""


class VirtualStage:
    """A ``TrainingStage`` in virtual time."""

    def __init__(
        self, loop: VirtualLoop, plans: Sequence[EdgePlan], learning: Learning, seed: int, duration: float, tap: Tap,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:  # fmt: skip
        edges = [EdgeSpec(each.name, each.speed, each.latency, each.bandwidth, each.loss) for each in plans]
        self._learning = learning
        self._cluster = VirtualCluster(
            loop, edges, learning, seed, tap, patience=LONG_LEASE if duration > DAY else 1.0, held_out=HELD_OUT_SET,
            telemetry=telemetry,
        )  # fmt: skip
        self._bus: Bus | None = None

    @property
    def world(self) -> World:
        return self._cluster.world

    async def start(self) -> None:
        await self._cluster.start()
        self._bus = self._cluster.client()
        await self._bus.open()

    async def stop(self) -> None:
        if self._bus is not None:
            await self._bus.close()
        await self._cluster.stop()

    def bus(self) -> Bus:
        assert self._bus is not None
        return self._bus

    def set_link(
        self, edge: str, *, up: bool | None = None, latency: float | None = None, bandwidth: float | None = None,
        loss: float | None = None,
    ) -> None:  # fmt: skip
        link = self._cluster.links[edge]
        for name, value in (("latency", latency), ("bandwidth", bandwidth), ("loss", loss)):
            if value is not None:
                setattr(link, name, value)
        if up is not None:
            (link.restore if up else link.cut)()

    async def kill(self, name: str) -> None:
        role, _, edge = name.partition(" ")
        if role == "worker" and edge:
            for worker in self._cluster.workers(edge):
                worker.end()
        else:
            self._cluster.kill(name)

    async def start_process(self, name: str) -> None:
        self._cluster.start_process(name)

    def disk_full(self, edge: str, full: bool) -> None:
        self._cluster.fill_disk(edge, full)

    def set_clock(self, name: str, ahead: float) -> None:
        self._cluster.set_clock(name, ahead)

    def set_behaviour(self, edge: str, behaviour: Behaviour | None, amount: float = 0.0) -> None:
        self._learning.set_behaviour(edge, behaviour, amount)

    def set_slowdown(self, edge: str, factor: float) -> None:
        self._learning.set_slowdown(edge, factor)
