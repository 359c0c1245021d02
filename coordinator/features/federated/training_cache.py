"""The training tasks of a running job, computed anew where an input has changed: there may be ten thousand edges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from heliograph.bus.contract.payloads import WorkerTask
from heliograph.bus.contract.resources import FederatedTask
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.federated.desired_tasks import (
    training_tasks,
    warm_tasks,
    without_left,
)

T = TypeVar("T")
EDGES_PER_SLICE = 512
"""Edges whose tasks are made before a break may be due."""


@dataclass(frozen=True)
class CachedTraining:
    """Cached training tasks of one job, with the inputs they were computed from.

    Attributes:
        warm: the tasks between rounds, which keep workers ready; ``warm_of`` are their inputs.
        tasks: ``warm`` with the tasks of the present round; ``tasks_of`` are their further inputs.
    """

    warm_of: tuple[object, ...]
    warm: dict[str, list[WorkerTask]]
    tasks_of: tuple[object, ...] = ()
    tasks: dict[str, list[WorkerTask]] = field(default_factory=dict)


def cached_training(task: FederatedTask, view: View, known: CachedTraining | None) -> Iterator[CachedTraining]:
    """Yield a job's training tasks, more with each step; the last one is whole.

    Args:
        known: what the last call for this job has yielded last.
    """
    status, algorithms = task.status, view.algorithms(task.spec.aggregation_worker.node_name)
    warm_of = (task.metadata.uid, task.spec, algorithms, status.assignments, status.datasets, status.packages)
    tasks_of = (status.round, status.step, status.model, status.participants, status.down, status.personal,
                status.counted_updates, status.left)  # fmt: skip
    if known is None or known.warm_of != warm_of:
        known = CachedTraining(warm_of, {})
        assignments = sorted(status.assignments.items())
        for some in _slices(assignments):
            for edge, tasks in warm_tasks(task, algorithms, some).items():
                known.warm.setdefault(edge, []).extend(tasks)  # an edge's workers may lie in two slices
            yield known
    if known.tasks_of != tasks_of:
        known = replace(known, tasks_of=tasks_of, tasks=without_left(task, known.warm))
        for edges in _slices(status.participants):
            warm = {edge: known.warm[edge] for edge in edges if edge in known.warm}
            known.tasks.update(training_tasks(task, warm, edges))
            yield known
    yield known


def _slices(whole: Sequence[T]) -> Iterator[Sequence[T]]:
    return (whole[first : first + EDGES_PER_SLICE] for first in range(0, len(whole), EDGES_PER_SLICE))
