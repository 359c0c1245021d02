"""Select the edges of a federated task, and draw the participants of a round. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heliograph.bus.contract.resources import FederatedTask, TrainingWorker
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.core.names import CLOUD, join_labels
from heliograph.core.world import seeded


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
    """Place every training worker, or return what is missing. Named nodes go first, the rest in the edges' order."""
    spec = task.spec
    missing = [*_missing_cloud(task, view)]
    assignments: dict[str, str] = {}
    datasets: dict[str, str] = {}
    wanted = next((each.worker_spec.dataset.name for each in spec.training_workers if each.worker_spec.dataset), None)
    named = [worker for worker in spec.training_workers if worker.node_name]
    free = [worker for worker in spec.training_workers if not worker.node_name]
    taken = {worker.node_name for worker in named}
    for worker in named:
        assert worker.node_name is not None
        if reason := _missing_at(worker, worker.node_name, wanted, view):
            missing.append(reason)
            continue
        assignments[worker.name] = worker.node_name
        datasets[worker.node_name] = _offered(worker, view.edges[worker.node_name], wanted) or ""
    candidates = [edge for edge in view.edges.values() if edge.online and edge.name not in taken and edge.name != CLOUD]
    candidates.sort(key=lambda edge: edge.name)
    for worker in free:
        placed = _place(worker, candidates, wanted)
        if placed is None:
            name = worker.worker_spec.dataset.name if worker.worker_spec.dataset else None
            missing.append(f"training worker {worker.name}: no free edge offers data set {name or wanted or 'at all'}")
            continue
        edge, dataset = placed
        candidates.remove(edge)
        assignments[worker.name], datasets[edge.name] = edge.name, dataset
    if free and not missing:
        for edge, dataset in _repeated(task, free[-1], candidates, wanted, len(assignments)):
            assignments[join_labels(free[-1].name, edge.name)], datasets[edge.name] = edge.name, dataset
    count = spec.participants.count if spec.participants is not None else None
    if count is not None and count > len(assignments) and not missing:
        missing.append(f"{count} participants: only {len(assignments)} edges offer a data set for them")
    return Missing(missing) if missing else Selection(assignments, datasets)


def draw(task: FederatedTask, round: int, view: View) -> list[str]:
    """Return the participants of a round: the reachable edges, or a seeded draw where the task wants fewer."""
    uid = task.metadata.uid
    assigned = sorted(task.status.assignments.values())
    working = view.working(uid)
    pool = [edge for edge in assigned if edge in working] or assigned
    if round == 0:
        return pool[:1]  # the first global model is one edge's initial weights
    participants = task.spec.participants
    number = participants.count if participants is not None else None
    if number is None or number >= len(pool):
        return pool
    return sorted(seeded(f"{uid}/{round}").sample(pool, number))


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
            yield f"data set {evaluation.dataset.name} is not on node {evaluation.node_name}"


def _missing_at(worker: TrainingWorker, node: str, wanted: str | None, view: View) -> str:
    edge = view.edges.get(node)
    if edge is None:
        return f"node {node} of training worker {worker.name} is unknown"
    if not edge.online:
        return f"node {node} of training worker {worker.name} is offline"
    if _offered(worker, edge, wanted) is None:
        name = worker.worker_spec.dataset.name if worker.worker_spec.dataset else None
        return f"data set {name or 'of any name'} is not on node {node}"
    return ""


def _place(worker: TrainingWorker, candidates: list[EdgeView], wanted: str | None) -> tuple[EdgeView, str] | None:
    exact = worker.worker_spec.dataset.name if worker.worker_spec.dataset else wanted
    ranked = sorted(candidates, key=lambda edge: (exact not in edge.datasets, edge.name))
    for edge in ranked:
        if (dataset := _offered(worker, edge, wanted)) is not None:
            return edge, dataset
    return None


def _offered(worker: TrainingWorker, edge: EdgeView, wanted: str | None) -> str | None:
    """Return the worker's data set on an edge: the one it names, else the task's, else the edge's first; None: none.

    Return an empty string where the task names no data set and the edge has none: the script brings its own data.
    """
    if worker.worker_spec.dataset is not None:
        name = worker.worker_spec.dataset.name
        return name if name in edge.datasets else None
    if wanted in edge.datasets:
        return wanted
    return min(edge.datasets, default="" if wanted is None else None)


def _repeated(
    task: FederatedTask, worker: TrainingWorker, candidates: list[EdgeView], wanted: str | None, placed: int
) -> Iterator[tuple[EdgeView, str]]:
    participants = task.spec.participants
    if participants is None:
        return
    for edge in candidates:
        if participants.count is not None and placed >= participants.count:
            return
        if (dataset := _offered(worker, edge, wanted)) is not None:
            placed += 1
            yield edge, dataset
