"""The coordinator's view of edges and models: the input of all pure decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from heliograph.bus.contract.payloads import DatasetTask, Offer, Report, TrainTask, WorkerReport, WorkerTaskBase
from heliograph.bus.contract.resources import Algorithm, DatasetIndex, EdgeSelection, Model
from heliograph.core.names import CLOUD

GIVE_UP_AFTER = 3
"""Successive failed starts of a worker after which no round waits for its edge."""


@dataclass(frozen=True)
class EdgeView:
    """One edge: whether it is connected to the broker, and what it last reported.

    Attributes:
        foreign: whether it is a participant that trains by itself: no agent runs anything for it.
        full: which of its stores in the cloud have no room left, a sentence each with what to do.
        project: the project that it serves; empty for all.
    """

    name: str
    online: bool
    report: Report | None = None
    foreign: bool = False
    full: tuple[str, ...] = ()
    project: str = ""

    @property
    def no_room(self) -> list[str]:
        """Return what has no room left, on the edge or for it in the cloud, a sentence each with what to do."""
        return [*(self.report.full if self.report is not None else ()), *self.full]

    def dataset(self, name: str) -> DatasetIndex | None:
        """Return the data set of that name if the edge can read it; else None."""
        for each in self.report.datasets if self.report else ():
            if each.name == name and not each.error:
                return each
        return None

    def fault(self, name: str) -> str:
        """Return the agent's sentence about a data set that it cannot read; empty where it has none of that name."""
        found = self.report.datasets if self.report else ()
        return next((each.error for each in found if each.name == name), "")

    @cached_property
    def datasets(self) -> list[str]:
        """The names of the data sets that the edge can read."""
        return [each.name for each in self.report.datasets if not each.error] if self.report else []

    def workers(self, job_uid: str, task: type[WorkerTaskBase]) -> list[WorkerReport]:
        """Return the reports of the edge's workers of a job or service, for tasks of that class."""
        found = self.report.workers if self.report is not None else []
        return [each for each in found if each.job_uid == job_uid and each.runs(task)]

    @cached_property
    def stalled(self) -> list[WorkerReport]:
        """The edge's workers that do not work, over all jobs: they fail, or wait."""
        workers = self.report.workers if self.report is not None else ()
        return [each for each in workers if _waits(each) or _fails(each)]

    def trouble(self, job_uid: str, task: type[WorkerTaskBase] = TrainTask) -> str:
        """Return why this edge's worker of a job, for tasks of that class, cannot work; empty while it can."""
        return _reason(filter(_fails, self.stalled), job_uid, task)

    def final_trouble(self, job_uid: str, task: type[WorkerTaskBase]) -> str:
        """Return it only for a failure that another start would repeat."""
        return _reason(filter(_stays, self.stalled), job_uid, task)

    def rests_since(self, job_uid: str, task: type[WorkerTaskBase] = TrainTask) -> int | None:
        """Return the round in which the worker failed so often that the agent starts it again only once it is asked in
        another round; None where it does not rest."""
        for each in self.stalled:
            if each.job_uid == job_uid and each.runs(task) and each.state == "failed" and not each.final:
                return each.round
        return None

    def missing(self, job_uid: str, task: type[WorkerTaskBase] = DatasetTask) -> str:
        """Return which script or data set this edge's worker of a job waits for; empty where it waits for none."""
        return _reason((each for each in self.stalled if _waits(each) and not each.queued), job_uid, task)

    def queued(self, job_uid: str, task: type[WorkerTaskBase] = DatasetTask) -> str:
        """Return what this edge's worker of a job waits for that other workers of the node have: memory, or a GPU;
        empty where it waits for none."""
        return _reason((each for each in self.stalled if _waits(each) and each.queued), job_uid, task)


@dataclass(frozen=True)
class View:
    """The edges and the models, each by name. It is made once for all decisions until one of them changes, and so are
    its indexes.

    Attributes:
        packages: the Algorithms that are packages of training code.
    """

    edges: Mapping[str, EdgeView] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    packages: Mapping[str, Algorithm] = field(default_factory=dict)

    def serving(self, project: str) -> View:
        """Return the view with the edges that a project's work may be placed on."""
        if not self._of_projects:
            return self
        if project not in self._by_project:
            there = {name: edge for name, edge in self.edges.items() if edge.project in ("", project)}
            self._by_project[project] = View(there, self.models, self.packages)
        return self._by_project[project]

    @cached_property
    def _of_projects(self) -> bool:
        """Whether any edge serves one project alone: mostly none does."""
        return any(edge.project for edge in self.edges.values())

    @cached_property
    def _by_project(self) -> dict[str, View]:
        return {}

    def selected(self, edges: EdgeSelection) -> list[str]:
        """Return the known edges of a selection, online or not, sorted; ``all`` means every edge except the cloud.

        Nothing can be launched for a participant that trains by itself: it is never among them.
        """
        if edges.names is None:
            return sorted(name for name, edge in self.edges.items() if name != CLOUD and not edge.foreign)
        return sorted(name for name in dict.fromkeys(edges.names) if self.runs_workers(name))

    def runs_workers(self, edge: str) -> bool:
        """Return whether the edge is known and has an agent."""
        return edge in self.edges and not self.edges[edge].foreign

    def online(self, edge: str) -> bool:
        """Return whether the edge is known and shown online."""
        return edge in self.edges and self.edges[edge].online

    def troubles(self, job_uid: str) -> dict[str, str]:
        """Return each edge with a failing training worker of the job, mapped to the reason."""
        return {name: why for name, edge in self._stalled.items() if (why := edge.trouble(job_uid))}

    def missing(self, job_uid: str, task: type[WorkerTaskBase] = DatasetTask) -> dict[str, str]:
        """Return each edge with a worker of the job, for tasks of that class, that waits, mapped to the script or data
        set that it waits for."""
        return {name: what for name, edge in self._stalled.items() if (what := edge.missing(job_uid, task))}

    def queued(self, job_uid: str, task: type[WorkerTaskBase] = DatasetTask) -> dict[str, str]:
        """Return each edge with a worker of the job, for tasks of that class, that waits for memory or a GPU which
        other workers have, mapped to what it waits for."""
        return {name: what for name, edge in self._stalled.items() if (what := edge.queued(job_uid, task))}

    def resting(self, job_uid: str) -> Set[str]:
        """Return the edges whose training worker of the job may work again once it is asked in another round."""
        return {name for name, edge in self._stalled.items() if edge.online and edge.rests_since(job_uid) is not None}

    def working(self, job_uid: str) -> Set[str]:
        """Return the edges that can send an update: online, without a failing training worker of the job."""
        troubles = self.troubles(job_uid)
        return {name for name, edge in self.edges.items() if edge.online and name not in troubles}

    @cached_property
    def candidates(self) -> list[EdgeView]:
        """The online edges with an agent, without the cloud, sorted by name: those that a worker may be placed on."""
        found = (each for each in self.edges.values() if each.online and not each.foreign and each.name != CLOUD)
        return sorted(found, key=_name)

    @cached_property
    def offering(self) -> dict[str, list[EdgeView]]:
        """The candidates that offer each data set, by its name."""
        found: dict[str, list[EdgeView]] = {}
        for each in self.candidates:
            for name in each.datasets:
                found.setdefault(name, []).append(each)
        return found

    def algorithms(self, node: str) -> dict[str, dict[str, Any]]:
        """Return the algorithms that a node's agent offers, mapped to the schema of their parameters; empty while it
        has reported none. What one edge reports concerns that edge alone."""
        return self._offer(node).algorithms

    def rules(self, node: str) -> dict[str, dict[str, Any]]:
        """Return the hard-sample rules that a node's agent offers, likewise."""
        return self._offer(node).rules

    def formats(self, node: str) -> dict[str, str]:
        """Return the formats of whole models that a node's agent can serve, mapped to the runtime's version."""
        return self._offer(node).formats

    @cached_property
    def full(self) -> dict[str, str]:
        """The edges with a store that has no room left, each with what is full and what to do."""
        return {name: "; ".join(found) for name, edge in self.edges.items() if (found := edge.no_room)}

    @cached_property
    def _stalled(self) -> dict[str, EdgeView]:
        """The edges with a worker that does not work: few, where there may be ten thousand."""
        return {name: edge for name, edge in self.edges.items() if edge.stalled}

    def _offer(self, node: str) -> Offer:
        report = self.edges[node].report if node in self.edges else None
        return report.offers if report is not None else Offer()


def _name(edge: EdgeView) -> str:
    return edge.name


def _fails(worker: WorkerReport) -> bool:
    gives_up = worker.state == "backing-off" and worker.restarts >= GIVE_UP_AFTER
    return worker.final or worker.state in ("refused", "failed") or gives_up


def _waits(worker: WorkerReport) -> bool:
    return worker.state == "waiting"


def _stays(worker: WorkerReport) -> bool:
    """Return whether no further start mends a failure."""
    return worker.final or worker.state == "refused"


def _reason(workers: Iterable[WorkerReport], job_uid: str, task: type[WorkerTaskBase]) -> str:
    for worker in workers:
        if worker.job_uid == job_uid and worker.runs(task):
            return worker.detail or worker.state
    return ""
