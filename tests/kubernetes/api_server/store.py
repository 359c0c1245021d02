"""Objects with one counter of versions for all, and what has changed lately."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name."""
HISTORY = 20_000
"""Changes that are remembered."""


@dataclass(frozen=True)
class Change:
    """A change of an object. ``before`` is None where it was created."""

    version: int
    resource: str
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Object
    before: Object | None


class Store:
    """Objects by resource, namespace and name. None that is in it is ever changed: another takes its place."""

    def __init__(self, history: int = HISTORY) -> None:
        self.version = 100
        self.forgotten = 100
        """Changes up to this version are not remembered."""
        self._objects: dict[str, dict[Key, Object]] = {}
        self._changes: deque[Change] = deque()
        self._history = history
        self._changed: dict[str, asyncio.Event] = {}

    def get(self, resource: str, key: Key) -> Object | None:
        return self._objects.get(resource, {}).get(key)

    def all(self, resource: str, namespace: str = "") -> list[Object]:
        """Return all objects, in the order of their keys."""
        found = self._objects.get(resource, {})
        return [found[key] for key in sorted(found) if not namespace or key[0] == namespace]

    def resources(self) -> list[str]:
        return sorted(self._objects)

    def put(self, resource: str, key: Key, given: Object) -> Object:
        """Store an object under the next version, and return it."""
        before = self.get(resource, key)
        stored = self._next(given)
        self._objects.setdefault(resource, {})[key] = stored
        self._note(resource, "ADDED" if before is None else "MODIFIED", stored, before)
        return stored

    def remove(self, resource: str, key: Key) -> Object:
        """Remove an object, and return it as the change of its removal has it."""
        before = self._objects[resource].pop(key)
        gone = self._next(before)
        self._note(resource, "DELETED", gone, before)
        return gone

    def since(self, version: int, resource: str) -> Iterator[Change]:
        """Yield the changes of a resource after a version, which must not be forgotten."""
        newest = list[Change]()
        for change in reversed(self._changes):
            if change.version <= version:
                break
            if change.resource == resource:
                newest.append(change)
        yield from reversed(newest)

    def forget(self) -> None:
        """Forget all changes so far, as the compaction of etcd does."""
        self._changes.clear()
        self.version += 1
        self.forgotten = self.version
        self.wake()

    async def wait(self, resource: str, seconds: float) -> None:
        """Return at the next change of a resource, or after ``seconds``."""
        changed = self._changed.setdefault(resource, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            return

    def wake(self, resource: str = "") -> None:
        """Wake those who wait for a resource; without one, all."""
        for name in [resource] if resource else list(self._changed):
            if (changed := self._changed.pop(name, None)) is not None:
                changed.set()

    def _next(self, given: Object) -> Object:
        self.version += 1
        copy: Object = json.loads(json.dumps(given))
        copy["metadata"]["resourceVersion"] = str(self.version)
        return copy

    def _note(
        self, resource: str, type: Literal["ADDED", "MODIFIED", "DELETED"], given: Object, before: Object | None
    ) -> None:
        self._changes.append(Change(self.version, resource, type, given, before))
        while len(self._changes) > self._history:
            self.forgotten = self._changes.popleft().version
        self.wake(resource)
