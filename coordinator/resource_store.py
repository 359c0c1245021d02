"""Resources in JetStream key-value, written by compare-and-set and read from a copy in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from heliograph.bus.contract.buckets import RESOURCES
from heliograph.bus.contract.event import parse
from heliograph.bus.contract.registry import declared, parse_resource
from heliograph.bus.contract.resources import Metadata, Quarantine, QuarantineSpec, QuarantineStatus, Resource
from heliograph.bus.transport import KeyValue, KeyValueEntry
from heliograph.coordinator.change_log import ChangeLog
from heliograph.coordinator.quotas import Usage
from heliograph.core.breaks import Breaks
from heliograph.core.errors import Conflict, Refused
from heliograph.core.failures import sentence_of
from heliograph.core.names import is_label, join_labels
from heliograph.core.world import World

R = TypeVar("R", bound=Resource)
Allow = Callable[[Usage, Usage, Usage, Usage], None]
"""Called before a write with the usage of the whole resource, the growth, and the present usage of its creator and of
all; raises Refused where a quota does not allow the growth."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """A resource, the revision of its document, and the document's size in bytes."""

    resource: Resource
    revision: int
    size: int = 0

    @property
    def creator(self) -> str:
        return self.resource.metadata.created_by

    @property
    def usage(self) -> Usage:
        """The usage that counts for quotas: none for a resource that the coordinator made by itself."""
        return Usage(1, self.size, self.resource.listed_workers) if self.creator else _NONE


_NONE = Usage()
_NOT_STORED = {"metadata": {"resource_version"}}
"""The field that follows from the document's place in the bucket."""


class ResourceStore:
    """Every resource, keyed ``<plural>.<name>``. A write by another coordinator raises Conflict.

    The ``resource_version`` of a resource is the revision of its key: it is not part of the stored document.

    A document that cannot be read stays in the bucket; a ``Quarantine`` shows it, which itself is not stored.

    Args:
        on_conflict: called with the stored resource after a Conflict. It may be our own write, whose answer was lost.
        on_release: called with a quarantine whose document has been replaced.
    """

    def __init__(
        self,
        kv: KeyValue,
        world: World,
        on_conflict: Callable[[Resource], None] = lambda resource: None,
        on_release: Callable[[Resource], None] = lambda resource: None,
    ) -> None:
        self._kv = kv
        self._world = world
        self._on_conflict = on_conflict
        self._on_release = on_release
        self._cached: dict[str, dict[str, _Stored]] = {}
        """By plural and name."""
        self._names: dict[str, list[str]] = {}
        """By plural, the sorted names; absent once a name has come or gone."""
        self._changes: defaultdict[str, ChangeLog] = defaultdict(ChangeLog)
        self._usage: defaultdict[str, Usage] = defaultdict(Usage)
        """By creator, of those that have stored anything."""
        self._usage_in_all = _NONE

    async def load(self) -> list[str]:
        """Read all resources. Return a line for each that cannot be read; it stays in the bucket."""
        unreadable = []
        for each in (self._cached, self._names, self._usage, self._changes):
            each.clear()
        self._usage_in_all = _NONE
        breaks = Breaks(self._world)
        for entry in await self._kv.entries():
            await breaks.take()
            found = self._read(entry)
            if isinstance(found, Quarantine):
                unreadable.append(f"resource {entry.key} is in quarantine: {found.spec.reason}")
        return unreadable

    def all(self, kind: type[R]) -> list[R]:
        """Return the resources of a kind, sorted by name."""
        cached = self._of(kind)
        found = [cached[name].resource for name in self._sorted_names(kind.plural)]
        return [each for each in found if isinstance(each, kind)]

    def names(self, kind: type[Resource]) -> Sequence[str]:
        """Return the names of a kind's resources, sorted. The caller changes nothing."""
        return self._sorted_names(kind.plural)

    def changes(self, kind: type[Resource]) -> int:
        """Return a number that grows with each change of a kind's resources."""
        return self._changes[kind.plural].count

    def change_log(self, kind: type[Resource]) -> ChangeLog:
        """Return the order in which a kind's resources changed since this store was loaded."""
        return self._changes[kind.plural]

    def get(self, kind: type[R], name: str) -> R | None:
        stored = self._of(kind).get(name)
        return stored.resource if stored is not None and isinstance(stored.resource, kind) else None

    def usage(self, creator: str) -> Usage:
        """Return what the resources take that a caller's requests have created."""
        return self._usage.get(creator, _NONE)

    async def create(self, resource: R, allow: Allow | None = None) -> R:
        """Store a new resource with a new uid, and return it. Raise Conflict where the name is taken, Refused where an
        unreadable document has it, or where ``allow`` does; one that only coordinators write is replaced."""
        quarantine, revision = self._quarantine_of(_key(resource))
        if quarantine is not None and "create" in declared().verbs[resource.plural]:
            raise Refused(
                "quarantined",
                field="metadata.name",
                expected="a name without an unreadable document",
                got=resource.name,
                hint=f"See it by 'heliograph get quarantine {quarantine.name} -o yaml', "
                f"delete it by 'heliograph delete quarantine/{quarantine.name}'.",
            )
        if resource.name in self._of(type(resource)):
            raise Conflict(f"{_key(resource)} exists")
        metadata = resource.metadata.model_copy(
            update={
                "uid": self._world.new_uid(_key(resource)),
                "generation": 1,
                "creation_timestamp": self._world.timestamp(),
            }
        )
        created = await self._write(resource.model_copy(update={"metadata": metadata}), revision, allow)
        if quarantine is not None:
            self._forget(Quarantine.plural, quarantine.name)
            self._on_release(quarantine)
        return created

    async def put(self, resource: R, allow: Allow | None = None) -> R:
        """Replace the resource that was read last. Raise Conflict where another coordinator has written meanwhile,
        Refused where ``allow`` does."""
        known = self._of(type(resource)).get(resource.name)
        if known is not None and known.resource is resource:
            return resource
        return await self._write(resource, known.revision if known is not None else 0, allow)

    async def delete(self, resource: Resource) -> None:
        """Delete a resource; with a quarantine, the unreadable document."""
        await self._kv.delete(resource.spec.key if isinstance(resource, Quarantine) else _key(resource))
        self._forget(resource.plural, resource.name)

    async def _write(self, resource: R, revision: int, allow: Allow | None = None) -> R:
        body = resource.model_dump_json(by_alias=True, exclude_none=True, exclude=_NOT_STORED).encode()
        stored = _Stored(resource, 0, len(body))
        before = self._of(type(resource)).get(resource.name)
        growth = stored.usage - (before.usage if before is not None else _NONE)
        if allow is not None:
            allow(stored.usage, growth, self.usage(stored.creator), self._usage_in_all)
        try:
            with self._reserved(stored.creator, growth):  # other requests are checked before this one is stored
                written = await self._kv.put(_key(resource), body, revision)
        except Conflict:  # another coordinator's write, or ours whose answer was lost: the caller retries on it
            await self._reread(resource)
            raise
        resource = _at_version(resource, written)
        self._remember(_Stored(resource, written, len(body)))
        return resource

    async def _reread(self, resource: Resource) -> None:
        entry = await self._kv.get(_key(resource))
        if entry is None:
            self._forget(resource.plural, resource.name)
        else:
            self._on_conflict(self._read(entry))

    def _read(self, entry: KeyValueEntry) -> Resource:
        """Remember the entry's resource, or a quarantine if it is unreadable, and return it."""
        try:
            found = parse_resource(parse(entry.value, entry.key), entry.key)
            if _key(found) != entry.key:
                raise Refused("invalid", topic=entry.key, field="metadata.name", expected=entry.key.partition(".")[2],
                              got=found.name)  # fmt: skip
        except Exception as error:  # whatever its validation raises: the other resources are fine
            found = self._quarantine(entry, sentence_of(error))
        found = _at_version(found, entry.revision)
        self._remember(_Stored(found, entry.revision, len(entry.value)))
        return found

    def _quarantine(self, entry: KeyValueEntry, reason: str) -> Quarantine:
        parts = entry.key.split(".")
        plural, name = parts[0], parts[-1]
        if len(parts) == 2 and is_label(plural) and is_label(name):
            self._forget(plural, name)
        else:
            plural, name = "unknown", f"{entry.revision}"
        now = self._world.timestamp()
        return Quarantine(
            metadata=Metadata(name=join_labels(plural, name), creation_timestamp=now),
            spec=QuarantineSpec(
                bucket=RESOURCES,
                key=entry.key[:1024],
                reason=reason[:1024],
                size=len(entry.value),
                excerpt=entry.value[:512].decode(errors="backslashreplace")[:1024],
            ),
            status=QuarantineStatus(since=now),
        )

    def _quarantine_of(self, key: str) -> tuple[Quarantine | None, int]:
        """Return the quarantine of a key and the revision of its document; None and 0 where there is none."""
        for stored in self._of(Quarantine).values():
            if isinstance(stored.resource, Quarantine) and stored.resource.spec.key == key:
                return stored.resource, stored.revision
        return None, 0

    def _of(self, kind: type[Resource]) -> dict[str, _Stored]:
        return self._cached.setdefault(kind.plural, {})

    def _sorted_names(self, plural: str) -> list[str]:
        if plural not in self._names:
            self._names[plural] = sorted(self._cached.get(plural, ()))
        return self._names[plural]

    def _remember(self, stored: _Stored) -> None:
        resource = stored.resource
        self._forget(resource.plural, resource.name, replaced=True)
        cached = self._of(type(resource))
        if resource.name not in cached:
            self._names.pop(resource.plural, None)
        cached[resource.name] = stored
        self._changes[resource.plural].add(resource.name)
        self._count(stored.creator, stored.usage)

    def _forget(self, plural: str, name: str, replaced: bool = False) -> None:
        stored = self._cached.get(plural, {}).get(name)
        if stored is None:
            return
        self._count(stored.creator, _NONE - stored.usage)
        if not replaced:
            del self._cached[plural][name]
            self._names.pop(plural, None)
            self._changes[plural].add(name, gone=True)

    @contextmanager
    def _reserved(self, creator: str, growth: Usage) -> Iterator[None]:
        self._count(creator, growth)
        try:
            yield
        finally:
            self._count(creator, _NONE - growth)

    def _count(self, creator: str, growth: Usage) -> None:
        if growth != _NONE:
            self._usage[creator] += growth
            self._usage_in_all += growth
            if self._usage[creator] == _NONE:
                del self._usage[creator]


def _at_version(resource: R, revision: int) -> R:
    metadata = resource.metadata.model_copy(update={"resource_version": str(revision)})
    return resource.model_copy(update={"metadata": metadata})


def _key(resource: Resource) -> str:
    return f"{resource.plural}.{resource.name}"
