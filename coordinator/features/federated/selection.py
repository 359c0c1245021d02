"""Select the edges of a federated task: place its training workers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from heliograph.bus.contract.payloads import TrainTask
from heliograph.bus.contract.resources import FederatedTask, TrainingWorker
from heliograph.bus.contract.resources.node_resources import WorkerResources
from heliograph.coordinator.asks import beyond
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.packages import missing_packages
from heliograph.core.names import join_labels

REASONS = 20
"""Reasons that a waiting task names."""


@dataclass(frozen=True)
class Selection:
    """The placement of a task: ``assignments`` from training worker to edge, ``datasets`` from edge to data set."""

    assignments: dict[str, str]
    datasets: dict[str, str]


@dataclass(frozen=True)
class Missing:
    """The reasons why a task waits, a sentence each."""

    what: list[str]


def select(task: FederatedTask, view: View) -> Selection | Missing:
    """Place every training worker, or return what is missing. Named nodes go first, the rest in the edges' order. A
    participant that trains by itself takes the place of a worker that names it, or that no edge is free for."""
    spec, view = task.spec, view.serving(task.project)
    missing = [*_missing_cloud(task, view), *missing_packages(task, view)]
    assignments: dict[str, str] = {}
    datasets: dict[str, str] = {}
    wanted = wanted_dataset(task)
    first_ask = common_resources(task)
    named = [worker for worker in spec.training_workers if worker.node_name]
    free = [worker for worker in spec.training_workers if not worker.node_name]
    taken = {worker.node_name for worker in named if worker.node_name}
    foreign = [name for name in sorted(task.status.joined) if task.is_foreign(name) and view.online(name)]
    unplaced = iter([name for name in foreign if name not in taken])
    for worker in named:
        node = worker.node_name or ""
        if node in foreign:
            assignments[worker.name], datasets[node] = node, ""
            continue
        edge = view.edges.get(node)
        dataset = offered(worker, edge, wanted) if edge is not None and edge.online and not edge.foreign else None
        if dataset is None:
            missing.append(_missing_at(worker, node, edge))
            continue
        if edge is not None and (what := beyond(worker.worker_spec.resources or first_ask, edge)):
            missing.append(f"node {node} does not have {what} as training worker {worker.name} asks for")
            continue
        assignments[worker.name], datasets[node] = node, dataset
    free_edges = _FreeEdges(view, taken, first_ask)
    for worker in free:
        placed = free_edges.place(worker, wanted)
        if placed is None and (name := next(unplaced, None)) is not None:
            assignments[worker.name], datasets[name] = name, ""
            continue
        if placed is None:
            name = worker.worker_spec.dataset.name if worker.worker_spec.dataset else None
            reason = f"training worker {worker.name}: no free edge offers data set {name or wanted or 'at all'}"
            asks = worker.worker_spec.resources or first_ask
            missing.append(f"{reason} and has the memory and GPUs that it asks for" if asks is not None else reason)
            continue
        assignments[worker.name], datasets[placed[0].name] = placed[0].name, placed[1]
    if free and not missing:
        for edge, dataset in further(task, free[-1], free_edges.left(free[-1]), wanted, len(assignments)):
            assignments[join_labels(free[-1].name, edge.name)], datasets[edge.name] = edge.name, dataset
    count = spec.participants.count if spec.participants is not None else None
    if count is not None and count > len(assignments) and not missing:
        missing.append(f"{count} participants: only {len(assignments)} edges offer a data set for them")
    return Missing(_first(missing)) if missing else Selection(assignments, datasets)


def repeated_worker(task: FederatedTask) -> TrainingWorker:
    """Return the training worker that further edges run: the last one without a ``nodeName``, else the last one."""
    workers = task.spec.training_workers
    return next((each for each in reversed(workers) if not each.node_name), workers[-1])


def offered(worker: TrainingWorker, edge: EdgeView, wanted: str | None) -> str | None:
    """Return the worker's data set on an edge: the one it names, else the task's, else the edge's first; None: none.

    Return an empty string where the task names no data set and the edge has none: the script brings its own data.
    """
    if worker.worker_spec.dataset is not None:
        name = worker.worker_spec.dataset.name
        return name if name in edge.datasets else None
    if wanted in edge.datasets:
        return wanted
    return min(edge.datasets, default="" if wanted is None else None)


def wanted_dataset(task: FederatedTask) -> str | None:
    """Return the data set that the first training worker names that names one."""
    specs = (each.worker_spec for each in task.spec.training_workers)
    return next((spec.dataset.name for spec in specs if spec.dataset), None)


def ready_of(job_uid: str, view: View, working: Set[str]) -> Set[str]:
    """Return those of the edges that work which wait for no script or data set, and for no place on their node."""
    waiting = view.missing(job_uid, TrainTask).keys() | view.queued(job_uid, TrainTask).keys()
    return working - waiting if waiting else working


def common_resources(task: FederatedTask) -> WorkerResources | None:
    """Return what a training worker asks of its node where it does not say so itself: as the first that does."""
    return next((found for each in task.spec.training_workers if (found := each.worker_spec.resources)), None)


def _first(missing: list[str]) -> list[str]:
    """Return the first reasons, and how many more there are: ten thousand workers may miss their nodes."""
    more = len(missing) - REASONS
    return missing if more <= 0 else [*missing[:REASONS], f"and {more} more"]


def _missing_cloud(task: FederatedTask, view: View) -> Iterator[str]:
    spec = task.spec
    model = spec.aggregation_worker.model.name
    if model not in view.models:
        yield f"model {model} does not exist"
    node = spec.aggregation_worker.node_name
    if not view.online(node):
        yield f"aggregation node {node} is {'offline' if node in view.edges else 'unknown'}"
    else:
        algorithm = spec.aggregation_worker.worker_spec.aggregation_algorithm
        report = view.edges[node].report
        if report is None or algorithm not in report.offers.algorithms:
            yield f"node {node} does not offer algorithm {algorithm}"
    evaluation = spec.evaluation_worker
    if evaluation is not None:
        edge = view.edges.get(evaluation.node_name)
        if edge is None or not edge.online:
            yield f"evaluation node {evaluation.node_name} is {'offline' if edge else 'unknown'}"
        elif edge.dataset(evaluation.dataset.name) is None:
            yield _missing_dataset(evaluation.dataset.name, edge)


def _missing_at(worker: TrainingWorker, node: str, edge: EdgeView | None) -> str:
    """Return why a worker cannot be placed on the node that it names."""
    if edge is None:
        return f"node {node} of training worker {worker.name} is unknown"
    if not edge.online:
        return f"node {node} of training worker {worker.name} is offline"
    if edge.foreign:
        return f"participant {node} of training worker {worker.name} has not joined"
    name = worker.worker_spec.dataset.name if worker.worker_spec.dataset else None
    return _missing_dataset(name, edge)


def _missing_dataset(name: str | None, edge: EdgeView) -> str:
    if name is not None and (fault := edge.fault(name)):
        return f"data set {name} on node {edge.name}: {fault}"
    return f"data set {name or 'of any name'} is not on node {edge.name}"


class _FreeEdges:
    """The edges that no worker of a task has been placed on yet. Placing all workers visits each edge a few times,
    not once for each worker."""

    def __init__(self, view: View, taken: set[str], resources: WorkerResources | None) -> None:
        self._view = view
        self._resources = resources
        """What a worker asks that does not say so itself."""
        self._taken = set(taken)
        self._offering: dict[tuple[str, str], Iterator[EdgeView]] = {}
        """By data set and ask, the edges that offer it and were not looked at; a taken edge never becomes free
        again."""
        self._others: dict[tuple[str | None, str], Iterator[EdgeView]] = {}
        """By the task's data set and ask, the edges that were not looked at for any data set."""

    def place(self, worker: TrainingWorker, wanted: str | None) -> tuple[EdgeView, str] | None:
        """Take the first free edge, by name, that offers the worker's data set, else one that offers another."""
        own = worker.worker_spec.dataset.name if worker.worker_spec.dataset else None
        exact = own or wanted
        asks = worker.worker_spec.resources or self._resources
        ask = "" if asks is None else f"{asks.memory_bytes} {asks.gpus}"
        edge = None
        if exact is not None:
            if (exact, ask) not in self._offering:
                self._offering[exact, ask] = self._with_room(asks, self._view.offering.get(exact, ()))
            edge = self._next_free(self._offering[exact, ask])
        if edge is None and own is None:
            if (wanted, ask) not in self._others:
                offering = (each for each in self._view.candidates if offered(worker, each, wanted) is not None)
                self._others[wanted, ask] = self._with_room(asks, offering)
            edge = self._next_free(self._others[wanted, ask])
        if edge is None:
            return None
        self._taken.add(edge.name)
        return edge, offered(worker, edge, wanted) or ""

    def left(self, worker: TrainingWorker) -> list[EdgeView]:
        """Return the free edges that the worker may run on, sorted by name."""
        free = (each for each in self._view.candidates if each.name not in self._taken)
        return [*self._with_room(worker.worker_spec.resources or self._resources, free)]

    @staticmethod
    def _with_room(asks: WorkerResources | None, edges: Iterable[EdgeView]) -> Iterator[EdgeView]:
        return iter(edges) if asks is None else (each for each in edges if not beyond(asks, each))

    def _next_free(self, edges: Iterator[EdgeView]) -> EdgeView | None:
        return next((each for each in edges if each.name not in self._taken), None)


def further(
    task: FederatedTask, worker: TrainingWorker, candidates: Iterable[EdgeView], wanted: str | None, placed: int
) -> Iterator[tuple[EdgeView, str]]:
    """Yield the further edges that run a worker too, each with its data set.

    Args:
        placed: number of edges that run one already.
    """
    participants = task.spec.participants
    if participants is None:
        return
    for edge in candidates:
        if not participants.takes_further_edges and placed >= (participants.count or 0):
            return
        if (dataset := offered(worker, edge, wanted)) is not None:
            placed += 1
            yield edge, dataset
