"""An agent that indexes large data sets: its peak of resident memory, the time, and its end while it reads."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.declaration import Samples
from benchmarks.processes import resident_alone
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import REPORT
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster

ROWS, COLUMNS = 1_000_000, 20
IMAGES, CLASSES = 20_000, 20
EDGE, NAME = "edge-1", "large"


def rows() -> Samples:
    """Return ``resident``, the peak of the agent's resident memory in MB of 1024 × 1024 bytes, ``seconds`` from the
    document to the index, and ``stop``, the seconds in which an agent that reads ends on SIGTERM."""
    with tempfile.TemporaryDirectory(prefix="heliograph-rows-") as directory:
        path = Path(directory) / "large.csv"
        line = ",".join(f"{number}.125" for number in range(COLUMNS - 1))
        with path.open("w") as file:
            file.write(",".join(f"c{number}" for number in range(COLUMNS)) + "\n")
            for number in range(ROWS):
                file.write(f"{line},{number % 10}\n")
        return asyncio.run(_measured(Path(directory), path, ROWS, stops=True))


def images() -> Samples:
    """Return the same of a directory of images, and ``again``, the seconds until a restarted agent has the index."""
    with tempfile.TemporaryDirectory(prefix="heliograph-images-") as directory:
        path = Path(directory) / "images"
        for each in range(CLASSES):
            (path / f"class-{each}").mkdir(parents=True)
        for number in range(IMAGES):
            (path / f"class-{number % CLASSES}" / f"{number:06}.png").write_bytes(_png(number))
        return asyncio.run(_measured(Path(directory), path, IMAGES, stops=False))


async def _measured(directory: Path, path: Path, samples: int, *, stops: bool) -> Samples:
    found: dict[str, list[float]] = {}
    async with (
        LocalCluster(directory / "cluster", [EDGE], data=(directory,)) as local,
        AsyncClient(local.server) as client,
    ):
        async with _indexes(client) as indexes:
            began = time.perf_counter()
            await client.datasets.create({"kind": "Dataset", "metadata": {"name": NAME}, "spec": {"url": str(path)}})
            if stops:
                await _first(indexes, lambda index: index.get("read"))
                began = time.perf_counter()
                os.kill(local.pid(EDGE), signal.SIGTERM)
                await local.wait_ended(EDGE)
                found["stop"] = [time.perf_counter() - began]
                began = time.perf_counter()
                await local.start_agent(EDGE)
            await _first(indexes, lambda index: index.get("samples") == samples)
            found["seconds"] = [time.perf_counter() - began]
            found["resident"] = [resident_alone(local.pid(EDGE), "VmHWM") / 2**20]
            if not stops:
                await local.kill(EDGE)
                began = time.perf_counter()
                await local.start_agent(EDGE)
                await _first(indexes, lambda index: index.get("samples") == samples)
                found["again"] = [time.perf_counter() - began]
    return found


@asynccontextmanager
async def _indexes(client: AsyncClient) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Give the index in each report of the edge's agent; an empty one while there is none."""
    async with client.bus.subscribe(REPORT.at(edge=EDGE)) as reports:

        async def each() -> AsyncIterator[dict[str, Any]]:
            async for message in reports:
                named = decode(message.body, message.topic).data["datasets"]
                yield next((index for index in named if index["name"] == NAME), {})

        yield each()


async def _first(indexes: AsyncIterator[dict[str, Any]], holds: Callable[[dict[str, Any]], Any]) -> None:
    async with asyncio.timeout(120):
        async for index in indexes:
            if holds(index):
                return


def _png(number: int) -> bytes:
    """Return a grey image of 32 × 32 pixels that is like no other."""
    pixels = zlib.compress(b"".join(b"\0" + struct.pack("<I", number * row) * 8 for row in range(32)))
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
