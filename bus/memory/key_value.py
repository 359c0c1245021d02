"""Key-value buckets of the hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from heliograph.bus.memory.connection import MemoryConnection
from heliograph.bus.transport import KeyValueEntry
from heliograph.core.errors import Conflict
from heliograph.core.world import World


class MemoryKeyValue:
    """See ``KeyValue``."""

    def __init__(self, connection: MemoryConnection, bucket: str, world: World) -> None:
        hub = connection.hub
        self._world = world
        self._connection = connection
        self._entries = hub.buckets.setdefault(bucket, {})
        self._revisions = hub.revisions
        self._watchers = hub.watchers
        self._bucket = bucket

    async def get(self, key: str) -> KeyValueEntry | None:
        await self._connection.send()
        return self._entries.get(key)

    async def put(self, key: str, value: bytes, revision: int | None = None) -> int:
        await self._connection.send(len(value))
        present = self._entries.get(key)
        if revision is not None and revision != (present.revision if present else 0):
            raise Conflict(f"{key} is not at revision {revision} any more")
        newest = self._revisions[self._bucket] = self._revisions.get(self._bucket, 0) + 1  # also after a delete
        self._entries[key] = KeyValueEntry(key, value, newest, self._world.now())
        for changed in self._watchers.get(f"{self._bucket}/{key}", ()):
            changed.set()
        await self._connection.down()
        return newest

    async def create_all(self, values: Mapping[str, bytes]) -> dict[str, int]:
        if taken := next((key for key in values if key in self._entries), None):
            raise Conflict(f"{taken} exists")
        return {key: await self.put(key, value) for key, value in values.items()}

    async def delete(self, key: str) -> None:
        await self._connection.send()
        self._entries.pop(key, None)

    @asynccontextmanager
    async def changes(self, key: str) -> AsyncIterator[asyncio.Event]:
        changed = asyncio.Event()
        watchers = self._watchers.setdefault(f"{self._bucket}/{key}", [])
        watchers.append(changed)
        try:
            yield changed
        finally:
            watchers.remove(changed)

    async def keys(self, prefix: str = "") -> list[str]:
        await self._connection.send()
        return sorted(key for key in self._entries if key.startswith(prefix))

    async def entries(self, prefix: str = "") -> list[KeyValueEntry]:
        await self._connection.send()
        return [self._entries[key] for key in sorted(self._entries) if key.startswith(prefix)]
