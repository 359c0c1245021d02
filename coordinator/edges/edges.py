"""The edges: take their reports and presence, keep the view for decisions, and write their resources.

Reports come faster than resources can be written. An edge that has changed several times is written once, with its
newest state; resources that many edges share (data sets, algorithms) are written once for a batch of edges.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import islice

from heliograph.bus.contract.payloads import Generation, Offer, Report
from heliograph.bus.contract.resources import Edge, Metadata, Resource
from heliograph.bus.nats.authority_keys import Origin
from heliograph.coordinator.edges import damping
from heliograph.coordinator.edges.reported import (
    algorithms_of,
    algorithms_without,
    datasets_of,
    datasets_without,
    edge_of,
)
from heliograph.coordinator.edges.view import EdgeView
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Conflict, HeliographError
from heliograph.core.failures import Failures
from heliograph.core.tasks import Background
from heliograph.core.world import World

MAX_CONCURRENT = 64
"""Edges whose resources are written at the same time."""
NOTHING = Generation()


class Edges:
    """The edges of one coordinator.

    Args:
        save: stores a resource and shows its status.
        changed: called when an input of decisions has changed.
        origin: returns how an edge has enrolled, where the cloud's authority knows: an edge that was deleted, and comes
            back by its report, has that again.
        is_ahead: returns whether an edge has reported a later generation than that of its document.
    """

    def __init__(
        self,
        store: ResourceStore,
        world: World,
        save: Callable[[Resource], Awaitable[None]],
        changed: Callable[[], None],
        background: Background,
        failures: Failures,
        origin: Callable[[str], Origin | None] = lambda edge: None,
        is_ahead: Callable[[str], bool] = lambda edge: False,
    ) -> None:
        self._origin = origin
        self._is_ahead = is_ahead
        self._store = store
        self._world = world
        self._save = save
        self._changed = changed
        self._background = background
        self._failures = failures
        self._reports: dict[str, Report] = {}
        self._offers: dict[str, Offer] = {}
        self._connected: dict[str, damping.Damped] = {}
        self._foreign = {edge.name for edge in store.all(Edge) if edge.status.foreign}
        """Participants that train by themselves."""
        self._views: dict[str, EdgeView] = {}
        self._moved = asyncio.Event()
        """Set, and replaced, at each change of ``views``."""
        self.changes = 0
        """Grows with each change of ``views``."""
        self._due: dict[str, None] = {}
        """Edges whose resources may have to be written."""
        self._wake = asyncio.Event()
        self._full: dict[str, list[str]] = {}
        """By edge, what the cloud knows of a store of it that has no room left."""

    def set_full(self, full: Mapping[str, list[str]]) -> None:
        """Take which edges' stores in the cloud have no room left: a sentence each, with what to do. The cloud's own
        are those of the edge ``cloud``."""
        before, self._full = self._full, dict(full)
        for edge in sorted(full.keys() | before.keys()):
            if full.get(edge) != before.get(edge) and edge in self._views:
                self._update_view(edge)
                self._write_soon(edge)
                self._changed()

    def offered(self, edge: str, offers: Offer) -> None:
        """Take what an edge's workers can run. It is part of the edge's report for every reader."""
        self._offers[edge] = offers
        if (report := self._reports.get(edge)) is not None:
            self.reported(edge, report)

    def reported(self, edge: str, report: Report) -> None:
        """Take an edge's newest report."""
        if (offers := self._offers.get(edge)) is not None:
            report = report.model_copy(update={"offers": offers})
        known = self._reports.get(edge)
        self._reports[edge] = report
        self._update_view(edge)
        self._write_soon(edge)
        if known is None or _decision_inputs(known) != _decision_inputs(report) or self._is_ahead(edge):
            self._changed()

    def connection_changed(self, edge: str, online: bool, foreign: bool = False) -> None:
        """Take the broker's event that an edge has connected, or gone.

        Args:
            foreign: whether it is a participant that trains by itself.
        """
        (self._foreign.add if foreign else self._foreign.discard)(edge)
        before = self._connected.get(edge, damping.Damped())
        present = self._connected[edge] = before.after(online, self._world.monotonic())
        self._background.spawn(self._show_presence(edge, present))

    async def forget(self, edge: str) -> None:
        """Forget a deleted edge, also as a holder of data sets and algorithms."""
        for known in (self._reports, self._offers, self._connected, self._views, self._due):
            known.pop(edge, None)
        self._foreign.discard(edge)
        self._views_changed()
        nothing = Report(edge=edge, observed=Generation())
        for dataset in datasets_of(self._store, {edge: nothing}, self._world.timestamp()):
            await self._save(dataset)
        for dataset in datasets_without(self._store, edge):
            await self._save(dataset)
        for algorithm in algorithms_without(self._store, edge):
            await self._save(algorithm)
        self._changed()

    async def offline(self, edge: str) -> None:
        """Return once the broker has said that an edge is not connected."""
        while edge in self._views and self._views[edge].online:
            await self._moved.wait()

    def assume_online(self, *edges: str) -> None:
        """Assume these edges online until the broker answers."""
        for edge in edges:
            self._connected.setdefault(edge, damping.Damped(online=True))
            self._update_view(edge)

    def __len__(self) -> int:
        return len(self._views)

    def version(self, edge: str) -> str:
        """Return the version that an edge's agent has reported; empty where it has not reported yet."""
        return report.version if (report := self._reports.get(edge)) is not None else ""

    def observed(self, edge: str) -> Generation:
        """Return the generation of the document that an edge has reported; the lowest where it has not reported."""
        return report.observed if (report := self._reports.get(edge)) is not None else NOTHING

    def online(self) -> list[str]:
        """Return the edges that are online, sorted."""
        return sorted(edge for edge, view in self._views.items() if view.online)

    def views(self) -> dict[str, EdgeView]:
        """Return the edges as decisions see them, by name."""
        return dict(self._views)

    def recheck_presence(self) -> None:
        """Compare every edge's presence with its resource, in case a message was lost."""
        for edge in sorted(self._views):
            self._update_view(edge)
            shown = self._store.get(Edge, edge)
            if shown is None or shown.status.online != self._views[edge].online:
                self._write_soon(edge)

    def write_all_soon(self) -> None:
        """Let ``run`` write every edge's resource where it differs."""
        for edge in sorted(self._views):
            self._write_soon(edge)

    async def run(self) -> None:
        """Write the resources of edges that have changed, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._due:
                batch = [*islice(self._due, MAX_CONCURRENT)]
                for edge in batch:
                    del self._due[edge]
                try:
                    await asyncio.gather(*(self._write_contained(edge) for edge in batch))
                    with self._failures.contain("data sets and algorithms of reports"):
                        await self._retry_on_conflict(partial(self._write_shared, batch))
                except HeliographError:
                    self._due |= dict.fromkeys(batch)
                    self._wake.set()
                    raise

    async def _show_presence(self, edge: str, present: damping.Damped) -> None:
        """Show the presence now, and again when damping ends; stop once it has changed."""
        while self._connected.get(edge) is present:
            now = self._world.monotonic()  # read first: a timer may end early; a change due just after counts as due
            self._presence_changed(edge)
            wait = present.next_change_in(now)
            if wait is None:
                return
            await self._world.sleep(wait)

    def _presence_changed(self, edge: str) -> None:
        self._update_view(edge)
        self._write_soon(edge)
        self._changed()

    def _update_view(self, edge: str) -> None:
        online = edge in self._connected and self._connected[edge].shown_online(self._world.monotonic())
        report, known, foreign = self._reports.get(edge), self._views.get(edge), edge in self._foreign
        full, stored = tuple(self._full.get(edge, ())), self._store.get(Edge, edge)
        project = stored.project if stored is not None else ""
        if (
            known is None
            or known.report is not report
            or (known.online, known.foreign, known.full, known.project) != (online, foreign, full, project)
        ):
            self._views[edge] = EdgeView(edge, online, report, foreign, full, project)
            self._views_changed()

    def _views_changed(self) -> None:
        self.changes += 1
        self._moved.set()
        self._moved = asyncio.Event()

    def _write_soon(self, edge: str) -> None:
        self._due[edge] = None
        self._wake.set()

    @staticmethod
    async def _retry_on_conflict(write: Callable[[], Awaitable[None]]) -> None:
        """Retry once after a conflict: the store has read the other coordinator's write."""
        try:
            await write()
        except Conflict:
            await write()

    async def _write_contained(self, edge: str) -> None:
        with self._failures.contain(f"edge {edge}"):
            await self._retry_on_conflict(partial(self._write, edge))

    async def _write(self, name: str) -> None:
        before = self._store.get(Edge, name)
        seen = self._views.get(name)
        if seen is None:  # deleted meanwhile
            return
        flaps = self._connected[name].flaps(self._world.monotonic()) if name in self._connected else 0
        edge = edge_of(before or Edge(metadata=Metadata(name=name)), seen.report, seen.online, flaps,
                       self._world.timestamp(), seen.foreign, seen.full, self._origin(name))  # fmt: skip
        if before is None or edge != before:
            await self._save(edge)

    async def _write_shared(self, edges: list[str]) -> None:
        reports = {edge: report for edge in edges if (report := self._reports.get(edge)) is not None}
        for dataset in datasets_of(self._store, reports, self._world.timestamp()):
            with self._failures.contain(f"data set {dataset.name}"):
                await self._save(dataset)
        for algorithm in algorithms_of(self._store, reports, self._failures):
            with self._failures.contain(f"algorithm {algorithm.name}"):
                await self._save(algorithm)


def _decision_inputs(report: Report) -> object:
    """Return the part of a report that decisions, or a job's status, depend on; a worker's progress and the number of
    samples that wait do not count."""
    workers = [(each.worker, each.job_uid, each.role, each.detail, each.restarts, each.final, each.queued, each.key,
                each.state in ("running", "finished")) for each in report.workers]  # fmt: skip
    loops = {name: (each.uid, each.generation, each.state.model_copy(update={"waiting": 0}))
             for name, each in report.loops.items()}  # fmt: skip
    return (report.version, report.datasets, report.offers, report.labels, report.capacity, report.full, workers, loops,
            report.signs_rounds, report.node)  # fmt: skip
