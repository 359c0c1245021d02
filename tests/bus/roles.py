"""Connections of the roles of a real broker, and its log of violations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from heliograph.bus.blob_sources import CloudBlobs, Uploads
from heliograph.bus.blob_store import BlobSource
from heliograph.bus.connect import connect
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.resources import WeightsRef
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.coordinator.blobs.relay import BlobRelay
from heliograph.core.errors import NobodyAnswers, Unreachable
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.edge_agent.upload_sender import UploadSender
from heliograph.local.nats_server import Broker
from tests.bus.meeting import PATIENCE

Start = Callable[..., Awaitable[Broker]]
MARKER = "request/jobs/list"
"""Topic of a last message; its receiver has received everything permitted that the connection published earlier."""


@asynccontextmanager
async def connected(
    server: Broker, user: str = "", scheme: str = "nats", inbox: str = "", root: str = DEFAULT_ROOT
) -> AsyncIterator[Bus]:
    async with connect(server.url(user, scheme), root=root, inbox=inbox) as bus:
        await bus.link.wait_up(PATIENCE)
        yield bus


@asynccontextmanager
async def coordinator(server: Broker, root: str = DEFAULT_ROOT) -> AsyncIterator[NatsBus]:
    async with connected(server, "coordinator", root=root) as bus:
        assert isinstance(bus, NatsBus)
        await bus.prepare()
        yield bus


def agent(server: Broker, edge: str, root: str = DEFAULT_ROOT) -> AbstractAsyncContextManager[Bus]:
    return connected(server, f"agent-{edge}", inbox=inbox_of(edge), root=root)


@asynccontextmanager
async def answering(
    cloud: Bus, edge: Bus, held: Mapping[str, Path], name: str = "edge-1", given: Collection[str] | None = None
) -> AsyncIterator[tuple[CloudBlobs, BlobSource]]:
    """Answer asks for blobs on both sides; yield where the edge fetches from, and where the cloud does.

    Args:
        held: files on the edge by their digest.
        given: digests that the edge may have of the cloud; without it all.
    """
    world = World()
    failures = Failures(lambda line: None)
    in_cloud, on_edge = Port(cloud, world, "cloud/coordinator/1"), Port(edge, world, f"{name}/agent/1")
    relay = BlobRelay(in_cloud, lambda edge, digest: given is None or (edge, digest in given) == (name, True), failures)
    sender = UploadSender(on_edge, name, held.get, failures)
    running = [asyncio.create_task(part()) for part in (relay.run, sender.run)]
    sources: tuple[CloudBlobs, BlobSource] = CloudBlobs(on_edge, name), Uploads(in_cloud).of(name)
    try:
        for each in sources:
            await _until_answered(each)
        yield sources
    finally:
        await cancel_and_wait(*running)


async def _until_answered(source: BlobSource) -> None:
    with TemporaryDirectory() as directory:
        while True:
            try:
                await source.fetch(WeightsRef(digest="0" * 64, size=1), Path(directory) / "nothing")
            except NobodyAnswers:
                continue
            except Unreachable:
                return


async def try_to_publish(bus: Bus, topic: str, body: bytes = b"forged", retain: bool = False) -> None:
    """Publish without waiting for an acknowledgement: a broker does not answer a forbidden message."""
    if isinstance(bus, NatsBus):
        await bus.connection.client.publish(bus.subjects.subject(topic), body)
    else:
        await bus.publish(topic, body, retain=retain)


def violations(server: Broker, *words: str) -> list[str]:
    """Return the lines of the broker's log that report a violation and contain all of ``words``."""
    lines = (server.directory / "nats.log").read_text().splitlines()
    return [line for line in lines if "Violation" in line and all(word in line for word in words)]
