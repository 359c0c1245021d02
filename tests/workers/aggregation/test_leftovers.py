"""Blobs of closed rounds are freed, in the buckets and on the disk, except those still in use."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from heliograph.bus.blob_sources import Uploads
from heliograph.bus.contract.payloads import Aggregation, UncountedUpdate
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.workers.aggregation.leftovers import Leftovers, update_name

Closed = Callable[..., Aggregation]


class _Node:
    """The aggregation worker's directories, and the object store."""

    def __init__(self, bus: Bus, directory: Path) -> None:
        self.bus = bus
        self.updates, self.models = directory / "updates", directory / "models"
        self.updates.mkdir()
        self.models.mkdir()

    async def _stored(self, name: str, bucket: str, file: Path) -> WeightsRef:
        content = name.encode()
        file.write_bytes(content)
        ref = WeightsRef(digest=hashlib.sha256(content).hexdigest(), size=len(content))
        return await (await self.bus.blobs(bucket)).put(file, ref)

    async def model(self, name: str) -> WeightsRef:
        ref = await self._stored(name, "models", self.models / "new")
        (self.models / "new").replace(self.models / ref.digest)
        return ref

    async def update(self, edge: str, name: str) -> str:
        ref = await self._stored(name, upload_bucket(edge), self.updates / "new")
        (self.updates / "new").replace(self.updates / update_name(edge, ref.digest))
        return ref.digest

    @asynccontextmanager
    async def leftovers(self) -> AsyncIterator[Leftovers]:
        port = Port(self.bus, World(), "cloud/job-aggregate/1")
        found = Leftovers(port, Uploads(port), self.updates, self.models)
        running = asyncio.create_task(found.run())
        yield found
        await cancel_and_wait(running)

    async def kept(self) -> set[str]:
        """Return the remaining models, the same on the disk and in the bucket."""
        found = set(await (await self.bus.blobs("models")).digests())
        assert found == {path.name for path in self.models.iterdir()}
        return found


async def test_a_rounds_updates_go_and_the_newest_models_stay(bus: Bus, tmp_path: Path, closed: Closed) -> None:
    node = _Node(bus, tmp_path)
    models = [await node.model(f"model {round}") for round in range(4)]
    states = [await node.model(f"state {round}") for round in range(4)]
    async with node.leftovers() as leftovers:
        for round, (model, state) in enumerate(zip(models, states, strict=True)):
            counted, late = await node.update("edge-1", f"{round}"), await node.update("edge-2", f"late {round}")
            note = UncountedUpdate(edge="edge-2", round=round, reason="late", digest=late)
            record = closed(round, counted={"edge-1": counted}, late=[note])
            leftovers.free_soon(record.model_copy(update={"model": model, "state": state}))
        await leftovers.wait_until_freed()
        assert list(node.updates.iterdir()) == []
        for edge in ("edge-1", "edge-2"):
            assert await (await bus.blobs(upload_bucket(edge))).digests() == []
        assert await node.kept() == {each.digest for each in (*models[2:], *states[2:])}
        await leftovers.end_job()
        assert await node.kept() == {models[3].digest}
        assert not node.updates.exists()


async def test_another_process_frees_the_blobs_of_a_killed_one(bus: Bus, tmp_path: Path, closed: Closed) -> None:
    node = _Node(bus, tmp_path)
    digest = await node.update("edge-1", "an update")
    model = await node.model("a model")
    record = closed(1, counted={"edge-1": digest}).model_copy(update={"model": model})
    for _ in range(2):  # freeing twice does no harm
        async with node.leftovers() as leftovers:
            leftovers.free_soon(record)
            await leftovers.wait_until_freed()
    assert await (await bus.blobs(upload_bucket("edge-1"))).digests() == []
    assert await node.kept() == {model.digest}


async def test_parts_of_an_interrupted_transfer_go_with_their_file(bus: Bus, tmp_path: Path, closed: Closed) -> None:
    node = _Node(bus, tmp_path)
    late = UncountedUpdate(edge="edge-1", round=1, reason="its weights had not come", digest="e" * 64)
    for end in (".part", ".place"):
        (node.updates / f"{update_name('edge-1', late.digest)}{end}").write_bytes(b"half")
    async with node.leftovers() as leftovers:
        leftovers.free_soon(closed(1, late=[late]))
        await leftovers.wait_until_freed()
    assert list(node.updates.iterdir()) == []


async def test_inline_updates_are_not_searched_in_buckets_unless_the_record_says_so(closed: Closed) -> None:
    inline = WeightsRef(digest="a" * 64, size=1, inline=b"x")
    record = closed(1).model_copy(update={"model": inline})
    assert record.uploads() == set()
    assert record.model_copy(update={"uploaded": True}).uploads() == {("edge-1", "0" * 64)}
