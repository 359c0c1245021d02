"""Messages per second of recording a broker's topics and of replaying a trace, with the shipped settings.

    python -m benchmarks traces
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

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import Event, encode
from heliograph.bus.contract.lanes import LANE, NUMBER, headers_of
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.recording import Recorder
from heliograph.bus.traces.replaying import Replayer
from heliograph.bus.traces.schedule import Span
from heliograph.bus.traces.writing import TraceWriter
from heliograph.bus.transport import Outgoing
from heliograph.core.world import World, rfc3339
from heliograph.local.nats_server import Broker, User

EVENTS = 200_000
BATCH = 1000
PACE = 25_000
"""Messages per second of the publisher; a recorder must keep up with 20,000."""
ADDRESSES = tuple(topics.TELEMETRY.at(edge=f"edge-{edge}", device="meter") for edge in range(20))


async def record() -> dict[str, float]:
    """Record a stream's events while another process publishes them, until all are in the trace."""
    return await _recorded("stored")


async def stored() -> dict[str, float]:
    """Record events that are already in the stream, as fast as the recorder reads them."""
    async with _cloud() as (directory, broker, world):
        async with connect(broker.url("operator"), world=world, name="recorder") as bus:
            await bus.link.wait_up(10)
            async with connect(broker.url("coordinator"), world=world, name="maker") as maker:
                await maker.link.wait_up(10)
                await maker.prepare()
            await publish("stored", broker.url("coordinator"))
            with TraceWriter(directory / "a.mcap") as writer:
                began = time.perf_counter()
                outcome = await Recorder(bus, writer, world, most=EVENTS, past=True).run()
                seconds = time.perf_counter() - began
    return {"messages/s": outcome.messages / seconds}


async def passing() -> dict[str, float]:
    """Record messages that no stream stores while another process publishes them; count the lost ones."""
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
    """Write messages to a trace file and read them back, without a broker."""
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
    """Replay a trace into the cloud's stream at full speed, until everything is stored and synced."""
    async with _cloud() as (directory, broker, world):
        _write(directory / "a.mcap")
        async with connect(broker.url("coordinator"), world=world, name="replayer") as bus:
            await bus.link.wait_up(10)
            await bus.prepare()
            with TraceReader(directory / "a.mcap") as reader:
                outcome = await Replayer(bus, world, speed=0).run(reader, Span(0, reader.info.end))
            stored = await bus.last_sequence(topics.TELEMETRY.stream_name)
    assert stored == outcome.published == EVENTS, f"{stored} of {EVENTS} are in the stream"
    return {"messages/s": EVENTS / outcome.seconds}


async def publish(kind: str, url: str) -> dict[str, float]:
    """Publish the events of ``record`` and ``passing``, in a process of its own.

    It speaks the broker's protocol itself, because the client library would take CPU time from the recorder. Events go
    in atomic batches, like an agent's.
    """
    world, parts = World(), ConnectionUrl.parse(url)
    address = topics.LOG.at("bench", edge="bench", component="meter") if kind == "passing" else ""
    reader, writer = await asyncio.open_connection(parts.host, parts.port)
    nonce = json.loads((await reader.readline()).removeprefix(b"INFO ")).get("nonce", "")
    login = {**parts.credentials.of_nats(nonce), "headers": True, "verbose": False}
    writer.write(f"CONNECT {json.dumps(login)}\r\nSUB _INBOX.bench 1\r\n".encode())
    began = time.perf_counter()
    for start in range(0, EVENTS, BATCH):
        numbers, now = range(start, start + BATCH), world.now()
        frames = [_frame(_outgoing(n, now), address, n % BATCH, n // BATCH) for n in numbers]
        writer.write(b"".join(frames))
        writer.write(b"PING\r\n")
        wanted = b"PONG" if address else b"MSG"
        while not (line := await reader.readline()).startswith(wanted):  # all received or stored
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
            assert line
        if (early := began + (start + BATCH) / PACE - time.perf_counter()) > 0:
            await asyncio.sleep(early)
    seconds = time.perf_counter() - began
    writer.close()
    return {"published/s": EVENTS / seconds}


def _frame(event: Outgoing, address: str, place: int, batch: int) -> bytes:
    subject = f"{topics.DEFAULT_ROOT}/{address or event.topic}".replace("/", ".")
    headers = {LANE: event.headers[LANE], NUMBER: event.headers[NUMBER]}
    reply = ""
    if not address:
        headers |= {"Nats-Batch-Id": f"batch-{batch}", "Nats-Batch-Sequence": str(place + 1)}
        if place == BATCH - 1:
            headers["Nats-Batch-Commit"] = "1"
            reply = "_INBOX.bench "
    head = "".join(["NATS/1.0\r\n", *(f"{name}: {value}\r\n" for name, value in headers.items()), "\r\n"]).encode()
    size = len(head) + len(event.body)
    return f"HPUB {subject} {reply}{len(head)} {size}\r\n".encode() + head + event.body + b"\r\n"


def measured(name: str) -> dict[str, list[float]]:
    """Measure one of the figures above in a fresh process, with uvloop like the shipped components."""
    ran = subprocess.run([sys.executable, "-m", __name__, name], check=True, capture_output=True, text=True)
    return {key: [value] for key, value in json.loads(ran.stdout.splitlines()[-1]).items()}


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
        "record": record, "stored": stored, "passing": passing, "read": read, "replay": replay,
        "publish-stored": lambda url: publish("stored", url), "publish-passing": lambda url: publish("passing", url),
    }  # fmt: skip
    import uvloop  # the loop of the shipped components

    print(json.dumps(uvloop.run(parts[sys.argv[1]](*sys.argv[2:]))))


if __name__ == "__main__":
    _main()
