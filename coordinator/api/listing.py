"""Lists of resources, page by page, and what has changed since a version."""

from __future__ import annotations

from bisect import bisect_right

from heliograph.bus.contract.request_bodies import ListQuery, WatchQuery
from heliograph.bus.contract.resources import Resource
from heliograph.bus.contract.topics import KIB, REPLY
from heliograph.coordinator.api.request import Answer, Request
from heliograph.coordinator.api.status_board import cut_to, public_json
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.breaks import Breaks
from heliograph.core.errors import Refused
from heliograph.core.selector import Selector
from heliograph.core.world import World

ROOM = REPLY.max_size - KIB
"""Bytes of the documents and the names of ``gone`` in one answer; the other fields have the rest of the reply."""

_BETWEEN = 4
"""Bytes of the quotes and the comma of an entry, at most."""


class Listing:
    """Answers ``list`` and ``watch``.

    The version of a kind is ``<epoch>-<number>``: the number of its newest change in this coordinator's term. Another
    term does not know what was deleted before it, so that its clients list anew.
    """

    def __init__(self, store: ResourceStore, world: World, epoch: int) -> None:
        self._store = store
        self._world = world
        self._epoch = epoch

    async def list(self, kind: type[Resource], query: ListQuery, request: Request) -> Answer:
        """Return the selected resources that the caller may read, sorted by name. Raise Refused where they are too many
        for one answer and the query has no limit."""
        selector = Selector.parse(query.selector)
        version = self._version(self._store.changes(kind))  # a change during this list is told by a watch
        names = self._store.names(kind)
        names = names[bisect_right(names, query.after) if query.after else 0 :]
        page, breaks, last = _Page(query.limit), Breaks(self._world), ""
        for name in names:
            await breaks.take()
            resource = self._store.get(kind, name)
            if resource is None or not (request.rights.sees(resource) and selector.matches(resource.selectable)):
                continue
            if not page.add(resource):
                if query.limit is None:
                    request.spend(page.size)  # its answer is short, its work is not
                    raise Refused("too-large", topic=request.topic,
                                  expected=f"resources of at most {ROOM} bytes in one answer without a limit",
                                  got=f"{len(page.documents)} {kind.plural} that fit, and more",
                                  hint="Ask with limit, and again with the continue of each answer.")  # fmt: skip
                return page.answer(version=version, **{"continue": last})
            last = name
        return page.answer(version=version)

    async def watch(self, kind: type[Resource], query: WatchQuery, request: Request) -> Answer:
        """Return the newest document of each selected resource that has changed since a version, in that order."""
        selector = Selector.parse(query.selector)
        log = self._store.change_log(kind)
        epoch, _, number = query.since.partition("-")
        changes = log.since(int(number)) if int(epoch) == self._epoch else None
        if changes is None:
            raise Refused("expired", topic=request.topic, field="since", got=query.since,
                          expected=f"a version that this coordinator remembers, up to {self._version(log.count)}",
                          hint="List the resources again, and watch from the version of that answer.")  # fmt: skip
        reached, more = int(number), False
        page, breaks = _Page(query.limit), Breaks(self._world)
        for change in changes:
            await breaks.take()
            resource = self._store.get(kind, change.name)
            if resource is not None and not request.rights.sees(resource):
                continue
            if resource is not None and selector.matches(resource.selectable):
                more = not page.add(resource)
            else:
                more = not page.add_gone(change.name)
            if more:
                break
            reached = change.number
        return page.answer(version=self._version(reached), gone=page.gone, more=more)

    def _version(self, number: int) -> str:
        return f"{self._epoch}-{number}"


class _Page:
    """The documents of one answer, as JSON, and the names of those that are gone."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self.documents: list[bytes] = []
        self.gone: list[str] = []
        self.size = 0

    def add(self, resource: Resource) -> bool:
        """Add a resource; return False where it has no room. One that is larger than an answer is cut: others follow
        it."""
        document = public_json(resource)
        if len(document) > ROOM - _BETWEEN and self._limit is not None:
            document = cut_to(resource, ROOM - _BETWEEN)
        fits = self._fits(len(document))
        if fits:
            self.documents.append(document)
        return fits

    def add_gone(self, name: str) -> bool:
        """Add a name; return False where it has no room."""
        fits = self._fits(len(name))
        if fits:
            self.gone.append(name)
        return fits

    def _fits(self, size: int) -> bool:
        self.size += size + _BETWEEN
        return self.size <= ROOM and len(self.documents) + len(self.gone) != self._limit

    def answer(self, **beside: object) -> Answer:
        return Answer(b"[" + b", ".join(self.documents) + b"]", beside)
