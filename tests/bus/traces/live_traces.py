"""What the tests of recording from real brokers, and of replaying to them, share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from heliograph.bus.connect import connect
from heliograph.bus.contract.event import Event, encode
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.recording import Outcome, Recorder
from heliograph.bus.traces.writing import TraceWriter
from heliograph.bus.transport import Bus
from heliograph.core.world import World
from tests.patience import HANGS

METER = "event/telemetry/edge-1/meter"
SECOND = 1_000_000_000
TIME = "2026-11-21T20:00:00.250000Z"


def event(number: int, source: str = "edge-1/meter/life", address: str = METER, **data: Any) -> bytes:
    return encode(Event(f"id-{number}", source, "heliograph.telemetry.v1", {"n": number, **data}, TIME, address))


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Bus]:
    async with connect(url, **options) as bus:
        await bus.link.wait_up(HANGS)
        yield bus


@asynccontextmanager
async def recorded(bus: Bus, path: Path, *patterns: str, most: int = 0) -> AsyncIterator[Outcome]:
    """Record while the block runs; the outcome is complete after it."""
    with TraceWriter(path) as writer:
        recorder = Recorder(bus, writer, World(), patterns or ("#",), most)
        running = asyncio.create_task(recorder.run())
        ready = asyncio.create_task(recorder.ready.wait())
        await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            ready.cancel()
            running.result()
        yield recorder.outcome
        if not most:
            recorder.stop()
        async with asyncio.timeout(HANGS):
            await running


def read(path: Path) -> list[Recorded]:
    with TraceReader(path) as reader:
        found = list(reader)
        assert reader.problems == []
    return found
