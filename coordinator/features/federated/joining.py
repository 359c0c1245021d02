"""Join a federated task by request: an edge whose agent runs the job's script, or a participant that trains by itself.

Who has joined is placed like any other edge, and is drawn from the next round on. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from heliograph.bus.contract.payloads import Participation, UncountedUpdate
from heliograph.bus.contract.resources import ENDED, JOINED, WATCHED, FederatedTask, JoinedParticipant
from heliograph.bus.contract.resources.base import Scalar
from heliograph.coordinator.asks import beyond
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.features.federated.selection import (
    Selection,
    common_resources,
    further,
    offered,
    repeated_worker,
    wanted_dataset,
)
from heliograph.core.errors import Refused
from heliograph.core.names import CLOUD, join_labels

TOLD = 5
"""Uncounted updates of its own that a participant is told of."""


def join_edge(task: FederatedTask, edge: str, dataset: str | None, view: View, topic: str) -> FederatedTask:
    """Return the task with an edge whose agent shall train; the same object where it takes part already.

    An edge that had asked to stop takes part again. Raise Refused where the task has ended, the edge is unknown, or it
    does not offer the data set.

    Args:
        dataset: the data set that the edge shall train on; None for the one that the task's workers name.
    """
    view = view.serving(task.project)
    known = view.edges.get(edge)
    _check_open(task, topic)
    if known is None or known.report is None or edge == CLOUD:
        names = ", ".join(each for each in sorted(view.edges) if each != CLOUD and view.edges[each].report)[:200]
        raise Refused("invalid", topic=topic, field="edge", expected=f"one of {names}" if names else "an edge; there "
                      "are none", got=edge)  # fmt: skip
    if edge in task.status.assignments.values() and dataset in (None, task.status.datasets.get(edge)):
        return _with(task, left=[each for each in task.status.left if each != edge])
    chosen = _dataset_of(task, known, dataset, topic)
    index = known.dataset(chosen) if chosen else None
    joined = JoinedParticipant(dataset=chosen, samples=index.samples if index else 0)
    return _joined(task, edge, joined, topic, index.version if index else "")


def join_participant(task: FederatedTask, name: str, samples: int, view: View, topic: str) -> FederatedTask:
    """Return the task with a participant that trains by itself; the same object where nothing has changed.

    A request of an ended task changes nothing: its sender learns of the end.

    Args:
        samples: the largest number of samples that its updates will claim.
    """
    if task.status.phase in ENDED:
        return task
    known = view.edges.get(name)
    if known is not None and known.report is not None:
        raise Refused("exists", topic=topic, field="edge", expected="a participant's name that no edge has", got=name,
                      hint="An agent runs under that name: let it join by 'edge'.")  # fmt: skip
    return _joined(task, name, JoinedParticipant(foreign=True, samples=samples), topic)


def with_joined(task: FederatedTask, found: Selection, view: View) -> Selection:
    """Return the placement of a task that begins, with those that have joined before and have no place yet."""
    assignments, datasets = dict(found.assignments), dict(found.datasets)
    for edge, each in sorted(task.status.joined.items()):
        if edge not in datasets and edge in view.edges:
            assignments[_worker_of(task, edge)], datasets[edge] = edge, each.dataset
    return Selection(assignments, datasets)


def with_newcomers(task: FederatedTask, view: View) -> FederatedTask:
    """Return the task with the edges that have come since it began, where it takes every edge that offers its data set;
    the same object where none has."""
    participants, worker = task.spec.participants, repeated_worker(task)
    if participants is None or not participants.takes_further_edges or worker.node_name:
        return task
    assigned = set(task.status.assignments.values())
    asks = worker.worker_spec.resources or common_resources(task)
    there = view.serving(task.project).candidates
    free = [each for each in there if each.name not in assigned and not (asks is not None and beyond(asks, each))]
    placed: list[_Place] = []
    for edge, dataset in further(task, worker, free, wanted_dataset(task), len(assigned)):
        index = edge.dataset(dataset) if dataset else None
        placed.append(_Place(edge.name, dataset, *((index.samples, index.version) if index is not None else ())))
    return _with(task, **_placed(task, placed)) if placed else task


def foreign_samples(task: FederatedTask) -> dict[str, int]:
    """Return the largest number of samples that each participant without an agent may claim."""
    return {name: each.samples for name, each in task.status.joined.items() if each.foreign}


def participation(
    task: FederatedTask, edge: str, parameters: dict[str, Scalar], deadline: str, present: bool
) -> Participation:
    """Return what an edge or a participant that has joined has to do now.

    Args:
        parameters: the job's parameters for training.
        deadline: time at which the open round's deadline passes; empty where no round is open.
        present: whether the broker sees it connected.
    """
    status = task.status
    open_round = status.phase == "Running" and status.step in ("initialising", "training")
    active = open_round and edge in status.participants and edge not in status.left
    asked = active and task.is_foreign(edge)  # an agent has its task from its desired document
    own = [each for each in (*status.refused, *status.late) if each.edge == edge]
    newest = sorted(own, key=lambda each: each.round)[-TOLD:]
    joined = status.joined.get(edge)
    return Participation(
        job=task.name, job_uid=task.metadata.uid, edge=edge, phase=status.phase, round=status.round,
        rounds=task.spec.rounds, active=active, present=present,
        model=status.model if asked else None, down=status.down if asked else None,
        parameters=parameters if asked else {}, deadline=deadline if active else "",
        most_samples=joined.samples if joined is not None else 0, left=edge in status.left,
        uncounted=[UncountedUpdate(edge=edge, round=each.round, reason=each.reason, seconds_late=each.seconds_late)
                   for each in newest],
    )  # fmt: skip


def _check_open(task: FederatedTask, topic: str) -> None:
    if task.status.phase in ENDED:
        raise Refused("ended", topic=topic, field="name", expected="a job that is pending or runs",
                      got=f"{task.name} is {task.status.phase}", hint="Create a new job with the edge.")  # fmt: skip


def _dataset_of(task: FederatedTask, edge: EdgeView, dataset: str | None, topic: str) -> str:
    """Return the data set that an edge trains on; empty where the script brings its own. Raise Refused where the edge
    does not offer it."""
    wanted = wanted_dataset(task)
    found = offered(repeated_worker(task), edge, wanted) if dataset is None else dataset
    if found is not None and (found == "" or found in edge.datasets):
        return found
    name = dataset or wanted or "of any name"
    raise Refused("invalid", topic=topic, field="dataset", expected=f"a data set that edge {edge.name} offers: "
                  f"{', '.join(sorted(edge.datasets)[:20]) or 'it has none'}", got=name,
                  hint=edge.fault(name) or "Give the agent the data set, or name another by 'dataset'.")  # fmt: skip


def _joined(
    task: FederatedTask, edge: str, joined: JoinedParticipant, topic: str, version: str = ""
) -> FederatedTask:
    """Return the task with an edge or a participant; ``version`` is that of its data set, where it has one."""
    status = task.status
    if edge not in status.joined and len(status.joined) >= JOINED:
        raise Refused("too-many", topic=topic, field="edge", expected=f"at most {JOINED} that join by request",
                      got=edge, hint="Name further edges in the job's document.")  # fmt: skip
    changes: dict[str, Any] = {"joined": {**status.joined, edge: joined}}
    if status.phase == "Running":
        changes |= _placed(task, [_Place(edge, joined.dataset, joined.samples, version)])
        if not joined.foreign:
            changes["left"] = [each for each in status.left if each != edge]
    return _with(task, **changes)


class _Place(NamedTuple):
    """An edge with its data set: its samples, and its version where it has one."""

    edge: str
    dataset: str
    samples: int = 0
    version: str = ""


def _placed(task: FederatedTask, places: Sequence[_Place]) -> dict[str, Any]:
    """Return the changes of a running task's status that give edges a worker."""
    status = task.status
    versions = status.dataset_versions | {each.edge: each.version for each in places}
    assigned = set(status.assignments.values())
    new = [each.edge for each in places if each.edge not in assigned]
    changes: dict[str, Any] = {
        "datasets": status.datasets | {each.edge: each.dataset for each in places},
        "dataset_versions": {edge: version for edge, version in versions.items() if version},
    }
    if status.pinned_samples is not None:  # a job of 0.1 has none
        changes["pinned_samples"] = status.pinned_samples | {each.edge: each.samples for each in places}
    if new:
        changes["assignments"] = status.assignments | {_worker_of(task, edge): edge for edge in new}
        changes["uncounted"] = sorted({*status.uncounted, *new})[:WATCHED]
    return changes


def _worker_of(task: FederatedTask, edge: str) -> str:
    """Return the name of the worker that an edge which has joined runs."""
    return join_labels(repeated_worker(task).name, edge)


def _with(task: FederatedTask, **changes: object) -> FederatedTask:
    status = task.status.model_copy(update=changes)
    return task if status == task.status else task.model_copy(update={"status": status})
