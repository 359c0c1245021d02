"""What is asked about a job: its data, models, training, evaluation and deployment. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

from pydantic import BaseModel

from heliograph.bus.contract.job_requests import (
    DeployedVersion,
    EdgeDataset,
    EdgesQuery,
    EdgeTraining,
    JobDatasets,
    JobDeployment,
    JobEvaluation,
    JobModels,
    JobTraining,
    RoundEvaluation,
)
from heliograph.bus.contract.payloads import EvaluateTask, TrainTask
from heliograph.bus.contract.request_bodies import Named
from heliograph.bus.contract.resources import FederatedTask, Model, resolve
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.federated.deadlines import deadline_of

E = TypeVar("E", EdgeDataset, EdgeTraining)
MOST_BYTES = 512 * 1024
"""Bytes of the edges in one answer, after which it says where to continue."""


def answer(task: FederatedTask, verb: str, body: Named, view: View) -> BaseModel:
    """Return the answer of one of the verbs ``dataset``, ``models``, ``training``, ``evaluation``, ``deployment``."""
    match verb:
        case "models":
            return _models(task, view)
        case "evaluation":
            return _evaluation(task, view)
        case "deployment":
            return _deployment(task, view)
    assert isinstance(body, EdgesQuery)
    return _datasets(task, body, view) if verb == "dataset" else _training(task, body, view)


def _datasets(task: FederatedTask, query: EdgesQuery, view: View) -> JobDatasets:
    workers = _workers(task)
    pinned = task.status.pinned_samples or {}

    def of(edge: str) -> EdgeDataset:
        return _dataset(edge, workers[edge], task.status.datasets.get(edge, ""), view, pinned.get(edge))

    edges, after = _page(sorted(workers), of, query)
    known = (view.edges[edge].dataset(name) for edge, name in task.status.datasets.items() if edge in view.edges)
    return JobDatasets(
        name=task.name,
        edge_count=len(workers),
        samples=sum(index.samples for index in known if index is not None),
        edges=edges,
        evaluation=_held_out(task, view),
        after=after,
    )


def _models(task: FederatedTask, view: View) -> JobModels:
    status, uid = task.status, task.metadata.uid
    model = _model(task, view)
    return JobModels(
        name=task.name,
        model=task.spec.aggregation_worker.model.name,
        digest=status.model.digest if status.model is not None else "",
        size=status.model.size if status.model is not None else 0,
        round=status.model_round,
        versions=[each for each in model.status.versions if each.job == uid] if model is not None else [],
        unfinished=[each for each in model.status.unfinished if each.job == uid] if model is not None else [],
        personal_count=len(status.personal or {}),
    )


def _training(task: FederatedTask, query: EdgesQuery, view: View) -> JobTraining:
    status, workers = task.status, _workers(task)
    participants, left = frozenset(status.participants), frozenset(status.left)

    def of(edge: str) -> EdgeTraining:
        known = view.edges.get(edge)
        report = next(iter(known.workers(task.metadata.uid, TrainTask)), None) if known is not None else None
        reported = {} if report is None else {
            "state": report.state, "detail": report.detail, "round": report.round, "restarts": report.restarts
        }  # fmt: skip
        return EdgeTraining.model_validate(
            {"edge": edge, "worker": workers[edge], "participates": edge in participants, "left": edge in left,
             "online": view.online(edge), **reported}
        )  # fmt: skip

    edges, after = _page(sorted(workers), of, query)
    return JobTraining(
        name=task.name,
        phase=status.phase,
        step=status.step,
        round=status.round,
        rounds=task.spec.rounds,
        start_time=status.start_time,
        deadline=deadline_of(task),
        completion_time=status.completion_time,
        conditions=status.conditions,
        participants=len(participants),
        history=status.rounds,
        refused=status.refused,
        refused_count=status.refused_count,
        late=status.late,
        late_count=status.late_count,
        duplicate_count=status.duplicate_count,
        edge_count=len(workers),
        edges=edges,
        after=after,
    )


def _evaluation(task: FederatedTask, view: View) -> JobEvaluation:
    worker = task.spec.evaluation_worker
    node = view.edges.get(worker.node_name) if worker is not None else None
    report = next(iter(node.workers(task.metadata.uid, EvaluateTask)), None) if node is not None else None
    return JobEvaluation(
        name=task.name,
        data=_held_out(task, view),
        state=report.state if report is not None else "",
        detail=report.detail if report is not None else "",
        metrics=task.status.evaluation,
        rounds=[
            RoundEvaluation(round=each.round, model=each.model, metrics=each.evaluation)
            for each in task.status.rounds
            if each.evaluation is not None
        ],
    )


def _deployment(task: FederatedTask, view: View) -> JobDeployment:
    model, uid = _model(task, view), task.metadata.uid
    found: list[DeployedVersion] = []
    if model is not None:
        everywhere = resolve(model)
        for each in model.status.versions:
            if each.job == uid:
                aliases = sorted(alias for alias, number in model.status.aliases.items() if number == each.version)
                bound = {edge for alias in aliases for edge in model.status.bindings.get(alias, ())}
                found.append(
                    DeployedVersion(
                        version=each.version,
                        digest=each.weights.digest,
                        aliases=aliases,
                        everywhere=everywhere is not None and everywhere.version == each.version,
                        edges=sorted(bound),
                    )
                )
    return JobDeployment(name=task.name, model=task.spec.aggregation_worker.model.name, versions=found)


def _workers(task: FederatedTask) -> dict[str, str]:
    """Return the training worker of each edge."""
    return {edge: worker for worker, edge in task.status.assignments.items()}


def _held_out(task: FederatedTask, view: View) -> EdgeDataset | None:
    worker = task.spec.evaluation_worker
    return None if worker is None else _dataset(worker.node_name, worker.name, worker.dataset.name, view)


def _dataset(edge: str, worker: str, name: str, view: View, at_start: int | None = None) -> EdgeDataset:
    known = view.edges.get(edge)
    indexes = known.report.datasets if known is not None and known.report is not None else []
    return EdgeDataset(
        edge=edge,
        worker=worker,
        dataset=name,
        samples_at_start=at_start,
        index=next((each for each in indexes if each.name == name), None),
        online=view.online(edge),
    )


def _model(task: FederatedTask, view: View) -> Model | None:
    return view.models.get(task.spec.aggregation_worker.model.name)


def _page(edges: Iterable[str], of: Callable[[str], E], query: EdgesQuery) -> tuple[list[E], str | None]:
    """Return the entries that the query selects, and the edge after which it continues; None at the end."""
    found: list[E] = []
    size, last = 0, None
    left = (edge for edge in edges if query.after is None or edge > query.after)
    for edge in islice(left, query.limit):
        entry = of(edge)
        size += len(entry.model_dump_json(exclude_none=True))
        if found and size > MOST_BYTES:
            return found, last
        found.append(entry)
        last = edge
    return found, last if next(left, None) is not None else None
