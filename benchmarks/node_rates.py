"""An edge node's disk and link, with the shipped settings for syncing.

Events go into the journal, from a worker through the node's broker, and from the journal into the cloud. Blobs go to
the cloud and back.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.declaration import Samples
from benchmarks.processes import resident_alone
from heliograph.bus.blob_sources import CloudBlobs, Uploads
from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.event import encode
from heliograph.bus.contract.payloads import HardSample
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.port import Port
from heliograph.coordinator.blobs.relay import BlobRelay
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.edge_agent.forwarder import Forwarder
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.upload_sender import UploadSender
from heliograph.local.nats_server import Broker, User
from heliograph.workers.outbox import Outbox

EDGE = "edge-1"
EVENTS = 200_000
MILLION = 1_000_000
BLOB = 100_000_000
TELEMETRY = topics.TELEMETRY.at(edge=EDGE, device="meter")


def append() -> Samples:
    """Return ``rate``, small events per second into the journal, and ``more``, the process's growth in MB while a
    million events are queued."""
    return uvloop.run(_append())  # uvloop is the agents' loop


def worker(events: int = 20_000) -> Samples:
    """Return ``rate``, signed events per second from one worker through the node's broker, each acknowledged from
    disk."""
    return uvloop.run(_worker(events))


def replay() -> Samples:
    """Return ``rate``, events per second from the journal into the cloud's stream, and ``more``, the growth in MB."""
    return uvloop.run(_replay())


def blobs() -> Samples:
    """Return MB per second of 100 MB: ``put`` into their bucket and ``fetch`` from it in the cloud, ``to-edge`` from
    the bucket to an edge, ``from-edge`` from the disk of an edge to the cloud."""
    return uvloop.run(_blobs())


async def _append() -> Samples:
    with tempfile.TemporaryDirectory(prefix="heliograph-journal-") as directory:
        journal = Journal(Path(directory) / "journal.db", EDGE, World())
        await _fill(journal, 10_000)
        before = _resident_mb()
        began = time.perf_counter()
        await _fill(journal, MILLION)
        seconds = time.perf_counter() - began
        found = {"rate": [MILLION / seconds], "more": [_resident_mb() - before]}
        journal.close()
        return found


async def _worker(events: int) -> Samples:
    world, secret = World(), bytes(32)
    with tempfile.TemporaryDirectory(prefix="heliograph-node-") as directory:
        users = (User("agent", "a", "agent"), User("worker", "w", "worker"))
        broker = Broker(Path(directory) / "broker", "node", users)
        await broker.start()
        agent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"{__package__}.node_agent", directory, broker.url("agent", "mqtt")),
            stdout=asyncio.subprocess.PIPE,
        )
        assert agent.stdout is not None
        try:
            await agent.stdout.readline()
            async with connect(broker.url("worker", "mqtt"), world=world, name="w") as bus:
                await bus.link.wait_up(10)
                outbox = Outbox(Port(bus, world, f"{EDGE}/w/life"), "w", "life", secret)
                await outbox.open()
                sample = HardSample(job="job", edge=EDGE, sample="sample", scores=[0.25] * 4)
                await outbox.send(topics.HARD_SAMPLE, sample, job="job", edge=EDGE)
                await outbox.flush()
                began = time.perf_counter()
                for _ in range(events):
                    await outbox.send(topics.HARD_SAMPLE, sample, job="job", edge=EDGE)
                await outbox.flush()
                seconds = time.perf_counter() - began
                await outbox.close()
        finally:
            agent.kill()
            await agent.wait()
            await broker.kill()
    return {"rate": [events / seconds]}


async def _replay() -> Samples:
    async with _cloud() as (directory, broker, world):
        journal = Journal(directory / "journal.db", EDGE, world)
        await _fill(journal, EVENTS)
        before = _resident_mb()
        async with (
            connect(broker.url("coordinator"), world=world, name="counter") as counter,
            connect(broker.url(f"agent-{EDGE}"), world=world, name="agent", inbox=inbox_of(EDGE)) as bus,
        ):
            await counter.link.wait_up(10)
            await counter.prepare()
            forwarder = Forwarder(
                journal, bus, EDGE, world, lambda kept: False, _nothing, lambda kept, error: None, print
            )
            began = time.perf_counter()
            running = asyncio.create_task(forwarder.run())
            stored = 0
            async with counter.consume(topics.TELEMETRY.filter(), window=1) as messages:
                await anext(messages)
            while journal.waiting:
                await world.sleep(0.005)
            seconds = time.perf_counter() - began
            stored = await counter.last_sequence(topics.TELEMETRY.stream_name)
            await cancel_and_wait(running)
        assert stored == EVENTS, f"{stored} of {EVENTS} events are in the stream"
        found = {"rate": [EVENTS / seconds], "more": [_resident_mb() - before]}
        journal.close()
        return found


async def _blobs() -> Samples:
    async with _cloud() as (directory, broker, world):
        content = os.urandom(1 << 20) * (BLOB >> 20)
        source = directory / "blob"
        source.write_bytes(content)
        ref = WeightsRef(digest=sha256(content).hexdigest(), size=len(content))
        async with (
            connect(broker.url("coordinator"), world=world, name="blobs") as bus,
            connect(broker.url(f"agent-{EDGE}"), world=world, name="agent", inbox=inbox_of(EDGE)) as edge,
        ):
            await bus.link.wait_up(10)
            await edge.link.wait_up(10)
            in_cloud, on_edge = Port(bus, world, "cloud/bench/1"), Port(edge, world, f"{EDGE}/bench/1")
            failures = Failures(print)
            answering = [
                asyncio.create_task(BlobRelay(in_cloud, lambda edge, digest: True, failures).run()),
                asyncio.create_task(UploadSender(on_edge, EDGE, lambda digest: source, failures).run()),
            ]
            store = await bus.blobs(MODELS)
            times = [time.perf_counter()]
            stored = await store.put(source, ref)
            times.append(time.perf_counter())
            await store.fetch(stored, directory / "back")
            times.append(time.perf_counter())
            await CloudBlobs(on_edge, EDGE).fetch(stored, directory / "to-edge")
            times.append(time.perf_counter())
            await Uploads(in_cloud).on_edge(EDGE).fetch(ref, directory / "from-edge")
            times.append(time.perf_counter())
            await cancel_and_wait(*answering)
    size = len(content) / 1e6
    rates = [[size / (after - before)] for before, after in pairwise(times)]
    return dict(zip(("put", "fetch", "to-edge", "from-edge"), rates, strict=True))


async def _fill(journal: Journal, events: int) -> None:
    body = encode(
        Port(connect("memory://bench"), World(), f"{EDGE}/meter/life").event(
            topics.TELEMETRY, topics.TELEMETRY.validate({"celsius": 21.5}, TELEMETRY), TELEMETRY
        )
    )
    kept = None
    for _ in range(events):
        kept = journal.append(NewEvent(TELEMETRY, body, topics.BULK))
        await journal.wait_for_room()
    if kept is not None:
        await kept


@asynccontextmanager
async def _cloud() -> AsyncIterator[tuple[Path, Broker, World]]:
    with tempfile.TemporaryDirectory(prefix="heliograph-cloud-") as directory:
        users = (User("coordinator", "c", "coordinator"), User(f"agent-{EDGE}", "e", "agent", EDGE))
        broker = Broker(Path(directory) / "broker", "cloud", users)
        await broker.start()
        try:
            yield Path(directory), broker, World()
        finally:
            await broker.kill()


async def _nothing(_: Any) -> None:
    return None


def _resident_mb() -> float:
    return resident_alone(os.getpid()) / 2**20
