"""Filters of an earlier mapping are taken back, also after a crash between two steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from heliograph.edge_agent.devices.kept_filters import KeptFilters
from heliograph.edge_agent.journal import Journal


def test_an_earlier_mappings_filters_are_taken_back_once(on_node: Callable[..., Any]) -> None:
    async def main(node: Any) -> None:
        journal = Journal(Path("/simulated/journal.db"), "edge-1", node.world, 1 << 20, node.logged.append)
        assert await KeptFilters(journal, ["a", "b"]).begin() == []  # the agent ends here
        crashed = KeptFilters(journal, ["b", "c"])
        assert await crashed.begin() == ["a"]
        assert await crashed.begin() == ["a"]  # the connection ended before it was taken back
        assert await KeptFilters(journal, ["b", "c"]).begin() == ["a"]
        await crashed.end()
        assert await crashed.begin() == []
        assert await KeptFilters(journal, ["a"]).begin() == ["b", "c"]
        await journal.save("device-filters", b"{")
        assert await KeptFilters(journal, ["a"]).begin() == []
        journal.close()

    on_node(main)
