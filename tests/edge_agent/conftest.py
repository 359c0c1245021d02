"""Fixtures of the agent's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from heliograph.core.world import World
from heliograph.edge_agent.journal import Journal
from tests.edge_agent.journals import Open


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
