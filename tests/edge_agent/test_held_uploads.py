"""What a node holds for the cloud outlives the agent, and is bounded in bytes and age."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heliograph.edge_agent.held_uploads import EVERY, GONE_AFTER, MAX_AGE, HeldUploads


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


class Holding:
    def __init__(self, node: Any, tmp: Path) -> None:
        self.node = node
        self.tmp = tmp
        self.logged: list[str] = []
        self.again()

    def again(self, most: int = 100) -> HeldUploads:
        """Start the agent again."""
        self.held = HeldUploads(self.tmp / "held", self.node.world, self.logged.append, most)
        self.running = self.node.start(self.held.run())
        return self.held

    async def hold(self, name: str, size: int = 10, job: str = "job/../..") -> None:
        file = self.tmp / name
        file.write_bytes(name.encode().ljust(size))
        await self.held.hold(_digest(name), job, file)
        assert not file.exists()

    def here(self, *names: str) -> list[str]:
        return [name for name in names if (file := self.held.find(_digest(name))) is not None and file.exists()]

    def files(self) -> int:
        return len(list((self.tmp / "held").iterdir()))


def _holding(on_node: Any, tmp_path: Path, test: Callable[[Holding], Any]) -> None:
    async def main(node: Any) -> None:
        await test(Holding(node, tmp_path))

    on_node(main)


def test_it_is_offered_over_restarts_until_it_is_settled(on_node: Any, tmp_path: Path) -> None:
    async def test(it: Holding) -> None:
        await it.hold("a")
        await it.hold("b", job="other")
        (tmp_path / "held" / f"{_digest('c')}.part").write_bytes(b"cut")
        it.again()
        assert (it.here("a", "b", "c"), it.files()) == (["a", "b"], 2)
        await it.held.settle([_digest("a"), _digest("x")])
        assert (it.here("a", "b"), it.files()) == (["b"], 1)
        it.again()
        assert it.here("a", "b") == ["b"]
        assert (tmp_path / "held").stat().st_mode & 0o77 == 0

    _holding(on_node, tmp_path, test)


def test_the_oldest_go_where_there_is_no_room_and_that_is_said(on_node: Any, tmp_path: Path) -> None:
    async def test(it: Holding) -> None:
        for name in "abc":
            await it.hold(name, 40)
        assert (it.here("a", "b", "c"), len(it.logged)) == (["b", "c"], 1)
        await it.hold("d", 1000)  # the newest stays, whatever its size
        assert (it.here("a", "b", "c", "d"), it.files()) == (["d"], 1)

    _holding(on_node, tmp_path, test)


def test_the_same_bytes_of_two_jobs_are_one_file(on_node: Any, tmp_path: Path) -> None:
    async def test(it: Holding) -> None:
        await it.hold("a", job="one")
        await it.hold("a", job="two")
        assert (it.here("a"), it.files()) == (["a"], 1)

    _holding(on_node, tmp_path, test)


def test_what_no_job_asks_for_any_more_goes_after_a_while(on_node: Any, tmp_path: Path) -> None:
    async def test(it: Holding) -> None:
        await it.hold("a", job="runs")
        await it.hold("b", job="gone")
        for _ in range(int(GONE_AFTER // EVERY)):
            it.held.follow(["runs", "another"])
            await it.node.world.sleep(EVERY)
            assert it.here("a", "b") == ["a", "b"]
        it.held.follow(["runs"])
        await it.node.world.sleep(2 * EVERY)
        assert (it.here("a", "b"), it.files(), it.logged) == (["a"], 1, [])

    _holding(on_node, tmp_path, test)


def test_nothing_is_kept_for_ever(on_node: Any, tmp_path: Path) -> None:
    async def test(it: Holding) -> None:
        await it.hold("a", job="runs")
        for _ in range(int(MAX_AGE // 300) + 1):
            it.held.follow(["runs"])
            await it.node.world.sleep(300)
        assert (it.here("a"), it.files(), len(it.logged)) == ([], 0, 1)

    _holding(on_node, tmp_path, test)
