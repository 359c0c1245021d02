"""The tasks of an edge's label queues, as documents in the agent's journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from heliograph.bus.transport import KeyValueEntry
from heliograph.core.errors import Conflict
from heliograph.edge_agent.journal import Journal


class JournalBucket:
    """A key-value bucket in the journal; see ``KeyValue``. The agent alone writes it, so revisions live in memory."""

    def __init__(self, journal: Journal, bucket: str) -> None:
        self._journal = journal
        self._bucket = bucket
        self._revisions: dict[str, int] = {}
        for entry in self.stored(""):
            self._revisions[entry.key] = 1

    def document(self, key: str) -> str:
        """Return the key of the journal's document with a value of this bucket."""
        return f"{self._bucket}/{key}"

    def wrote(self, key: str) -> int:
        """Take note of a value that was saved together with an event, and return its revision."""
        revision = self._revisions[key] = self._revisions.get(key, 0) + 1
        return revision

    async def get(self, key: str) -> KeyValueEntry | None:
        value = self._journal.load(self.document(key))
        return KeyValueEntry(key, value, self._revisions.get(key, 0)) if key in self._revisions else None

    async def put(self, key: str, value: bytes, revision: int | None = None) -> int:
        if revision is not None and revision != self._revisions.get(key, 0):
            raise Conflict(f"{key} is not at revision {revision} any more")
        written = self.wrote(key)
        await self._journal.save(self.document(key), value)
        return written

    async def create_all(self, values: Mapping[str, bytes]) -> dict[str, int]:
        if there := sorted(values.keys() & self._revisions.keys()):
            raise Conflict(f"{there[0]} exists")
        return {key: await self.put(key, value, 0) for key, value in values.items()}

    async def delete(self, key: str) -> None:
        await self._journal.delete(self.document(key))
        self._revisions.pop(key, None)

    async def keys(self, prefix: str = "") -> list[str]:
        return sorted(key for key in self._revisions if key.startswith(prefix))

    async def entries(self, prefix: str = "") -> list[KeyValueEntry]:
        return self.stored(prefix)

    def stored(self, prefix: str) -> list[KeyValueEntry]:
        """Return the values whose keys begin so."""
        head = self.document("")
        found = [(key.removeprefix(head), value) for key, value in self._journal.documents(self.document(prefix))]
        return [KeyValueEntry(key, value, self._revisions.get(key, 1)) for key, value in found]

    @asynccontextmanager
    async def changes(self, key: str) -> AsyncIterator[asyncio.Event]:
        """Yield an event that nobody sets: the agent alone writes."""
        yield asyncio.Event()
