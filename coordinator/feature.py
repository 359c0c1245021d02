"""What a feature is to the coordinator, what its controller works with, and the features that are installed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from heliograph.bus.contract.payloads import WorkerTask
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.resources import Resource
from heliograph.bus.port import Port
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.registry.model_versions import ModelVersions
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Conflict, Refused
from heliograph.core.tasks import Background

R = TypeVar("R", bound=Resource)
Part = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class ControllerContext:
    """The surroundings of a controller.

    Attributes:
        versions: adds the versions of models.
        background: runs what nobody waits for.
        view: what the decisions are made from.
        lock: guards the resource of that plural and name while it is read, decided on and written.
        show: sets a resource's retained status.
        write_desired: writes the edges' desired documents where they have changed.
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
                    continue  # decide again on what has been written meanwhile
                return before, after


class Feature(Generic[R]):
    """A feature's coordinator part: the controller of one kind of resource.

    A new one is made each time this coordinator begins to lead. Every method has a default, which suits a kind that is
    only kept; a feature overrides what it needs. ``may_change``, ``changed``, ``steer`` and ``may_delete`` are called
    under the resource's lock.

    Args:
        kind: the resource class of its declaration.
    """

    def __init__(self, context: ControllerContext, kind: type[R]) -> None:
        self.context = context
        self.kind = kind

    def resources(self) -> list[R]:
        """Its resources, in the order of their names."""
        return self.context.store.all(self.kind)

    # how it begins and runs

    async def prepare(self) -> None:
        """Read what outlives a coordinator. Called before anything else, and again where the broker went away."""

    def parts(self) -> Sequence[Part]:
        """What runs beside the requests for as long as this coordinator leads: followers of topics, writers of
        statistics. A part that raises a HeliographError is run again."""
        return ()

    async def begin(self) -> None:
        """Awaited when every edge's report has been read, before the first ``reconcile``."""

    @property
    def busy(self) -> bool:
        """Whether a message that got lost would delay something: the coordinator then looks again sooner."""
        return False

    # what an owner asks of its resources

    def validate(self, resource: R, topic: str) -> None:
        """Raise Refused, naming ``topic`` and the field, where nobody can run what a valid document asks for."""

    def may_change(self, known: R, wanted: R, topic: str) -> None:
        """Raise Refused where the spec of ``known`` may not become that of ``wanted``."""

    def changed(self, known: R, changed: R) -> R:
        """Return the resource with its new spec, and with the status that follows from the change."""
        return changed

    def steer(self, resource: R, verb: str, topic: str) -> R:
        """Return the resource after a verb of the feature's own: ``stop``, ``start``."""
        raise Refused("unknown-verb", topic=topic, field="verb", expected="a verb that the feature answers", got=verb)

    def may_delete(self, other: Resource, topic: str) -> None:
        """Raise Refused where a resource of any kind, which is about to be deleted, is needed by one of its own."""

    async def removed(self, resource: R) -> None:
        """Delete what was kept for one of its resources, which is gone."""

    # what follows for the edges

    async def catch_up(self) -> None:
        """Read again what a lost message would have brought. Called at each resync."""

    async def reconcile(self) -> None:
        """Take the steps that follow from the edges' presence and reports. The caller then writes the desired
        documents, once for all features."""

    def desired(self, view: View) -> Iterable[Mapping[str, list[WorkerTask]]]:
        """What each edge shall run: a mapping for each resource, from edge to tasks. The caller changes none of the
        lists; those that stay the same objects cost nothing."""
        return ()


class Features:
    """The features of this coordinator, in the order of their declarations."""

    def __init__(self, context: ControllerContext) -> None:
        self._by_plural: dict[str, Feature[Any]] = {}
        for plural, declaration in declared().features.items():
            make: type[Feature[Any]]
            try:
                make = declaration.load("coordinator") or Feature
            except Refused as error:
                context.warn(str(error))
                make = _Missing
            self._by_plural[plural] = make(context, declaration.kind)

    def __iter__(self) -> Iterator[Feature[Any]]:
        return iter(self._by_plural.values())

    def of(self, plural: str) -> Feature[Any]:
        """The feature with resources of that plural."""
        return self._by_plural[plural]

    @property
    def busy(self) -> bool:
        return any(feature.busy for feature in self)


class _Missing(Feature[Any]):
    """Stands for a feature that cannot be imported: its resources are kept, and no further one is taken."""

    def validate(self, resource: Resource, topic: str) -> None:
        raise Refused("broken-feature", topic=topic, field="kind", expected="a kind that this coordinator can run",
                      got=self.kind.__name__, hint="The coordinator's log says what is wrong with it.")  # fmt: skip
