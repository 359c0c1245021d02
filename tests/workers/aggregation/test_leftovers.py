"""Files of closed rounds are deleted from the node's disk, except those still in use."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from heliograph.bus.contract.payloads import Aggregation, UncountedUpdate
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.workers.aggregation.leftovers import Leftovers, update_name

Closed = Callable[..., Aggregation]


class _Node:
    """The aggregation worker's directories."""

    def __init__(self, directory: Path) -> None:
        self.updates, self.models = directory / "updates", directory / "models"
        self.updates.mkdir()
        self.models.mkdir()

    def model(self, name: str) -> WeightsRef:
        digest = hashlib.sha256(name.encode()).hexdigest()
        (self.models / digest).write_text(name)
        return WeightsRef(digest=digest, size=len(name))

    def update(self, edge: str, name: str) -> str:
        digest = hashlib.sha256(name.encode()).hexdigest()
        (self.updates / update_name(edge, digest)).write_text(name)
        return digest

    @asynccontextmanager
    async def leftovers(self) -> AsyncIterator[Leftovers]:
        found = Leftovers(World(), self.updates, self.models)
        running = asyncio.create_task(found.run())
        yield found
        await cancel_and_wait(running)

    def kept(self) -> set[str]:
        return {path.name for path in self.models.iterdir()}


async def test_a_rounds_updates_go_and_the_newest_models_stay(tmp_path: Path, closed: Closed) -> None:
    node = _Node(tmp_path)
    models = [node.model(f"model {round}") for round in range(4)]
    states = [node.model(f"state {round}") for round in range(4)]
    async with node.leftovers() as leftovers:
        for round, (model, state) in enumerate(zip(models, states, strict=True)):
            counted, late = node.update("edge-1", f"{round}"), node.update("edge-2", f"late {round}")
            note = UncountedUpdate(edge="edge-2", round=round, reason="late", digest=late)
            record = closed(round, counted={"edge-1": counted}, late=[note])
            leftovers.delete_soon(record.model_copy(update={"model": model, "state": state}))
        await leftovers.wait_until_deleted()
        assert list(node.updates.iterdir()) == []
        assert node.kept() == {each.digest for each in (*models[2:], *states[2:])}
        await leftovers.end_job()
        assert node.kept() == {models[3].digest}
        assert not node.updates.exists()


async def test_another_process_deletes_the_files_of_a_killed_one(tmp_path: Path, closed: Closed) -> None:
    node = _Node(tmp_path)
    record = closed(1, counted={"edge-1": node.update("edge-1", "an update")})
    model = node.model("a model")
    for _ in range(2):  # deleting twice does no harm
        async with node.leftovers() as leftovers:
            leftovers.delete_soon(record.model_copy(update={"model": model}))
            await leftovers.wait_until_deleted()
    assert list(node.updates.iterdir()) == []
    assert node.kept() == {model.digest}


async def test_parts_of_an_interrupted_transfer_go_with_their_file(tmp_path: Path, closed: Closed) -> None:
    node = _Node(tmp_path)
    late = UncountedUpdate(edge="edge-1", round=1, reason="its weights had not come", digest="e" * 64)
    for end in (".part", ".place"):
        (node.updates / f"{update_name('edge-1', late.digest)}{end}").write_bytes(b"half")
    async with node.leftovers() as leftovers:
        leftovers.delete_soon(closed(1, late=[late]))
        await leftovers.wait_until_deleted()
    assert list(node.updates.iterdir()) == []


async def test_inline_updates_are_not_searched_in_buckets_unless_the_record_says_so(closed: Closed) -> None:
    inline = WeightsRef(digest="a" * 64, size=1, inline=b"x")
    record = closed(1).model_copy(update={"model": inline})
    assert record.uploads() == set()
    assert record.model_copy(update={"uploaded": True}).uploads() == {("edge-1", "0" * 64)}
