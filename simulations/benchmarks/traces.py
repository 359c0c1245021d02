"""Recording a broker's topics, and replaying a trace: messages a second, with the settings that ship.

    python -m heliograph.simulations.benchmarks.traces record|passing|read|replay
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from heliograph.bus import topics
from heliograph.bus.broker import Broker, User
from heliograph.bus.connect import connect
from heliograph.bus.event import Event, encode
from heliograph.bus.lanes import headers_of
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.recording import Recorder
from heliograph.bus.traces.replaying import Replayer
from heliograph.bus.traces.schedule import Span
from heliograph.bus.traces.writing import TraceWriter
from heliograph.bus.transport import Outgoing
from heliograph.bus.world import World, rfc3339

EVENTS = 200_000
BATCH = 500
PASSING_WINDOW = 2000
ADDRESSES = tuple(topics.TELEMETRY.at(edge=f"edge-{edge}", device="meter") for edge in range(20))


async def record() -> dict[str, float]:
    """Events that a stream keeps, published by another process as fast as the broker stores them while they are
    recorded: until all of them are in the trace."""
    return await _recorded("stored")


async def passing() -> dict[str, float]:
    """Messages that no stream keeps, likewise; the publisher waits for the broker's word at each thousand."""
    return await _recorded("passing")


async def _recorded(kind: str) -> dict[str, float]:
    async with _cloud() as (directory, broker, world):
        async with connect(broker.url("coordinator"), world=world, name="maker") as maker:
            await maker.link.wait_up(10)
            await maker.prepare()
        async with connect(broker.url("operator"), world=world, name="recorder") as bus:
            await bus.link.wait_up(10)
            with TraceWriter(directory / "a.mcap") as writer:
                recorder = Recorder(bus, writer, world, most=EVENTS)
                running = asyncio.create_task(recorder.run())
                await recorder.ready.wait()
                publisher = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", __spec__.name, f"publish-{kind}", broker.url("coordinator")
                )
                began = time.perf_counter()
                published = asyncio.create_task(publisher.wait())
                done, _ = await asyncio.wait([running, published], return_when=asyncio.FIRST_COMPLETED)
                if published in done:
                    recorder.stop()
                outcome = await running
                seconds = time.perf_counter() - began
                await published
        size = (directory / "a.mcap").stat().st_size
    return {"messages/s": outcome.messages / seconds, "dropped": float(EVENTS - outcome.messages),
            "bytes/message": size / max(1, outcome.messages)}  # fmt: skip


async def read() -> dict[str, float]:
    """Messages into a file and out of it again, with no broker."""
    with tempfile.TemporaryDirectory(prefix="heliograph-trace-") as directory:
        path = Path(directory) / "a.mcap"
        began = time.perf_counter()
        _write(path)
        between = time.perf_counter()
        with TraceReader(path) as reader:
            count = sum(1 for _ in reader)
        ended = time.perf_counter()
    assert count == EVENTS
    return {"written/s": EVENTS / (between - began), "read/s": EVENTS / (ended - between)}


async def replay() -> dict[str, float]:
    """A trace into the cloud's stream at full speed, until all of it is stored and synced."""
    async with _cloud() as (directory, broker, world):
        _write(directory / "a.mcap")
        async with connect(broker.url("coordinator"), world=world, name="replayer") as bus:
            await bus.link.wait_up(10)
            await bus.prepare()
            with TraceReader(directory / "a.mcap") as reader:
                told = await Replayer(bus, world, speed=0).run(reader, Span(0, reader.info.end))
            stored = await bus.last_sequence("TELEMETRY")
    assert stored == told.published == EVENTS, f"{stored} of {EVENTS} are in the stream"
    return {"messages/s": EVENTS / told.seconds}


async def publish(kind: str, url: str) -> dict[str, float]:
    """The other side of ``record`` and ``passing``, in a process of its own."""
    world = World()
    address = topics.LOG.at("bench", component="meter") if kind == "passing" else ""
    async with connect(url, world=world, name="publisher") as bus:
        await bus.link.wait_up(10)
        for start in range(0, EVENTS, BATCH):
            events = [_outgoing(number, world.now()) for number in range(start, start + BATCH)]
            if kind == "stored":
                await bus.publish_all(events)
                continue
            for each in events:
                await bus.publish(address, each.body)
            if (start + BATCH) % PASSING_WINDOW == 0:
                await bus.settle()  # type: ignore[attr-defined]
    return {}


def measure(name: str) -> dict[str, float]:
    """One of the figures above, measured in a fresh process."""
    ran = subprocess.run([sys.executable, "-m", __name__, name], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _write(path: Path) -> None:
    with TraceWriter(path) as writer:
        for number in range(EVENTS):
            each = _outgoing(number, 1_790_000_000 + number / 20_000)
            time = int((1_790_000_000 + number / 20_000) * 1e9)
            writer.write(Recorded(each.topic, each.body, time, time, each.headers))


def _outgoing(number: int, now: float) -> Outgoing:
    address = ADDRESSES[number % len(ADDRESSES)]
    edge = address.split("/")[2]
    event = Event(
        f"{number:032x}", f"{edge}/meter/life", topics.TELEMETRY.type,
        {"celsius": 21.5 + number % 7, "volts": [230.1, 229.8, 231.0]}, rfc3339(now), address,
    )  # fmt: skip
    return Outgoing(address, encode(event), headers_of(f"{edge}.journal.1", number + 1))


@asynccontextmanager
async def _cloud() -> AsyncIterator[tuple[Path, Broker, World]]:
    with tempfile.TemporaryDirectory(prefix="heliograph-cloud-") as directory:
        users = (User("coordinator", "c", "coordinator"), User("operator", "o", "operator"))
        broker = Broker(Path(directory) / "broker", "cloud", users)
        await broker.start()
        try:
            yield Path(directory), broker, World()
        finally:
            await broker.kill()


def _main() -> None:
    parts: dict[str, Callable[..., Coroutine[Any, Any, dict[str, float]]]] = {
        "record": record, "passing": passing, "read": read, "replay": replay,
        "publish-stored": lambda url: publish("stored", url), "publish-passing": lambda url: publish("passing", url),
    }  # fmt: skip
    import uvloop  # as the command runs

    print(json.dumps(uvloop.run(parts[sys.argv[1]](*sys.argv[2:]))))


if __name__ == "__main__":
    _main()
