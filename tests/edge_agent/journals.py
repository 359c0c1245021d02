"""Journals, for tests."""

from __future__ import annotations

from collections.abc import Callable

from heliograph.edge_agent.journal import Journal

Open = Callable[..., Journal]


def bodies(journal: Journal, lane: int) -> list[bytes]:
    return [each.body for each in journal.read(lane, 0, 10**6, 10**9).events]
