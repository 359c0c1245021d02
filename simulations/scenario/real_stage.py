"""A stage of real processes on this machine: brokers, coordinator, agents and workers, with a relay for each link."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.transport import Bus
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.core.names import CLOUD
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.edge_agent.confinement.site_policy import OPEN
from heliograph.local.cluster import LocalCluster
from heliograph.local.follow_job import wait_for_offers
from heliograph.local.relay import Relay
from heliograph.simulations.faults.other_processes import descendants, kill, limit_files, workers_of
from heliograph.simulations.faults.skewed import Clock
from heliograph.simulations.scenario import training_script as training
from heliograph.simulations.scenario.consistency import COORDINATOR
from heliograph.simulations.scenario.director import Tap
from heliograph.simulations.scenario.document import Behaviour, Scenario
from heliograph.simulations.scenario.job_document import DATASET, HELD_OUT_SET
from heliograph.simulations.scenario.samples import Samples
from heliograph.simulations.scenario.timeline import EdgePlan

SCRIPT = Path(training.__file__)
MOST_EDGES = 16
"""Largest number of edges; each of them is a broker, an agent and a worker."""
MOST_SECONDS = 3600.0
FULL = 0
"""Largest size of a file on a full disk, in bytes."""


def check_playable(scenario: Scenario, plans: Sequence[EdgePlan]) -> None:
    """Raise Refused, with a hint, if real processes in real time cannot play the scenario."""
    instead = "Run it without --real, in virtual time, or change"
    if len(plans) > MOST_EDGES:
        raise Refused("too-large", field="edges", expected=f"at most {MOST_EDGES} edges with --real: each is a broker, "
                      "an agent and a worker", got=len(plans), hint=f"{instead} edges.")  # fmt: skip
    if scenario.duration > MOST_SECONDS:
        raise Refused("too-long", field="duration", expected=f"at most {MOST_SECONDS:g} s with --real: it runs in real "
                      "time", got=f"{scenario.duration:g} s", hint=f"{instead} duration.")  # fmt: skip
    if any(plan.loss for plan in plans):
        raise Refused("impossible", field="links.loss", expected="0 with --real: its links are TCP, which sends lost "
                      "packets again", got=scenario.links.loss, hint=f"{instead} links.loss.")  # fmt: skip


class RealStage:
    """A ``TrainingStage`` of real processes.

    Args:
        directory: directory for the processes' state in this run.
    """

    def __init__(
        self, scenario: Scenario, plans: Sequence[EdgePlan], seed: int, directory: Path, tap: Tap, world: World
    ) -> None:
        self.world = world
        self._scenario = scenario
        self._plans = {plan.name: plan for plan in plans}
        self._directory = directory
        self._tap = tap
        self._stack = AsyncExitStack()
        self._disturbances: dict[str, dict[str, Any]] = {}
        self._settings: dict[str, Any] = {
            "seed": seed, "seconds_per_sample": scenario.data.seconds_per_sample, "disturbances": self._disturbances,
            "speeds": {plan.name: plan.speed for plan in plans},
            "memory": {plan.name: plan.memory_mb for plan in plans},
        }  # fmt: skip
        self._samples = Samples(scenario.data, list(self._plans), seed)
        names = (COORDINATOR, CLOUD, *self._plans)
        self._clocks = {name: Clock(directory / "clocks" / name) for name in names}
        self._client: AsyncClient | None = None
        self._cluster: LocalCluster | None = None

    async def start(self) -> None:
        files = await self.world.in_thread(self._write_files)
        self._cluster = LocalCluster(
            self._directory / "cluster", list(self._plans), datasets=files, code=(SCRIPT.parent,),
            relayed=tuple(self._plans), world=self.world, log=self._directory / "log.txt", program=self._program,
            site_policy=OPEN,  # workers read the scenario's clocks and settings
        )  # fmt: skip
        await self._stack.enter_async_context(self._cluster)
        self._client = await self._stack.enter_async_context(AsyncClient(self._cluster.server))
        await wait_for_offers(self._client, files)
        for plan in self._plans.values():
            self.set_link(plan.name, latency=plan.latency, bandwidth=plan.bandwidth)
        listening = asyncio.create_task(self._listen(self._client.bus))
        self._stack.push_async_callback(cancel_and_wait, listening)
        for edge in await self._client.edges.list():  # statuses published before the subscription
            self._tap(self._recorded(f"status/edges/{edge['metadata']['name']}", json.dumps(_event(edge)).encode()))

    async def stop(self) -> None:
        await self._stack.aclose()

    def bus(self) -> Bus:
        assert self._client is not None
        return self._client.bus

    def set_link(
        self, edge: str, *, up: bool | None = None, latency: float | None = None, bandwidth: float | None = None,
        loss: float | None = None,
    ) -> None:  # fmt: skip
        relay = self._relay(edge)
        if latency is not None:
            relay.latency = latency
        if bandwidth is not None:
            relay.bandwidth = bandwidth or None
        if up is not None:
            (relay.restore if up else relay.cut)()

    async def kill(self, name: str) -> None:
        role, _, edge = name.partition(" ")
        if role == "worker" and edge:
            for pid in workers_of(self._running.pid(edge))[:1]:
                kill(pid)
        else:
            await self._running.kill(name)

    async def start_process(self, name: str) -> None:
        if name == COORDINATOR:
            await self._running.start_coordinator()
        else:
            await self._running.start_agent(name)

    def disk_full(self, edge: str, full: bool) -> None:
        agent = self._running.pid(edge)
        if full:
            limit_files([agent], FULL)
        else:
            limit_files([agent, *descendants(agent)])  # processes started meanwhile have inherited the limit

    def set_clock(self, name: str, ahead: float) -> None:
        self._clocks[name].offset = ahead

    # the training script reads these settings before each round

    def set_behaviour(self, edge: str, behaviour: Behaviour | None, amount: float = 0.0) -> None:
        self._disturbances.setdefault(edge, {}).update(behaviour=behaviour, amount=amount)
        self._write_settings()

    def set_slowdown(self, edge: str, factor: float) -> None:
        self._disturbances.setdefault(edge, {}).update(slowdown=factor)
        self._write_settings()

    @property
    def _running(self) -> LocalCluster:
        assert self._cluster is not None
        return self._cluster

    def _relay(self, edge: str) -> Relay:
        relay = self._running.nodes[edge].relay
        assert relay is not None, f"{edge} has no relay before it"
        return relay

    def _program(self, name: str) -> list[str]:
        return [sys.executable, "-m", "heliograph.simulations.faults.skewed", str(self._clocks[name].file)]

    def _write_files(self) -> Mapping[str, Mapping[str, Path]]:
        import numpy as np

        data = self._directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        self._write_settings()
        found = {name: {DATASET: data / f"{name}.npz"} for name in self._plans}
        for name, files in found.items():
            x, y = self._samples.of(name)
            np.savez(files[DATASET], x=x, y=y)
        x, y = self._samples.held_out()
        np.savez(data / "held-out.npz", x=x, y=y)
        return {**found, CLOUD: {HELD_OUT_SET: data / "held-out.npz"}}

    def _write_settings(self) -> None:
        file = self._directory / "data" / training.SETTINGS
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(self._settings))
        fresh.replace(file)

    async def _listen(self, bus: Bus) -> None:
        async with bus.subscribe("status/#", "event/#", "edge/#") as messages:
            async for message in messages:
                self._tap(self._recorded(message.topic, message.body, message.headers))

    def _recorded(self, topic: str, body: bytes, headers: Mapping[str, str] | None = None) -> Recorded:
        now = round(self.world.now() * 1e9)
        return Recorded(topic, body, now, now, headers or {})


def _event(edge: Mapping[str, Any]) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "simulation", "type": "heliograph.status.v1", "data": edge}
