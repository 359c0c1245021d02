"""What each edge is to do, as all features together want it: the parts of the desired documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from heliograph.bus.contract.payloads import EdgeLoop, EdgeQueue, WorkerTask
from heliograph.bus.contract.resources import Dataset, DatasetSpec, LabelQueue
from heliograph.bus.contract.scopes import DEFAULT_PROJECT
from heliograph.coordinator.edges.desired import datasets_of, is_indexed
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import Feature, InstalledFeatures
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.breaks import Breaks
from heliograph.core.failures import Failures
from heliograph.core.world import World


class Wanted(NamedTuple):
    """The parts of desired documents, as ``DesiredWriter.decide`` takes them."""

    tasks: dict[str, tuple[list[WorkerTask], dict[str, DatasetSpec]]]
    breaks: Breaks
    queues: dict[str, EdgeQueue]
    loops: dict[str, Mapping[str, EdgeLoop]]
    projects: dict[str, str]


class WantedDocuments:
    """Collects what the features want."""

    def __init__(self, features: InstalledFeatures, store: ResourceStore, world: World, failures: Failures) -> None:
        self._features = features
        self._store = store
        self._world = world
        self._failures = failures
        self._before: dict[str, list[Mapping[str, list[WorkerTask]]]] = {}
        """By plural: the tasks of each feature at its last success. A defect of one stops no running worker."""

    async def of(self, view: View) -> Wanted:
        """Return what is wanted of the edges in a view."""
        breaks = Breaks(self._world)
        idle: list[WorkerTask] = []
        wanted = {name: idle for name, edge in view.edges.items() if not edge.foreign}
        for feature in self._features:
            for found in await self._tasks_of(feature, view, breaks):
                await breaks.take()
                for edge, tasks in found.items():  # most edges run one job: its list is used without a copy
                    if (before := wanted.get(edge)) is not None:  # a job may name an edge that has been deleted
                        wanted[edge] = [*before, *tasks] if before else tasks
        loops: dict[str, Mapping[str, EdgeLoop]] = {}
        for feature in self._features:
            for edge, of_edge in feature.edge_loops(view).items():
                loops[edge] = {**loops[edge], **of_edge} if edge in loops else of_edge
        projects = {
            each.metadata.uid: each.project
            for feature in self._features if feature.kind.of_project
            for each in self._store.all(feature.kind)
            if each.metadata.namespace not in ("", DEFAULT_PROJECT)
        }
        documents = _with_datasets(wanted, self._store.all(Dataset))
        return Wanted(documents, breaks, _edge_queues(self._store.all(LabelQueue)), loops, projects)

    async def _tasks_of(
        self, feature: Feature[Any], view: View, breaks: Breaks
    ) -> list[Mapping[str, list[WorkerTask]]]:
        plural = feature.kind.plural
        with self._failures.contain(f"the desired tasks of {plural}"):
            found = []
            for each in feature.desired(view):
                found.append(each)
                await breaks.take()
            self._before[plural] = found
        return self._before.get(plural, [])


def _edge_queues(known: Iterable[LabelQueue]) -> dict[str, EdgeQueue]:
    """Return the queues whose tasks edges hand out."""
    on_edges = (each for each in known if each.spec.location == "edge")
    return {each.name: EdgeQueue(uid=each.metadata.uid, spec=each.spec) for each in on_edges}


def _with_datasets(
    wanted: dict[str, list[WorkerTask]], known: Iterable[Dataset]
) -> dict[str, tuple[list[WorkerTask], dict[str, DatasetSpec]]]:
    """Add the data sets that each edge has to index; most clusters declare none."""
    datasets = [each for each in known if is_indexed(each)]
    none: dict[str, DatasetSpec] = {}
    return {edge: (tasks, datasets_of(edge, datasets) if datasets else none) for edge, tasks in wanted.items()}
