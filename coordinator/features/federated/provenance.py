"""Where a version comes from: the data, the code and the weights that a job used. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter

from heliograph.bus.contract.payloads import TrainTask
from heliograph.bus.contract.resources import DatasetIndex, DatasetUse, FederatedTask, ModelVersion, WeightsRef
from heliograph.coordinator.edges.view import View

DATASETS_NAMED = 8
"""Data sets that a version names: a document has no room for those of ten thousand edges. A digest covers all."""
CODES_NAMED = 16
"""Digests of training code that a version names, those of the most edges first."""


def version_of(task: FederatedTask, view: View, metrics: dict[str, float]) -> ModelVersion:
    """Return the version that a job which ends makes of its model, without a number.

    Args:
        metrics: those of the round that closed with the model.
    """
    status = task.status
    assert status.model is not None
    record = next((each for each in reversed(status.rounds) if each.round == status.model_round), None)
    evaluated = record is not None and bool(record.evaluation)
    return _version(task, view, status.model, status.model_round, metrics, evaluated)


def best_version_of(task: FederatedTask, view: View) -> ModelVersion | None:
    """Return the version that a job which ends makes of its best model, without a number; None where it has none."""
    best = task.status.best
    if best is None:
        return None
    evaluated = task.spec.evaluation_worker is not None
    return _version(task, view, best.model, best.round, best.metrics, evaluated)


def _version(
    task: FederatedTask, view: View, weights: WeightsRef, round: int, metrics: dict[str, float], evaluated: bool
) -> ModelVersion:
    status, uses = task.status, _uses(task, view)
    lines = "".join(f"{each.edge}  {each.name}  {each.version}\n" for each in uses)
    return ModelVersion(
        version=0,
        weights=weights,
        job=task.metadata.uid,
        job_name=task.name,
        round=round,
        metrics=metrics,
        time=status.completion_time,
        parent=status.parent,
        datasets=uses[:DATASETS_NAMED],
        datasets_digest=hashlib.sha256(lines.encode()).hexdigest() if uses else "",
        dataset_count=len(uses),
        code=_code(task, view),
        evaluation_set=_evaluation_set(task, view) if evaluated else None,
    )


def _uses(task: FederatedTask, view: View) -> list[DatasetUse]:
    """Return the data set of each edge that took part and may have been counted, sorted by edge. Scripts that bring
    their own data have none."""
    left_out = set(task.status.uncounted)
    named = sorted((edge, name) for edge, name in task.status.datasets.items() if name and edge not in left_out)
    return [_use(edge, name, view, task.status.dataset_versions.get(edge, "")) for edge, name in named]


def _use(edge: str, name: str, view: View, pinned: str = "") -> DatasetUse:
    """Return the data set of an edge.

    Args:
        pinned: its version when the job began; without one the version that the edge has now.
    """
    there = view.edges.get(edge)
    index = there.dataset(name) if there is not None else None
    if index is None:
        return DatasetUse(name=name, edge=edge, version=pinned)  # it has left, or its file
    return DatasetUse(name=name, edge=edge, version=pinned or _version_of(index), samples=index.samples)


def _version_of(index: DatasetIndex) -> str:
    return index.version or index.digest  # agents of 0.1 tell no version


def _code(task: FederatedTask, view: View) -> dict[str, int]:
    """Return the digests of the code that the job's training workers ran, with their numbers of edges."""
    uid = task.metadata.uid
    edges = (view.edges[edge] for edge in sorted({*task.status.assignments.values()}) if edge in view.edges)
    ran = Counter(code for edge in edges for code in {each.code for each in edge.workers(uid, TrainTask)} if code)
    return dict(ran.most_common(CODES_NAMED))


def _evaluation_set(task: FederatedTask, view: View) -> DatasetUse | None:
    """Return the data that the job evaluates its models with."""
    worker = task.spec.evaluation_worker
    return _use(worker.node_name, worker.dataset.name, view) if worker is not None else None
