"""What WebSocket costs where it is the only way: the same work by it and by plain NATS, in turns, without TLS."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from benchmarks.declaration import Samples
from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.transport import Outgoing
from heliograph.local.nats_server import Broker, User

TURNS, BATCHES, BATCH, BODY, BLOB = 3, 10, 1000, bytes(1000), 100_000_000
TOPIC = topics.TELEMETRY.at(edge="edge-1", device="meter")


def cost() -> Samples:
    """Return ``events`` and ``blob``, the time by WebSocket over that by NATS, and the rates ``events/s`` and
    ``blob MB/s`` by WebSocket."""
    return asyncio.run(_cost())


async def _cost() -> Samples:
    found: dict[str, list[float]] = {"events": [], "blob": [], "events/s": [], "blob MB/s": []}
    with tempfile.TemporaryDirectory(prefix="heliograph-one-port-") as directory:
        source = Path(directory) / "source"
        users = (User("coordinator", "c", "coordinator"),)
        broker = Broker(Path(directory) / "broker", "node", users, websocket=True)
        await broker.start()
        try:
            plain = broker.url("coordinator")
            framed = plain.replace(f"nats://127.0.0.1:{broker.port}", broker.websocket_url)
            for turn in range(TURNS):
                laps = {}
                for url in (plain, framed)[:: -1 if turn % 2 else 1]:
                    laps[url] = await _work(url, source)
                for place, name in enumerate(("events", "blob")):
                    found[name].append(laps[framed][place] / laps[plain][place])
                found["events/s"].append(BATCHES * BATCH / laps[framed][0])
                found["blob MB/s"].append(2 * BLOB / 1e6 / laps[framed][1])
        finally:
            await broker.stop()
    return found


async def _work(url: str, source: Path) -> tuple[float, float]:
    """Return the seconds for the events, and for a blob there and back."""
    content = os.urandom(1000) * (BLOB // 1000)
    source.write_bytes(content)
    target = source.with_name("target")
    target.unlink(missing_ok=True)
    ref = WeightsRef(digest=sha256(content).hexdigest(), size=BLOB)
    async with connect(url) as bus:
        await bus.link.wait_up(30)
        await bus.prepare()
        began = time.perf_counter()
        for _ in range(BATCHES):
            await bus.publish_all([Outgoing(TOPIC, BODY, {})] * BATCH)
        events = time.perf_counter() - began
        store = await bus.blobs("models")
        began = time.perf_counter()
        stored = await store.put(source, ref)
        await store.fetch(stored, target)
        return events, time.perf_counter() - began
