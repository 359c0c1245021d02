"""Fixtures of the agent's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heliograph.core.world import World
from heliograph.edge_agent.journal import Journal
from tests.edge_agent.journals import Open
from tests.edge_agent.loops_on_node import Loops


@pytest.fixture
def logged() -> list[str]:
    return []


@pytest.fixture
def journal_at(tmp_path: Path, logged: list[str]) -> Iterator[Open]:
    """Return ``journal_at(edge=..., quota=...)``, which closes the test's journal and opens it again like an agent."""
    opened: list[Journal] = []

    def open_one(edge: str = "edge-1", **more: int) -> Journal:
        for each in opened:
            each.close()
        opened.clear()
        opened.append(Journal(tmp_path / "journal.db", edge, World(), warn=logged.append, **more))
        return opened[0]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def on_loops(on_node: Any, tmp_path: Path) -> Callable[[Callable[[Loops], Any]], None]:
    """Return ``on_loops(test)``, which runs ``test(loops)``: the loops of an agent on a node."""

    def run_test(test: Callable[[Loops], Any]) -> None:
        async def main(node: Any) -> None:
            it = Loops(node, tmp_path)
            await test(it)
            await it.close()
            assert node.logged == it.expected, node.logged

        on_node(main)

    return run_test
