"""A feature's part of the coordinator: the controller protocol, its context, and the installed features."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from heliograph.bus.contract.garbage import Garbage
from heliograph.bus.contract.model_requests import EdgeDeployment
from heliograph.bus.contract.payloads import EdgeLoop, VersionStats, WorkerTask
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.resources import Model, Resource
from heliograph.bus.contract.scopes import Scope
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.garbage.lives import Lives
from heliograph.coordinator.garbage.references import named_blobs
from heliograph.coordinator.garbage.superfluous import Superfluous
from heliograph.coordinator.identity.issuer import Issuer
from heliograph.coordinator.registry.model_versions import ModelVersions
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Conflict, Refused
from heliograph.core.failures import Failures
from heliograph.core.tasks import Background

R = TypeVar("R", bound=Resource)
Part = Callable[[], Coroutine[Any, Any, None]]


async def _at_once(edge: str) -> None:
    """Wait for nothing: a context without a broker."""


async def _nothing(resource: Resource) -> None:
    """Delete nothing: a context without a store."""


@dataclass(frozen=True)
class ControllerContext:
    """Services of the coordinator that a controller uses.

    Attributes:
        versions: adds versions to models.
        background: runs tasks that nobody waits for.
        view: returns the edges and models as they are known now, for decisions.
        lock: returns the lock of the resource of that plural and name; it guards reading, deciding and writing.
        show: sets a resource's retained status.
        write_desired: writes the edges' desired documents where they have changed.
        out, warn: print a line, and a warning that also goes to the log topic.
        failures: contains what goes wrong with one message or resource.
        collect: collects garbage; with True only says what there is.
        doors: external MQTT brokers, whose clients hear only what is published there too.
        features: returns the installed features.
        let_fetch: lets an edge fetch a model of a job, before its desired document names it: edge, job's uid, digest.
        remove: deletes a resource and what is stored for it, whatever features say.
        offline: returns once the broker has said that an edge of that name is not connected.
        issuer: signs logins; None where this coordinator has no authority.
        unnamed: what a login may do that no User names, the scope by project.
    """

    port: Port
    store: ResourceStore
    versions: ModelVersions
    background: Background
    view: Callable[[], View]
    lock: Callable[[str, str], asyncio.Lock]
    show: Callable[[Resource], None]
    write_desired: Callable[[], Awaitable[None]]
    out: Callable[[str], None]
    warn: Callable[[str], None]
    failures: Failures
    collect: Callable[[bool], Awaitable[Garbage]]
    doors: Sequence[Bus] = ()
    features: Callable[[], Iterable[Feature[Any]]] = tuple
    let_fetch: Callable[[str, str, str], None] = lambda edge, job_uid, digest: None
    remove: Callable[[Resource], Awaitable[None]] = _nothing
    offline: Callable[[str], Awaitable[None]] = _at_once
    issuer: Issuer | None = None
    unnamed: Mapping[str, Scope] = field(default_factory=dict)

    async def step(
        self,
        kind: type[R],
        name: str,
        decide: Callable[[R], R],
        first: Callable[[R, R], Awaitable[None]] | None = None,
    ) -> tuple[R, R] | None:
        """Take one step of a state machine: decide, store by compare-and-set, show. Return the resource before and
        after it; None where there is none of that name.

        Args:
            first: awaited with both before anything is stored.
        """
        async with self.lock(kind.plural, name):
            while True:
                before = self.store.get(kind, name)
                if before is None:
                    return None
                after = decide(before)
                try:
                    if first is not None:
                        await first(before, after)
                    if after is not before:
                        after = await self.store.put(after)
                        self.show(after)
                except Conflict:
                    continue  # another write came first: decide again on its result
                return before, after


class Feature(Generic[R]):
    """A feature's coordinator part: the controller of one kind of resource.

    The coordinator makes a new one each time it begins to lead. Every method has a default, which suits a kind that is
    only stored; a feature overrides the methods it needs. The coordinator calls ``may_change``, ``changed``, ``steer``,
    ``steering`` and ``may_delete`` under the resource's lock.

    Args:
        kind: the resource class of the feature's declaration.
    """

    def __init__(self, context: ControllerContext, kind: type[R]) -> None:
        self.context = context
        self.kind = kind

    def resources(self) -> list[R]:
        """Return the feature's resources, sorted by name."""
        return self.context.store.all(self.kind)

    # begin and run

    async def prepare(self) -> None:
        """Read the state that outlives a coordinator. Called before anything else, and again after a lost link."""

    def parts(self) -> Sequence[Part]:
        """Return coroutines that run as long as this coordinator leads: followers of topics, writers of statistics.
        A part that raises a HeliographError is run again."""
        return ()

    async def begin(self) -> None:
        """Prepare the first ``reconcile``. Called once every edge's report has been read."""

    @property
    def busy(self) -> bool:
        """Whether a lost message would delay a resource; the coordinator then resyncs sooner."""
        return False

    # requests for its resources

    def validate(self, resource: R, topic: str) -> None:
        """Raise Refused, with ``topic`` and the field, where no agent can run a valid document."""

    def may_change(self, known: R, wanted: R, topic: str) -> None:
        """Raise Refused where the spec of ``known`` may not change to that of ``wanted``."""

    def changed(self, known: R, changed: R) -> R:
        """Return ``changed``, the resource with its new spec, with the status that follows from the change."""
        return changed

    def steer(self, resource: R, verb: str, topic: str) -> R:
        """Return the resource after a verb of the feature's own: ``stop``, ``start``. Raise Refused for others."""
        raise Refused("unknown-verb", topic=topic, field="verb", expected="a verb that the feature answers", got=verb)

    async def steering(self, resource: R, steered: R) -> None:
        """Prepare what has to be there once ``steered``, the result of ``steer``, is stored."""

    async def answer(
        self, verb: str, body: BaseModel, resource: R | None, caller: str
    ) -> BaseModel | Mapping[str, Any]:
        """Return the result of a ``Verb`` that the feature declares. A resource is answered as its public document.

        The lock of the resource is not held: a feature that changes one does so by ``context.step``, which decides on
        the newest. Where ``body`` is a ``Change``, the decision calls ``body.check`` with that resource, and with
        ``dry_run`` nothing may change.

        Args:
            body: the validated request, an instance of the verb's ``body``.
            resource: the resource that ``body.name`` names; None for a verb without a name.
            caller: the caller that the reply address names; empty without one.
        """
        raise Refused("unknown-verb", field="verb", expected="a verb that the feature answers", got=verb)

    def may_delete(self, other: Resource, topic: str) -> None:
        """Raise Refused where one of the feature's resources needs ``other``, which is about to be deleted."""

    async def removed(self, resource: R) -> None:
        """Delete the state of a resource that was deleted."""

    # garbage

    async def used_blobs(self, gone: Collection[str] = ()) -> set[str]:
        """Return the digests of the blobs that the feature's resources need; nobody deletes these.

        Args:
            gone: names of things that ``superfluous`` gave up, which count as deleted.
        """
        found = set[str]()
        for resource in self.resources():
            found |= named_blobs(resource).union(resource.pinned_digests)
        return found

    async def superfluous(self, lives: Lives, used: Collection[str]) -> Sequence[Superfluous]:
        """Return what has come to the end of its life among the feature's things, oldest first.

        Args:
            used: digests of the blobs that the resources of other features need.
        """
        return ()

    # consequences for the edges

    async def catch_up(self) -> None:
        """Read again the state that a lost message would have brought. Called at each resync."""

    async def reconcile(self) -> None:
        """Step the state machines after a change of presence, reports or resources. The caller then writes the desired
        documents, once for all features."""

    def deployments(self, model: Model) -> Iterable[EdgeDeployment]:
        """Return what each edge runs of a model for the feature's resources, and what it shall run."""
        return ()

    def counted(self, model: str) -> Mapping[str, VersionStats]:
        """Return what the feature's workers have counted of each version of a model, by its digest."""
        return {}

    def drifts(self, model: str) -> Mapping[str, Mapping[str, float]]:
        """Return what detectors of drift have seen of a model, by the edges that serve it; see ``InferenceStats``."""
        return {}

    def edge_loops(self, view: View) -> Mapping[str, Mapping[str, EdgeLoop]]:
        """Return the loops that agents run by themselves, by edge and by the job's name. Edges may share a mapping."""
        return {}

    def desired(self, view: View) -> Iterable[Mapping[str, list[WorkerTask]]]:
        """Return one mapping for each resource, from edge to the tasks it has to run. The caller changes none of the
        lists; comparing a list that is still the same object costs nothing."""
        return ()


class InstalledFeatures:
    """The features of this coordinator, in the order of their declarations. Warns about one that cannot be imported."""

    def __init__(self, context: ControllerContext) -> None:
        self._by_plural: dict[str, Feature[Any]] = {}
        for plural, declaration in declared().features.items():
            make: type[Feature[Any]]
            try:
                make = declaration.load("coordinator") or Feature
            except Refused as error:
                context.warn(str(error))
                make = _BrokenFeature
            self._by_plural[plural] = make(context, declaration.kind)

    def __iter__(self) -> Iterator[Feature[Any]]:
        return iter(self._by_plural.values())

    def of(self, plural: str) -> Feature[Any]:
        """Return the feature whose resources have that plural."""
        return self._by_plural[plural]

    @property
    def busy(self) -> bool:
        return any(feature.busy for feature in self)


class _BrokenFeature(Feature[Any]):
    """Stands for a feature that cannot be imported: its resources stay stored, new ones are refused, and no garbage is
    collected, since nobody knows what they need."""

    def validate(self, resource: Resource, topic: str) -> None:
        raise self._refusal(topic)

    async def used_blobs(self, gone: Collection[str] = ()) -> set[str]:
        raise self._refusal("")

    def _refusal(self, topic: str) -> Refused:
        return Refused("broken-feature", topic=topic, field="kind", expected="a kind that this coordinator can run",
                       got=self.kind.__name__, hint="The coordinator's log names the import error.")  # fmt: skip
