"""The filters that the agent's session has at the devices' broker. They outlive the agent: one that an earlier mapping
had would bring messages that nobody wants, or the same ones once more beside a wider one."""

from __future__ import annotations

import json
from collections.abc import Sequence

from heliograph.edge_agent.journal import Journal

_KEY = "device-filters"


class KeptFilters:
    """Remembers what was subscribed to.

    Args:
        wanted: the filters of the mapping.
    """

    def __init__(self, journal: Journal, wanted: Sequence[str]) -> None:
        self.wanted = tuple(wanted)
        self._journal = journal
        self._kept: list[str] | None = None

    async def begin(self) -> list[str]:
        """Return the filters to take back, and remember the wanted ones before they are subscribed to."""
        if self._kept is None:
            self._kept = self._read()
            await self._remember([*dict.fromkeys((*self._kept, *self.wanted))])
        return [each for each in self._kept if each not in self.wanted]

    async def end(self) -> None:
        """Forget what was taken back."""
        await self._remember([*self.wanted])

    async def _remember(self, filters: list[str]) -> None:
        if filters != self._kept:
            await self._journal.save(_KEY, json.dumps(filters).encode())
            self._kept = filters

    def _read(self) -> list[str]:
        try:
            found = json.loads(self._journal.load(_KEY) or b"[]")
        except ValueError:
            return []
        return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
