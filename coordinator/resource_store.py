"""Resources in JetStream key-value, written by compare-and-set and read from a copy in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from heliograph.bus.contract.buckets import RESOURCES
from heliograph.bus.contract.event import parse
from heliograph.bus.contract.registry import declared, parse_resource
from heliograph.bus.contract.resources import Metadata, Quarantine, QuarantineSpec, QuarantineStatus, Resource
from heliograph.bus.transport import KeyValue, KeyValueEntry
from heliograph.core.errors import Conflict, Refused
from heliograph.core.failures import sentence_of
from heliograph.core.names import is_label, join_labels
from heliograph.core.world import World

R = TypeVar("R", bound=Resource)


class ResourceStore:
    """Every resource, keyed ``<plural>.<name>``. A write by another coordinator raises Conflict.

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
        self._cached: dict[str, dict[str, tuple[Resource, int]]] = {}
        """By plural and name."""

    async def load(self) -> list[str]:
        """Read all resources. Return a line for each that cannot be read; it stays in the bucket."""
        unreadable = []
        self._cached.clear()
        for entry in await self._kv.entries():
            found = self._read(entry)
            if isinstance(found, Quarantine):
                unreadable.append(f"resource {entry.key} is in quarantine: {found.spec.reason}")
        return unreadable

    def all(self, kind: type[R]) -> list[R]:
        """Return the resources of a kind, sorted by name."""
        return [found for _, (found, _) in sorted(self._of(kind).items()) if isinstance(found, kind)]

    def get(self, kind: type[R], name: str) -> R | None:
        found, _ = self._of(kind).get(name, (None, 0))
        return found if isinstance(found, kind) else None

    async def create(self, resource: R) -> R:
        """Store a new resource with a new uid, and return it. Raise Conflict where the name is taken, Refused where an
        unreadable document has it; one that only coordinators write is replaced."""
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
                "resource_version": "",
            }
        )
        created = await self._write(resource.model_copy(update={"metadata": metadata}), revision)
        if quarantine is not None:
            self._of(Quarantine).pop(quarantine.name, None)
            self._on_release(quarantine)
        return created

    async def put(self, resource: R) -> R:
        """Replace the resource that was read last. Raise Conflict where another coordinator has written meanwhile."""
        known, revision = self._of(type(resource)).get(resource.name, (None, 0))
        if known is resource:
            return resource
        return await self._write(resource, revision)

    async def delete(self, resource: Resource) -> None:
        """Delete a resource; with a quarantine, the unreadable document."""
        await self._kv.delete(resource.spec.key if isinstance(resource, Quarantine) else _key(resource))
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
        self._remember(found, entry.revision)
        return found

    def _quarantine(self, entry: KeyValueEntry, reason: str) -> Quarantine:
        parts = entry.key.split(".")
        plural, name = parts[0], parts[-1]
        if len(parts) == 2 and is_label(plural) and is_label(name):
            self._of_plural(plural).pop(name, None)
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
        for found, revision in self._of(Quarantine).values():
            if isinstance(found, Quarantine) and found.spec.key == key:
                return found, revision
        return None, 0

    def _of_plural(self, plural: str) -> dict[str, tuple[Resource, int]]:
        return self._cached.setdefault(plural, {})

    def _of(self, kind: type[Resource]) -> dict[str, tuple[Resource, int]]:
        return self._of_plural(kind.plural)

    def _remember(self, resource: Resource, revision: int) -> None:
        self._of(type(resource))[resource.name] = (resource, revision)


def _key(resource: Resource) -> str:
    return f"{resource.plural}.{resource.name}"
