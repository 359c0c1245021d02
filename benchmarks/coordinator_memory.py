"""The memory of a coordinator that many edges are connected to: their presence and their status.

Broker and coordinator are the shipped processes. Each edge is a connection to the broker under the login of its agent,
which reports as an agent does, and answers the broker's pings; nothing else of an agent runs here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.declaration import Samples
from benchmarks.processes import resident_alone
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract.event import Event, encode
from heliograph.bus.contract.payloads import Generation, Offer, Report
from heliograph.bus.contract.resources import DatasetIndex
from heliograph.bus.contract.subjects import Subjects
from heliograph.bus.contract.topics import DEFAULT_ROOT, REPORT
from heliograph.client import AsyncClient
from heliograph.core.names import CLOUD
from heliograph.local.cluster import LocalCluster

DATASETS = 100
"""Data sets that the edges share."""
AT_ONCE = 32
"""Edges that connect at the same time."""
TIMEOUT = 300.0
"""Longest time, in seconds, until the coordinator shows all edges online, from the first connection."""
_PERIOD = 1.0


def edges(number: int = 10_000) -> Samples:
    """Return ``memory``, the megabytes of the coordinator once so many edges are online and have reported, ``first``,
    those before, and ``seconds``, from the first connection until the coordinator shows every edge online.

    Raise TimeoutError where it does not within five minutes.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return asyncio.run(_edges([f"edge-{each:05}" for each in range(number)]))


async def _edges(names: Sequence[str]) -> Samples:
    with tempfile.TemporaryDirectory(prefix="heliograph-edges-") as directory:
        async with LocalCluster(Path(directory), [], guests=names) as cluster, AsyncClient(cluster.server) as client:
            coordinator = cluster.pid("coordinator")
            first = resident_alone(coordinator)
            loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)
            began = loop.time()
            connections: list[_AgentConnection] = []

            async def connect(number: int, name: str) -> None:
                async with gate:
                    url = ConnectionUrl.parse(cluster.agent_url(name))
                    made = _AgentConnection(name, url, _report(name, number), loop.create_future())
                    await loop.create_connection(lambda: made, url.host, url.port)
                    await made.accepted
                    connections.append(made)

            try:
                async with asyncio.timeout(TIMEOUT):
                    async with asyncio.TaskGroup() as group:
                        for number, name in enumerate(names):
                            group.create_task(connect(number, name))
                    while await _online(client) < len(names):
                        await asyncio.sleep(_PERIOD)
                seconds = loop.time() - began
                return {"memory": [resident_alone(coordinator) / 1e6], "first": [first / 1e6], "seconds": [seconds]}
            finally:
                for each in connections:
                    each.close()


async def _online(client: AsyncClient) -> int:
    """Return how many edges the coordinator shows online with what they have reported."""
    found = 0
    async for page in client.edges.pages():
        for each in page.documents:
            status = each["status"]
            found += bool(each["metadata"]["name"] != CLOUD and status.get("online") and status.get("datasets"))
    return found


class _AgentConnection(asyncio.Protocol):
    """A connection of an edge's agent to NATS: it logs in, reports once, and answers pings."""

    def __init__(self, name: str, url: ConnectionUrl, report: bytes, accepted: asyncio.Future[None]) -> None:
        self._login = url.credentials
        self._options = {"name": f"agent-{name}", "verbose": False, "pedantic": False, "headers": True,
                         "lang": "python", "version": "0"}  # fmt: skip
        subject = Subjects(DEFAULT_ROOT).subject(REPORT.at(edge=name)).encode()
        self._report = b"PUB %s %d\r\n%s\r\n" % (subject, len(report), report)
        self._left = b""
        self._transport: asyncio.Transport | None = None
        self.accepted = accepted
        """Set once the broker has taken login and report; RuntimeError where it has refused one of them."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._left = (self._left + data).split(b"\r\n")
        for line in lines:
            if line.startswith(b"INFO") and self._report:
                nonce = json.loads(line.removeprefix(b"INFO ")).get("nonce", "")
                hello = json.dumps({**self._options, **self._login.of_nats(nonce)}).encode()
                self._write(b"CONNECT %s\r\n%sPING\r\n" % (hello, self._report))
                self._report = b""
            elif line == b"PING":
                self._write(b"PONG\r\n")
            elif line == b"PONG" and not self.accepted.done():
                self.accepted.set_result(None)
            elif line.startswith(b"-ERR"):
                self._refuse(line.decode())

    def connection_lost(self, error: Exception | None) -> None:
        self._refuse(f"the broker has closed the connection: {error}")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _refuse(self, why: str) -> None:
        with contextlib.suppress(asyncio.InvalidStateError):
            self.accepted.set_exception(RuntimeError(why))


def _report(edge: str, number: int) -> bytes:
    index = DatasetIndex(name=f"digits-{number % DATASETS}", samples=1000, digest=f"{number:064x}", format="npz",
                         columns={"x": "float32[64]", "y": "int64[]"}, size=1_000_000)  # fmt: skip
    report = Report(edge=edge, observed=Generation(), version="0.2.0", datasets=[index],
                    offers=Offer(frameworks={"numpy": "2.1.0"}), labels={"site": "berlin"})  # fmt: skip
    event = Event(id=f"{number}", source=f"{edge}/agent/1", type=REPORT.type, time="2026-01-01T00:00:00Z",
                  data=report.model_dump(mode="json", exclude_none=True), subject=REPORT.at(edge=edge))  # fmt: skip
    return encode(event, "msgpack")
