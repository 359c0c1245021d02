"""What every golden trace needs: a recorder beside the cluster, and the topics that are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from heliograph.bus.connect import connect
from heliograph.bus.contract import registry
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recording import Recorder
from heliograph.bus.traces.writing import TraceWriter
from heliograph.core.names import matches
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster

SETTLED = 2.5
"""Seconds of recording after the last message, so that the last values are valid for a while."""
_EXCLUDED = (
    "edge/+/up/log/#", "inference/#", "edge/+/up/big-model/#", "edge/+/down/big-model-answer/#", "edge/+/claim",
    "ack/#", "event/assignment/#", "event/worker/#",
)  # fmt: skip
"""Topics that no component is fed; they would enlarge the files and name the recording machine."""


@asynccontextmanager
async def recorded(cluster: LocalCluster, path: Path) -> AsyncIterator[None]:
    """Record what travels in the cloud during the body."""
    world = World()
    async with connect(cluster.server, world=world, name="trace") as bus:
        await bus.link.wait_up(10)
        with TraceWriter(path) as writer:
            recorder = Recorder(bus, writer, world)
            running = asyncio.ensure_future(recorder.run())
            try:
                await recorder.ready.wait()
                yield
                await world.sleep(SETTLED)
                recorder.stop()
                await running
            finally:
                await cancel_and_wait(running)


def copy_included(whole: Path, path: Path) -> None:
    """Copy a trace without the excluded topics."""
    with TraceReader(whole) as reader, TraceWriter(path, metadata={"kind": path.stem}, overwrite=True) as writer:
        for each in reader.messages(lambda address: registry.lookup(address)[0] is not None):
            if not any(matches(pattern, each.topic) for pattern in _EXCLUDED):
                writer.write(each)


def write(path: Path, text: str) -> None:
    """Write a script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
