"""A whole chaos run: a cluster, its devices and jobs, the faults of a plan, and the check of the invariants."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.follow_job import wait_for_offers
from heliograph.local.mosquitto import Mosquitto, find_mosquitto
from heliograph.local.nats_server import Broker
from heliograph.simulations.faults.driver import Driver, Timeline
from heliograph.simulations.faults.evidence import Evidence, Follower, collect
from heliograph.simulations.faults.fault_plan import COORDINATOR, Fault
from heliograph.simulations.faults.invariants import Violation, check, drop_repeats
from heliograph.simulations.faults.job_chain import DATASET, SCRIPT, Jobs, draw_samples, write_samples
from heliograph.simulations.faults.keeping_device import Device
from heliograph.simulations.faults.learning_invariants import LearningEvidence, check_learning
from heliograph.simulations.faults.learning_stream import LearningStream
from heliograph.simulations.faults.skewed import Clock

EDGES = ("edge-1", "edge-2", "edge-3")
MOSQUITTO = EDGES[0]
"""The edge whose node runs mosquitto in its packaged configuration, if it is installed."""
SETTLE = 60.0
"""Seconds after the last fault within which everything must work again."""

CATCH_UP = 15.0
"""Seconds after that within which a consumer must have read the whole stream."""


@dataclass
class Outcome:
    """The outcome of a run."""

    faults: Sequence[Fault]
    timeline: Timeline
    evidence: Evidence
    learning: LearningEvidence
    violations: list[Violation]
    brokers: dict[str, str]

    def summary(self) -> list[str]:
        """Return a few lines about the run and its results."""
        kinds = Counter(each.kind for each in self.faults)
        lives = [each for known in self.evidence.lives.values() for each in known]
        first, repeats = drop_repeats(self.evidence)
        closed = {(each.job_uid, each.round) for each in self.evidence.records}
        counted = sum(len(each.counted) for each in self.evidence.records)
        return [
            f"faults: {len(self.faults)} ({', '.join(f'{kind} {count}' for kind, count in sorted(kinds.items()))})",
            f"events: {sum(each.sent for each in lives)} sent by {len(lives)} incarnations of {len(EDGES)} devices, "
            f"{sum(each.acknowledged for each in lives)} acknowledged, {len(first)} arrived, "
            f"{repeats} repeats dropped",
            f"jobs: {len(self.evidence.jobs)}, rounds closed: {len(closed)}, updates: {len(self.evidence.updates)} "
            f"arrived, {counted} counted; {len(self.evidence.close_events)} close events",
            _learned(self.learning),
            f"brokers: {', '.join(f'{edge} {name}' for edge, name in self.brokers.items())}",
        ]


async def run(
    faults: Sequence[Fault], seconds: float, seed: int | str, directory: Path, world: World, servers: int = 1
) -> Outcome:
    """Run a cluster for ``seconds`` under the faults, let it settle, end it, and check the invariants.

    Args:
        servers: nats-servers of the cloud.
    """
    samples = write_samples(directory / "data", EDGES, seed)
    brokers: dict[str, Broker | Mosquitto] = {}
    if _has_mosquitto():
        brokers[MOSQUITTO] = Mosquitto(directory / "mosquitto", world=world)
    clocks = {name: Clock(directory / "clocks" / name) for name in (COORDINATOR, *EDGES)}

    def program(name: str) -> list[str]:
        skewed = ["heliograph.simulations.faults.skewed", str(clocks[name].file)] if name in clocks else []
        return [sys.executable, "-m", *(skewed or ["heliograph.cli.main"])]

    cluster = LocalCluster(
        directory / "cluster", [*EDGES], datasets={edge: {DATASET: file} for edge, file in samples.items()},
        code=(SCRIPT.parent,), edge_brokers={edge: broker.url(scheme="mqtt") for edge, broker in brokers.items()},
        relayed=EDGES, world=world, log=directory / "log.txt", program=program,
        servers=servers,
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        for broker in brokers.values():
            await broker.start()
            stack.push_async_callback(broker.kill)
        brokers |= {name: node.broker for name, node in cluster.nodes.items() if node.broker is not None}
        await stack.enter_async_context(cluster)
        client = await stack.enter_async_context(AsyncClient(cluster.server))
        await wait_for_offers(client, {edge: {DATASET: file} for edge, file in samples.items()})
        devices = {edge: Device(edge, brokers[edge].url(scheme="mqtt"), world) for edge in EDGES}
        for device in devices.values():
            await device.start()
            stack.push_async_callback(device.kill)
        timeline = Timeline(world)
        driver = Driver(cluster, brokers, devices, clocks, timeline)
        jobs = Jobs(client, EDGES, world, timeline.note)
        urls = {edge: brokers[edge].url(scheme="mqtt") for edge in EDGES}
        stream = LearningStream(client, urls, world, seed, timeline.note)
        follower = Follower(client.bus)
        timeline.start()
        watching, working = asyncio.create_task(driver.watch()), asyncio.create_task(jobs.run())
        learning = asyncio.create_task(stream.run())
        stack.push_async_callback(cancel_and_wait, watching, working, learning, asyncio.create_task(follower.run()))
        await driver.run(faults)
        await world.sleep(max(0.0, seconds - timeline.seconds))
        timeline.note("the faults are over")
        jobs.finish_after_current()
        incidents = await _settle(cluster, devices, working, stream, timeline)
        if learning.done():
            learning.result()
        learned = await stream.evidence()
        lives = {edge: device.lives for edge, device in devices.items()}
        evidence = await collect(client.bus, lives, draw_samples(EDGES, seed), SETTLE)
        newest = evidence.telemetry[-1].sequence if evidence.telemetry else 0
        evidence.followed = await follower.reach(newest, CATCH_UP)
        evidence.jobs = list(jobs.documents.values())
        evidence.incidents = driver.incidents + incidents
        timeline.note("everything has been read")
    named = {edge: "mosquitto" if isinstance(broker, Mosquitto) else "nats-server" for edge, broker in brokers.items()}
    violations = [*check(evidence), *check_learning(learned)]
    return Outcome(faults, timeline, evidence, learned, violations, dict(sorted(named.items())))


async def _settle(
    cluster: LocalCluster, devices: dict[str, Device], working: asyncio.Task[None], stream: LearningStream,
    timeline: Timeline,
) -> list[str]:  # fmt: skip
    """Wait until everything works again; return descriptions of what does not."""
    found = []
    try:
        await cluster.wait_ready(SETTLE)
    except HeliographError as error:
        found.append(f"after the last fault: {error}")
    done, _ = await asyncio.wait((working,), timeout=SETTLE)
    if not done:
        found.append(f"after the last fault the job had not ended within {SETTLE:g} s")
    else:
        working.result()
        timeline.note("the last job has ended")
    found += await stream.settle(SETTLE)
    timeline.note("the stream's job has learned its samples")
    await asyncio.gather(*(device.finish(SETTLE) for device in devices.values()))
    for edge, device in devices.items():
        life = device.lives[-1]
        if life.acknowledged < life.sent:
            found.append(f"{edge}: of {life.sent} events only {life.acknowledged} were acknowledged")
    timeline.note("the devices have their acknowledgements")
    return found


def _learned(evidence: LearningEvidence) -> str:
    """Return a line about the stream's job."""
    (loop,) = evidence.loops
    decisions = Counter(each.decision for record in loop.rounds for each in record.models.values())
    versions = set[str]().union(*evidence.answered.values())
    return (f"learning: {len(loop.labelled)} samples labelled, {loop.state.round} rounds ("
            f"{', '.join(f'{name} {count}' for name, count in sorted(decisions.items()))}), {len(versions)} versions "
            "have answered")  # fmt: skip


def _has_mosquitto() -> bool:
    try:
        find_mosquitto()
    except HeliographError:
        return False
    return True
