"""Thin links: a journal that is replayed, and a blob each way, over a relay that is slow and far.

    python -m benchmarks.thin_links        # the table of docs/links.md
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.declaration import Samples
from heliograph.bus.blob_sources import CloudBlobs, Uploads
from heliograph.bus.blob_store import BlobSource
from heliograph.bus.connect import connect
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import BULK, TELEMETRY
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.coordinator.blobs.relay import BlobRelay
from heliograph.core.errors import Unreachable
from heliograph.core.failures import Failures
from heliograph.core.tasks import RETRY_SECONDS, cancel_and_wait
from heliograph.core.world import World
from heliograph.edge_agent.forwarder import Forwarder
from heliograph.edge_agent.journal import Journal, KeptEvent
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.upload_sender import UploadSender
from heliograph.local.nats_server import PATIENCE, Broker, User
from heliograph.local.relay import Relay

EDGE = "edge-1"
ADDRESS = TELEMETRY.at(edge=EDGE, device="meter")
EVENT = 200
"""Bytes of an event's body."""
BUFFER = 4096
"""Bytes that the relay's sockets take in ahead of the link."""
_KBIT = 125.0
SLOWEST, MOST_BYTES = 4, 1.3
"""Targets: the time, and the bytes, over those that would be enough."""


@dataclass(frozen=True)
class ThinLink:
    """A link, and what is carried over it.

    Attributes:
        up, down: kbit/s.
        round_trip: seconds.
        events: number of events that wait; 0 for a blob.
        upload, download: bytes of a blob.
    """

    name: str
    up: float
    down: float
    round_trip: float
    events: int = 0
    upload: int = 0
    download: int = 0

    @property
    def patience(self) -> float:
        """What the broker is told to bear."""
        return max(PATIENCE, 1.5 * self.round_trip + 1)


LINKS = (
    ThinLink("20 kbit/s, 6 s", 20, 20, 6.0, events=150),
    ThinLink("20 kbit/s, 0.6 s", 20, 20, 0.6, events=150),
    ThinLink("100 kbit/s, 0.6 s", 100, 100, 0.6, events=600),
    ThinLink("1 Mbit/s, 0.05 s", 1000, 1000, 0.05, events=5000),
    ThinLink("1 Mbit/s, 0.6 s", 1000, 1000, 0.6, events=5000),
    ThinLink("64 kbit/s up, 1 Mbit/s down", 64, 1000, 0.6, events=400),
    ThinLink("upload, 100 kbit/s, 0.6 s", 100, 100, 0.6, upload=250_000),
    ThinLink("upload, 1 Mbit/s, 0.05 s", 1000, 1000, 0.05, upload=2_000_000),
    ThinLink("upload, 20 kbit/s, 6 s", 20, 20, 6.0, upload=60_000),
    ThinLink("download, 1 Mbit/s, 0.05 s", 1000, 1000, 0.05, download=2_000_000),
    ThinLink("download, 256 kbit/s, 0.6 s", 64, 256, 0.6, download=700_000),
)


@dataclass(frozen=True)
class Carried:
    """How it went: seconds, bytes on the link in the direction that matters, and connections that ended."""

    seconds: float
    sent: int
    ended: int
    lost: int
    doubled: int


async def carried(link: ThinLink, shaped: bool = True) -> Carried:
    """Carry over a link what it is to carry; not ``shaped`` for how many bytes that needs."""
    with tempfile.TemporaryDirectory(prefix="heliograph-thin-") as name:
        directory, world = Path(name), World()
        users = (User("coordinator", "", "coordinator"), User(f"agent-{EDGE}", "", "agent", EDGE))
        server = Broker(directory / "broker", "cloud", users, patience=link.patience)
        await server.start()
        relay = Relay(server.host, server.port, world, buffer=BUFFER if shaped else 0)
        await relay.start()
        if shaped:
            relay.latency = link.round_trip / 2
            relay.bandwidth, relay.bandwidth_down = link.up * _KBIT, link.down * _KBIT
        url = server.url(f"agent-{EDGE}").replace(str(server.port), str(relay.port))
        try:
            async with connect(server.url("coordinator"), name="coordinator") as cloud:
                assert isinstance(cloud, NatsBus)
                await cloud.link.wait_up()
                await cloud.prepare()
                async with connect(url, name=f"agent-{EDGE}", inbox=inbox_of(EDGE), world=world) as edge:
                    carry = _replayed if link.events else _fetched
                    return await carry(link, cloud, edge, relay, directory)
        finally:
            await relay.stop()
            await server.kill()


async def _replayed(link: ThinLink, cloud: NatsBus, edge: Bus, relay: Relay, directory: Path) -> Carried:
    world = World()
    journal = Journal(directory / "journal.db", EDGE, world, warn=print)
    for number in range(1, link.events + 1):
        kept = journal.append(NewEvent(ADDRESS, b"%d".ljust(EVENT) % number, BULK))
    await kept

    async def nothing(kept: KeptEvent) -> None:
        return None

    ends = _Ends(edge)
    began, before = world.monotonic(), relay.bytes_up
    forwarder = Forwarder(
        journal, edge, EDGE, world, lambda kept: False, nothing, lambda kept, error: None, lambda line: None
    )
    running = asyncio.create_task(forwarder.run())
    found: list[int] = []
    try:
        async with cloud.consume(ADDRESS) as messages:
            while len(set(found)) < link.events:
                found.append(int((await anext(messages)).body))
        seconds, sent = world.monotonic() - began, relay.bytes_up - before
        stored = await cloud.last_sequence("TELEMETRY")
    finally:
        await cancel_and_wait(running)
        journal.close()
    return Carried(seconds, sent, ends.count, link.events - len(set(found)), stored - len(set(found)))


async def _fetched(link: ThinLink, cloud: NatsBus, edge: Bus, relay: Relay, directory: Path) -> Carried:
    world, failures = World(), Failures(lambda line: None)
    source, target = directory / "source", directory / "target"
    content = random.Random(1).randbytes(link.upload or link.download)
    source.write_bytes(content)
    ref = WeightsRef(digest=hashlib.sha256(content).hexdigest(), size=len(content))
    await (await cloud.blobs("models")).put(source, ref)
    in_cloud, on_edge = Port(cloud, world, "cloud/coordinator/1"), Port(edge, world, f"{EDGE}/agent/1")
    parts = (BlobRelay(in_cloud, lambda edge, digest: True, failures).run,
             UploadSender(on_edge, EDGE, lambda digest: source, failures).run)  # fmt: skip
    running = [asyncio.create_task(part()) for part in parts]
    ends = _Ends(edge)
    fetching: BlobSource = Uploads(in_cloud).on_edge(EDGE) if link.upload else CloudBlobs(on_edge, EDGE)
    await edge.link.wait_up()
    began = world.monotonic()
    before = relay.bytes_up if link.upload else relay.bytes_down
    try:
        while True:
            try:
                await fetching.fetch(ref, target)
                break
            except Unreachable:
                await world.sleep(RETRY_SECONDS)
    finally:
        await cancel_and_wait(*running)
    sent = (relay.bytes_up if link.upload else relay.bytes_down) - before
    return Carried(world.monotonic() - began, sent, ends.count, int(target.read_bytes() != content), 0)


class _Ends:
    """Counts the connections that end."""

    def __init__(self, bus: Bus) -> None:
        self.count = 0
        bus.link.listen(self._changed)

    def _changed(self, up: bool) -> None:
        self.count += not up


@dataclass(frozen=True)
class Row:
    """A link's figures.

    Attributes:
        ideal: seconds that the needed bytes take at the link's rate, and one round trip.
        needed: bytes that the same takes on a link without bounds.
    """

    link: ThinLink
    carried: Carried
    ideal: float
    needed: int

    @property
    def slowness(self) -> float:
        return self.carried.seconds / self.ideal

    @property
    def excess(self) -> float:
        return self.carried.sent / self.needed


async def rows(links: tuple[ThinLink, ...] = LINKS) -> AsyncIterator[Row]:
    """Yield the figures of one link after the other."""
    for link in links:
        needed = (await carried(link, shaped=False)).sent
        rate = (link.down if link.download else link.up) * _KBIT
        yield Row(link, await carried(link), needed / rate + link.round_trip, needed)


def measured() -> Samples:
    """Measure the links.

    Returns:
        by the link's name: ``NAME time``, its seconds over those that the needed bytes take at its rate, and ``NAME
        bytes``, those sent over those needed. ``lost`` and ``doubled`` events of all, connections that ``ended``.
    """
    return asyncio.run(_measured())


async def _measured() -> Samples:
    found: dict[str, list[float]] = {"lost": [0.0], "doubled": [0.0], "ended": [0.0]}
    async for row in rows():
        found[f"{row.link.name} time"] = [row.slowness]
        found[f"{row.link.name} bytes"] = [row.excess]
        for key in ("lost", "doubled", "ended"):
            found[key][0] += getattr(row.carried, key)
    return found


async def _table() -> None:
    print("| link | carried | seconds | × ideal | bytes sent over needed | connections that ended |")
    print("|---|---|---|---|---|---|")
    async for row in rows():
        link, what = row.link, f"{row.link.events:,} events of {EVENT} bytes"
        if not link.events:
            what = f"a blob of {(link.upload or link.download) / 1000:,.0f} kB"
        print(f"| {link.name} | {what} | {row.carried.seconds:.1f} | {row.slowness:.2f} | {row.excess:.2f} | "
              f"{row.carried.ended} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    asyncio.run(_table())
