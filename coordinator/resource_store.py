"""Resources in JetStream key-value, written by compare-and-set and read from a copy in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import Resource
from heliograph.bus.transport import KeyValue
from heliograph.core.errors import Conflict, Refused
from heliograph.core.world import World

R = TypeVar("R", bound=Resource)


class ResourceStore:
    """Every resource, keyed ``<plural>.<name>``. A write by another coordinator raises Conflict.

    Args:
        on_conflict: called with the stored resource after a Conflict. It may be our own write, whose answer was lost.
    """

    def __init__(
        self, kv: KeyValue, world: World, on_conflict: Callable[[Resource], None] = lambda resource: None
    ) -> None:
        self._kv = kv
        self._world = world
        self._on_conflict = on_conflict
        self._cached: dict[str, dict[str, tuple[Resource, int]]] = {}
        """By plural and name."""

    async def load(self) -> list[str]:
        """Read all resources. Return a line for each that cannot be read; it stays in the bucket."""
        unreadable = []
        self._cached.clear()
        for entry in await self._kv.entries():
            try:
                self._remember(parse_resource(json.loads(entry.value), entry.key), entry.revision)
            except (Refused, ValueError) as error:
                unreadable.append(f"resource {entry.key}: {error}")
        return unreadable

    def all(self, kind: type[R]) -> list[R]:
        """Return the resources of a kind, sorted by name."""
        return [found for _, (found, _) in sorted(self._of(kind).items()) if isinstance(found, kind)]

    def get(self, kind: type[R], name: str) -> R | None:
        found, _ = self._of(kind).get(name, (None, 0))
        return found if isinstance(found, kind) else None

    async def create(self, resource: R) -> R:
        """Store a new resource with a new uid, and return it. Raise Conflict where the name is taken."""
        if resource.name in self._of(type(resource)):
            raise Conflict(f"{_key(resource)} exists")
        metadata = resource.metadata.model_copy(
            update={
                "uid": self._world.new_uid(_key(resource)),
                "generation": 1,
                "creation_timestamp": self._world.timestamp(),
                "resource_version": "",
            }
        )
        return await self._write(resource.model_copy(update={"metadata": metadata}), 0)

    async def put(self, resource: R) -> R:
        """Replace the resource that was read last. Raise Conflict where another coordinator has written meanwhile."""
        known, revision = self._of(type(resource)).get(resource.name, (None, 0))
        if known is resource:
            return resource
        return await self._write(resource, revision)

    async def delete(self, resource: Resource) -> None:
        await self._kv.delete(_key(resource))
        self._of(type(resource)).pop(resource.name, None)

    async def _write(self, resource: R, revision: int) -> R:
        body = resource.model_dump_json(by_alias=True, exclude_none=True).encode()
        try:
            written = await self._kv.put(_key(resource), body, revision)
        except Conflict:  # another coordinator's write, or ours whose answer was lost: the caller retries on it
            await self._reread(resource)
            raise
        self._remember(resource, written)
        return resource

    async def _reread(self, resource: Resource) -> None:
        entry = await self._kv.get(_key(resource))
        if entry is None:
            self._of(type(resource)).pop(resource.name, None)
        else:
            found = parse_resource(json.loads(entry.value), entry.key)
            self._remember(found, entry.revision)
            self._on_conflict(found)

    def _of(self, kind: type[Resource]) -> dict[str, tuple[Resource, int]]:
        return self._cached.setdefault(kind.plural, {})

    def _remember(self, resource: Resource, revision: int) -> None:
        self._of(type(resource))[resource.name] = (resource, revision)


def _key(resource: Resource) -> str:
    return f"{resource.plural}.{resource.name}"
