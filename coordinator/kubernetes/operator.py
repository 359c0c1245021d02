"""The operator: custom resources of Kubernetes and resources of the cloud are kept the same, while this coordinator
leads.

Changes of both sides come in as keys of a queue. For each key the operator looks at both sides as they are known now,
decides how they are related, and takes the steps that follow. It asks for changes of resources as any caller does: the
same checks, quotas, rights and audit apply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from heliograph.bus.contract.custom_resources.definitions import KINDS
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.resources import Condition, Resource
from heliograph.coordinator.api.request import Answer, Request
from heliograph.coordinator.authorization.managed import creator_in
from heliograph.coordinator.authorization.rights import Rights
from heliograph.coordinator.kubernetes.api import Api, Kind, Object
from heliograph.coordinator.kubernetes.custom_writer import CustomWriter
from heliograph.coordinator.kubernetes.documents import UID, custom_kind, request_document
from heliograph.coordinator.kubernetes.events import EventRecorder
from heliograph.coordinator.kubernetes.list_watch import Follower
from heliograph.coordinator.kubernetes.relation import Relation, relation_of
from heliograph.coordinator.kubernetes.work_queue import WorkQueue
from heliograph.coordinator.kubernetes.worker_job import PodSettings
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures
from heliograph.core.world import World

AT_ONCE = 16
"""Keys that are handled at the same time, at most."""
STATUS_EVERY = 1.0
"""Seconds between two writes of one status, at least: rounds may be shorter."""
REFUSED_AGAIN = 60.0
"""Seconds until a spec that was refused is tried again: a quota, or whatever else it lacked, may be there then."""
ACCEPTED = "Accepted"
"""Type of the condition that says whether the cloud has taken a custom resource's spec."""


class Key(NamedTuple):
    """One custom resource, or where one is to be."""

    plural: str
    """As requests have it: ``jobs``."""
    namespace: str
    name: str


@dataclass(frozen=True)
class OperatorSettings:
    """What an operator looks after.

    Attributes:
        home: the namespace in which resources of no project are shown, such as edges.
        namespaces: those to look at; empty for all.
        pods: what the pods of workers may be; None where no worker is one.
    """

    home: str = "default"
    namespaces: Collection[str] = ()
    pods: PodSettings | None = None

    def follows(self, namespace: str) -> bool:
        return not self.namespaces or namespace in self.namespaces


class _Applied(NamedTuple):
    """What was applied last of a custom resource, and why it was refused."""

    mark: int
    """Tells custom resource and spec apart from others."""
    refusal: Refused | None
    at: float


class Operator:
    """Keeps custom resources and resources the same.

    Args:
        handle: handles a request for a resource.
        cloud: id of this cloud; custom resources that another one's operator looks after are left alone.
    """

    def __init__(
        self, api: Api, store: ResourceStore, handle: Callable[[Request], Awaitable[Any]], cloud: str,
        settings: OperatorSettings, world: World, failures: Failures, warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._cloud = cloud
        self._warn = warn
        self._problems: set[str] = set()
        """What has been said of the API server since it answered last: all kinds say the same of it."""
        self._store = store
        self._handle = handle
        self._settings = settings
        self._queue = WorkQueue(self._reconcile, lambda key: "/".join(("kubernetes", *key)), world, failures)
        self._kinds: dict[str, type[Resource]] = {
            kind.plural: kind for kind in declared().kinds.values() if kind.__name__ in KINDS
        }
        self._custom_kinds = {plural: custom_kind(kind) for plural, kind in self._kinds.items()}
        self._plurals = {kind: plural for plural, kind in self._custom_kinds.items()}
        only = next(iter(settings.namespaces)) if len(settings.namespaces) == 1 else ""
        self._followers = {
            plural: Follower(api, kind, world, self._custom_changed, self._tell_problem, namespace=only,
                             resumed=self._look_at_all)
            for plural, kind in self._custom_kinds.items()
        }
        self._writer = CustomWriter(api, world, cloud)
        self._events = EventRecorder(api, world, failures)
        self._world = world
        self._applied: dict[Key, _Applied] = {}
        self._seen: set[str] = set()
        """Uids of custom resources that were seen beside the resources made from them: this Kubernetes is theirs."""

    def manages(self, resource: Resource) -> bool:
        """Whether the custom resource that a resource was made from is seen at present."""
        follower = self._followers.get(resource.plural)
        return follower is not None and follower.synced.is_set() and not follower.problem and (
            (resource.project, resource.name) in follower.objects
        )  # fmt: skip

    async def run(self) -> None:
        """Keep both sides the same until cancelled."""
        async with asyncio.TaskGroup() as group:
            for plural, follower in self._followers.items():
                group.create_task(follower.run())
                group.create_task(self._look_once_synced(plural))
            group.create_task(self._queue.run(AT_ONCE))

    def resource_changed(self, resource: Resource) -> None:
        """Take note that a resource was written or deleted."""
        if resource.plural not in self._kinds:
            return
        key = Key(resource.plural, resource.project or self._settings.home, resource.name)
        if self._settings.follows(key.namespace):
            self._queue.add(key, self._writer.pause(key, STATUS_EVERY))

    def _custom_changed(self, kind: Kind, namespace: str, name: str) -> None:
        if self._settings.follows(namespace):
            self._queue.add(Key(self._plurals[kind], namespace, name))

    async def _look_once_synced(self, plural: str) -> None:
        """Look at all resources of a kind once its custom resources are known: some may have come or gone while nobody
        looked."""
        await self._followers[plural].synced.wait()
        self._look_at_all(self._custom_kinds[plural])

    def _tell_problem(self, line: str) -> None:
        if line not in self._problems:
            self._problems.add(line)
            self._warn(line)

    def _look_at_all(self, kind: Kind) -> None:
        self._problems.clear()
        for resource in self._store.all(self._kinds[self._plurals[kind]]):
            self.resource_changed(resource)

    async def _reconcile(self, key: Key) -> None:
        follower = self._followers[key.plural]
        if not follower.synced.is_set() or follower.problem:
            return  # all keys come again once the API answers
        custom = follower.objects.get((key.namespace, key.name))
        resource = self._store.get(self._kinds[key.plural], key.name)
        relation = relation_of(custom, resource, key.namespace, self._cloud)
        if custom is None:
            self._applied.pop(key, None)
            self._writer.forget(key)
        match relation:
            case Relation.NOTHING | Relation.FOREIGN:
                return
            case Relation.NEW | Relation.OWN:
                assert custom is not None
                await self._apply(key, custom)
                self._seen.add(custom["metadata"]["uid"])
            case Relation.TAKEN:
                assert custom is not None and resource is not None
                await self._tell_taken(key, custom, resource)
            case Relation.REPLACED | Relation.ORPHAN:
                assert resource is not None
                await self._part(key, custom, resource)
            case Relation.LEAVING:
                assert custom is not None
                await self._let_go(key, custom)
            case Relation.LEFT:
                assert custom is not None
                await self._writer.release(self._custom_kinds[key.plural], custom)
            case Relation.UNSHOWN | Relation.MIRRORED:
                assert resource is not None
                restored = await self._writer.show(key, self._custom_kinds[key.plural], custom, resource)
                if custom is not None and restored:
                    owner = resource.metadata.created_by or "the coordinator"
                    await self._events.record(custom, "Warning", "Restored", f"{owner} made this {key.plural} resource"
                        " by topics, where it is changed and deleted: see 'heliograph apply'.")  # fmt: skip
            case Relation.STALE:
                assert custom is not None
                await self._writer.remove(self._custom_kinds[key.plural], custom)

    async def _part(self, key: Key, custom: Object | None, resource: Resource) -> None:
        """Delete a resource whose custom resource is gone, if it was ever seen here. Otherwise this Kubernetes is
        another one, or a backup: then the resource stays, or is taken over by a custom resource of its name."""
        uid = resource.metadata.annotations.get(UID, "")
        if uid in self._seen:
            await self._request(key, "delete", {"name": key.name})
            self._seen.discard(uid)
            self._queue.add(key)
        elif custom is not None:
            await self._apply(key, custom)
        else:
            name = f"{key.plural}/{key.name}"
            self._tell_problem(
                f"Kubernetes has no custom resource of {name}, and had none since this coordinator leads: it stays."
                f" Apply it again, or delete it here: heliograph delete {name}"
            )

    async def _apply(self, key: Key, custom: Object) -> None:
        """Create or update the resource of a custom resource, and show its status."""
        kind = self._custom_kinds[key.plural]
        custom = await self._writer.adopt(kind, custom)
        refusal = await self._applied_now(key, custom)
        generation = custom["metadata"].get("generation", 0)
        if refusal is None:
            accepted = Condition(type=ACCEPTED, status="True", reason="Accepted")
        else:
            accepted = Condition(type=ACCEPTED, status="False", reason=_camel(refusal.code), message=str(refusal))
            self._queue.add(key, REFUSED_AGAIN)
        resource = self._store.get(self._kinds[key.plural], key.name)
        told = await self._writer.tell(key, kind, custom, resource, accepted, generation)
        await self._record(custom, told, accepted)

    async def _applied_now(self, key: Key, custom: Object) -> Refused | None:
        """Apply a custom resource's spec unless it is applied; return why it is refused."""
        metadata = custom["metadata"]
        document = request_document(custom)
        mark = hash(repr((document["metadata"], metadata.get("generation", 0))))
        known = self._applied.get(key)
        resource = self._store.get(self._kinds[key.plural], key.name)
        if known is not None and known.mark == mark:
            if known.refusal is None and resource is not None:
                return None
            if known.refusal is not None and self._world.monotonic() < known.at + REFUSED_AGAIN:
                return known.refusal
        refusal = None
        try:
            await self._request(key, "create" if resource is None else "update", document)
        except Refused as error:
            refusal = error
        self._applied[key] = _Applied(mark, refusal, self._world.monotonic())
        return refusal

    async def _tell_taken(self, key: Key, custom: Object, other: Resource) -> None:
        where = f"project {other.project}" if other.project != key.namespace else "this project"
        maker = other.metadata.created_by or "the coordinator"
        message = (f"expected a name that is free, got {key.name}: {maker} made"
                   f" a resource of that name in {where}. Choose another name, or delete that one first.")  # fmt: skip
        taken = Condition(type=ACCEPTED, status="False", reason="Taken", message=message)
        kind = self._custom_kinds[key.plural]
        told = await self._writer.tell(key, kind, custom, None, taken, custom["metadata"].get("generation", 0))
        await self._record(custom, told, taken)
        self._queue.add(key, REFUSED_AGAIN)  # the other one may lie elsewhere: its end is no change of this key

    async def _let_go(self, key: Key, custom: Object) -> None:
        """Delete the resource of a custom resource that is being deleted; say why where that is refused."""
        kind = self._custom_kinds[key.plural]
        try:
            await self._request(key, "delete", {"name": key.name})
        except Refused as error:
            if error.code != "not-found":
                kept = Condition(type="Deletable", status="False", reason=_camel(error.code), message=str(error))
                resource = self._store.get(self._kinds[key.plural], key.name)
                await self._writer.tell(key, kind, custom, resource, kept, custom["metadata"].get("generation", 0))
                raise  # again later: what needs it may end
        await self._writer.release(kind, custom)

    async def _record(self, custom: Object, told: Mapping[str, Any] | None, accepted: Condition) -> None:
        """Record an event where a status with another phase, or another answer, was written."""
        if told is None:
            return
        before = custom.get("status", {})
        if accepted.status == "False":
            await self._events.record(custom, "Warning", accepted.reason, accepted.message)
        elif (phase := told.get("phase")) and phase != before.get("phase"):
            failed = phase == "Failed"
            await self._events.record(custom, "Warning" if failed else "Normal", str(phase), _why(told))

    async def _request(self, key: Key, verb: str, document: dict[str, Any]) -> Any:
        """Send a request with the rights of the namespace's project. Raise Refused."""
        creator = creator_in(key.namespace)
        rights = Rights(creator, {key.namespace: "admin"})
        topic = f"kubernetes/{key.plural}/{key.namespace}/{key.name}"
        if verb not in declared().verbs[key.plural]:
            raise Refused("unknown-verb", topic=topic, field="kind", expected="a kind that people create",
                          got=self._kinds[key.plural].__name__, hint="Edges come by enrolling.")  # fmt: skip
        answer = await self._handle(Request(key.plural, verb, document, topic, creator, rights))
        return answer.result if isinstance(answer, Answer) else answer


def _camel(code: str) -> str:
    """Return a code such as ``not-found`` as a reason: ``NotFound``."""
    return "".join(part.capitalize() for part in code.split("-")) or "Refused"


def _why(status: Mapping[str, Any]) -> str:
    """Return what a status says about its phase in words."""
    messages = [each["message"] for each in status.get("conditions", ()) if each.get("message")]
    return "; ".join(messages)[:500] or f"phase {status.get('phase')}"
