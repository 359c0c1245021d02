"""An edge node's disk and link: events into the journal, from a worker through the node's broker, and from the journal
into the cloud, with the synced settings that ship. Blobs likewise.

    python -m heliograph.simulations.benchmarks.node append|worker|replay|blobs
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from heliograph.bus import topics
from heliograph.bus.broker import Broker, User
from heliograph.bus.connect import connect
from heliograph.bus.event import encode
from heliograph.bus.keep import Background, end
from heliograph.bus.payloads import HardSample, Task
from heliograph.bus.permissions import inbox_of
from heliograph.bus.port import Port
from heliograph.bus.resources.base import WeightsRef
from heliograph.bus.world import World
from heliograph.edge_agent.forwarder import Forwarder
from heliograph.edge_agent.gateway import Gateway
from heliograph.edge_agent.journal import Entry, Journal
from heliograph.edge_agent.supervisor import Limits, Supervisor, Worker
from heliograph.workers.outbox import Outbox

EDGE = "edge-1"
EVENTS = 200_000
MILLION = 1_000_000
BLOB = 100_000_000
TELEMETRY = topics.TELEMETRY.at(edge=EDGE, device="meter")


async def append() -> dict[str, float]:
    """Small events a second into the journal, and the memory of the process while a million of them wait."""
    with tempfile.TemporaryDirectory(prefix="heliograph-journal-") as directory:
        journal = Journal(Path(directory) / "journal.db", EDGE, World())
        await _fill(journal, 10_000)
        before = _resident_mb()
        began = time.perf_counter()
        await _fill(journal, MILLION)
        seconds = time.perf_counter() - began
        found = {"events/s": MILLION / seconds, "MB more": _resident_mb() - before}
        journal.close()
        return found


async def worker(events: int = 20_000) -> dict[str, float]:
    """Signed events a second from one worker through the node's broker, each known to be on the node's disk."""
    world, secret = World(), bytes(32)
    with tempfile.TemporaryDirectory(prefix="heliograph-node-") as directory:
        users = (User("agent", "a", "agent"), User("worker", "w", "worker"))
        broker = Broker(Path(directory) / "broker", "node", users)
        await broker.start()
        agent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __spec__.name, "agent", directory, broker.url("agent", "mqtt")),
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
    return {"events/s": events / seconds}


async def replay() -> dict[str, float]:
    """Events a second from the journal into the cloud's stream, all of them there, and the memory it takes."""
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
            stored = await counter.last_sequence("TELEMETRY")
            await end(running)
        assert stored == EVENTS, f"{stored} of {EVENTS} events are in the stream"
        found = {"events/s": EVENTS / seconds, "MB more": _resident_mb() - before}
        journal.close()
        return found


async def blobs() -> dict[str, float]:
    """MB a second of one blob to the cloud and back."""
    async with _cloud() as (directory, broker, world):
        content = os.urandom(1 << 20) * (BLOB >> 20)
        source = directory / "blob"
        source.write_bytes(content)
        ref = WeightsRef(digest=sha256(content).hexdigest(), size=len(content))
        async with connect(broker.url("coordinator"), world=world, name="blobs") as bus:
            await bus.link.wait_up(10)
            store = await bus.blobs("models")
            began = time.perf_counter()
            stored = await store.put(source, ref)
            between = time.perf_counter()
            await store.fetch(stored, directory / "back")
            ended = time.perf_counter()
    size = len(content) / 1e6
    return {"put MB/s": size / (between - began), "fetch MB/s": size / (ended - between)}


async def agent(directory: str, url: str) -> dict[str, float]:
    """The other side of ``worker``: an agent's gateway and journal, in a process of their own."""
    world, background = World(), Background(print)
    journal = Journal(Path(directory) / "journal.db", EDGE, world)
    supervisor = Supervisor(world, Path(directory), {}, Limits(), lambda: None, lambda name, level, line: None)
    task = Task(worker="w", role="train", job="job", job_uid="uid", round=1)
    supervisor.workers["w"] = Worker(task, bytes(32))
    async with connect(url, world=world, name="agent") as bus:
        gateway = Gateway(Port(bus, world, f"{EDGE}/agent/life"), EDGE, journal, supervisor, background,
                          lambda topic, error: print(error, file=sys.stderr))  # fmt: skip
        running = asyncio.create_task(gateway.run())
        await gateway.listening.wait()
        print("listening", flush=True)
        await running
    return {}


def measure(name: str) -> dict[str, float]:
    """One of the figures above, measured in a fresh process."""
    ran = subprocess.run([sys.executable, "-m", __name__, name], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


async def _fill(journal: Journal, events: int) -> None:
    body = encode(
        Port(connect("memory://bench"), World(), f"{EDGE}/meter/life").event(
            topics.TELEMETRY, topics.TELEMETRY.validate({"celsius": 21.5}, TELEMETRY), TELEMETRY
        )
    )
    kept = None
    for _ in range(events):
        kept = journal.append(Entry(TELEMETRY, body, topics.BULK))
        await journal.room()
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
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def _main() -> None:
    parts: dict[str, Callable[..., Coroutine[Any, Any, dict[str, float]]]] = {
        "append": append, "worker": worker, "replay": replay, "blobs": blobs, "agent": agent,
    }  # fmt: skip
    import uvloop  # as agents run

    print(json.dumps(uvloop.run(parts[sys.argv[1]](*sys.argv[2:]))))


if __name__ == "__main__":
    _main()
