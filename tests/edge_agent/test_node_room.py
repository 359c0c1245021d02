"""The room on a node: what is full is said, with what to do, before anything is lost."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.edge_agent.node_room import EVERY, MB, NodeRoom
from heliograph.simulations.virtual.loop import VirtualLoop, run


class Disk(NamedTuple):
    free: int


Test = Callable[["Looked"], Coroutine[Any, Any, None]]


class Looked:
    """A node room in virtual time, with a disk, a journal and a cloud that the test sets."""

    def __init__(self, loop: VirtualLoop, tmp_path: Path) -> None:
        self.free, self.used, self.refused, self.changes = 1 << 40, 0, "", 0
        world = World(monotonic=loop.time, now=loop.time)
        self.room = NodeRoom(tmp_path, lambda: self.used, 100 * MB, lambda: self.refused, world, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    async def after(self, **set: Any) -> list[str]:
        vars(self).update(set)
        await asyncio.sleep(EVERY + 1)
        return self.room.full


@pytest.fixture
def looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Test], None]:
    def play(test: Test) -> None:
        async def main(loop: VirtualLoop) -> None:
            it = Looked(loop, tmp_path)
            monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(it.free))
            running = asyncio.create_task(it.room.run())
            await test(it)
            await cancel_and_wait(running)

        run(main)

    return play


def test_a_disk_that_runs_full_is_said_once_and_taken_back_once_it_has_room(looked: Any) -> None:
    async def test(it: Looked) -> None:
        assert await it.after() == []
        (line,) = await it.after(free=60 * MB)
        assert "has less than 64 MB left" in line
        assert "Make room on it" in line
        assert len(await it.after(free=70 * MB)) == 1  # it would come and go
        assert await it.after(free=100 * MB) == []
        assert it.changes == 2

    looked(test)


def test_a_journal_at_its_quota_is_said_before_updates_are_refused(looked: Any) -> None:
    async def test(it: Looked) -> None:
        (line,) = await it.after(used=91 * MB)
        assert "more than 90% of 100 MB wait for the cloud" in line
        assert "--journal-mb" in line
        assert await it.after(used=85 * MB) == [line]
        assert await it.after(used=70 * MB) == []

    looked(test)


def test_a_cloud_without_room_is_passed_on(looked: Any) -> None:
    async def test(it: Looked) -> None:
        assert await it.after(refused="no room there") == ["the cloud takes none of this edge's uploads: no room there"]

    looked(test)
