"""Follow the objects of a kind: list them once, watch, and list again where the watch may have missed something.

The loop is our own: that of the library opens a stream which is closed at once 475 times a second, asks with an expired
version again, and waits for ever on a dead connection. ``docs/kubernetes-api.md`` has the reasons.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from heliograph.coordinator.kubernetes.api import WATCH_SECONDS, Api, Change, Kind, Object, Objects
from heliograph.coordinator.kubernetes.errors import Busy, Expired, NotServed
from heliograph.core.backoff import Backoff
from heliograph.core.errors import HeliographError
from heliograph.core.failures import sentence_of
from heliograph.core.world import World

FIRST_PAUSE, MOST_PAUSE = 0.8, 20.0
"""Ceilings of the first and of the longest pause after a failure, in seconds."""
RELIST_SECONDS = 600.0
"""Time after which all objects are listed again, whatever the watch has said."""
JITTER = 0.2
"""Part by which lengths of watches, and times between lists, are shortened at random."""
LASTED = 5.0
"""Seconds after which the end of a watch is the ordinary one."""
SAY_AGAIN = 300.0
"""Seconds after which a problem that comes and goes is said again."""
AT_ONCE = 5
"""Watches in sequence that end at once, until a line says so."""

Key = tuple[str, str]
"""Namespace and name of an object."""


class Follower:
    """Knows the objects of a kind, and says which have changed.

    While the API server does not answer, the objects stay as they were known last. Where it does not serve the kind
    any more, as two answers say one after the other, they are gone.

    Args:
        changed: called with kind, namespace and name of each object that has come, changed or gone. After a problem
            it is called for all objects.
        warn: called with a line when there is a problem, and when there is none any more; not for each attempt.
        namespace: the only namespace; empty for all.
        labels: a label selector; an object that leaves it is gone.
        keep: returns the part of an object to remember, which must have its ``metadata``.
        resumed: called with the kind when a problem is over, before ``changed``.

    Attributes:
        objects: the objects as known now, without ``managedFields``.
        synced: set once all objects have been listed.
        problem: why the objects may be out of date; empty while they are not.
    """

    def __init__(
        self, api: Api, kind: Kind, world: World, changed: Callable[[Kind, str, str], None],
        warn: Callable[[str], None], *, namespace: str = "", labels: str = "",
        keep: Callable[[Object], Object] = lambda given: given, resumed: Callable[[Kind], None] = lambda kind: None,
        relist_seconds: float = RELIST_SECONDS, watch_seconds: int = WATCH_SECONDS,
    ) -> None:  # fmt: skip
        self.objects: dict[Key, Object] = {}
        self.synced = asyncio.Event()
        self.problem = ""
        self._api = api
        self._kind = kind
        self._world = world
        self._changed = changed
        self._warn = warn
        self._namespace = namespace
        self._labels = labels
        self._keep = keep
        self._resumed = resumed
        self._relist_seconds = relist_seconds
        self._watch_seconds = watch_seconds
        self._versions: dict[Key, str] = {}
        self._backoff = Backoff(world.rng.random, FIRST_PAUSE, MOST_PAUSE)
        self._unserved = 0
        """Answers in sequence that the kind is not served."""
        self._said, self._said_at = "", 0.0
        """The problem that was said last, and when."""
        self._announced = False
        """Whether a problem was said, and not yet that it is over."""
        self._at_once = 0
        """Watches in sequence that ended at once, with nothing."""

    async def run(self) -> None:
        """Follow until cancelled. No answer of the API server ends it."""
        while True:
            least = 0.0
            try:
                version = await self._list()
                await self._watch_from(version)
            except Expired:
                pass  # the list that follows has what was missed
            except Exception as error:
                least = error.retry_after if isinstance(error, Busy) else 0.0
                self._failed(error)
            else:
                continue  # it is time to list again, and nothing has failed
            await self._world.sleep(self._backoff.next(least))

    async def _list(self) -> str:
        """List all objects, say what differs from what was known, and return the version of the list."""
        items, version = await self._api.list(self._kind, self._namespace, self._labels)
        self._unserved = 0
        changed = self._take_all(items)
        first, had_problem = not self.synced.is_set(), bool(self.problem)
        self.synced.set()
        self.problem = ""
        if self._announced:
            self._announced = False
            self._warn(f"Kubernetes: {self._kind.resource} are followed again")
        if had_problem and not first:
            self._resumed(self._kind)
            told = set(changed)
            changed += [key for key in self.objects if key not in told]
        for key in changed:
            self._changed(self._kind, *key)
        return version

    async def _watch_from(self, version: str) -> None:
        """Watch until it is time to list again. Raise Expired, or the error that ended the watch."""
        due = self._world.monotonic() + self._jittered(self._relist_seconds)
        while (left := due - self._world.monotonic()) > 0:
            seconds = max(1, round(min(self._jittered(self._watch_seconds), left)))
            began, had_changes = self._world.monotonic(), False
            watch = self._api.watch(self._kind, version, self._namespace, self._labels, seconds)
            try:
                async with contextlib.aclosing(watch):
                    async for change in watch:
                        version = str(_metadata(change.object).get("resourceVersion") or version)
                        if change.type != "BOOKMARK":
                            had_changes = True
                            self._take(change)
            finally:
                lasted = self._world.monotonic() - began >= min(LASTED, seconds / 2)
                if lasted or had_changes:
                    self._backoff.reset()
            if not lasted:
                await self._world.sleep(self._backoff.next())
                if not had_changes:
                    return self._ended_at_once()
            self._at_once = 0

    def _take(self, change: Change) -> None:
        """Take a change of a watch."""
        key = _key(change.object)
        if key is None:
            return
        if change.type == "DELETED":
            self.objects.pop(key, None)
            self._versions.pop(key, None)
        elif not self._remember(key, change.object):
            return
        self._changed(self._kind, *key)

    def _take_all(self, items: Objects) -> list[Key]:
        """Take a complete list, and return the keys of objects that differ from those known before."""
        changed = list[Key]()
        present = set[Key]()
        for item in items:
            if (key := _key(item)) is not None:
                present.add(key)
                if self._remember(key, item):
                    changed.append(key)
        return changed + self._forget([key for key in self.objects if key not in present])

    def _remember(self, key: Key, given: Object) -> bool:
        """Remember an object. Return whether it has another version than the one known."""
        metadata = _metadata(given)
        version = str(metadata.get("resourceVersion") or "")
        if version and self._versions.get(key) == version:
            return False
        metadata.pop("managedFields", None)
        self.objects[key] = self._keep(given)
        self._versions[key] = version
        return True

    def _forget(self, gone: list[Key]) -> list[Key]:
        for key in gone:
            del self.objects[key]
            self._versions.pop(key, None)
        return gone

    def _failed(self, error: Exception) -> None:
        """Take note of an error, and say it unless it was said last."""
        expected = isinstance(error, HeliographError)
        line = sentence_of(error, "" if expected else f"following {self._kind.resource}")
        self.problem = line
        now = self._world.monotonic()
        if line != self._said or (not self._announced and now >= self._said_at + SAY_AGAIN):
            self._said, self._said_at, self._announced = line, now, True
            self._warn(f"Kubernetes: {line}")
        if not isinstance(error, NotServed):
            return
        self._unserved += 1
        if self._unserved >= 2:  # an API server that starts may say so once, before it has read its definitions
            for key in self._forget(list(self.objects)):
                self._changed(self._kind, *key)

    def _ended_at_once(self) -> None:
        """Take note that a watch has ended at once, with nothing: a list says what it would have said."""
        self._at_once += 1
        if self._at_once == AT_ONCE:
            self._warn(f"Kubernetes: the API server ends each watch of {self._kind.resource} at once; they are listed"
                       f" every {MOST_PAUSE:g} s at most")  # fmt: skip

    def _jittered(self, seconds: float) -> float:
        return seconds * (1 - JITTER * self._world.rng.random())


def _metadata(given: Object) -> Object:
    found = given.get("metadata")
    return found if isinstance(found, dict) else {}


def _key(given: Object) -> Key | None:
    """Return namespace and name; None for what has no name."""
    metadata = _metadata(given)
    name, namespace = metadata.get("name"), metadata.get("namespace") or ""
    return (namespace, name) if isinstance(name, str) and name and isinstance(namespace, str) else None
