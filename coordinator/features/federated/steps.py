"""The steps that a federated task takes: it opens a round, is measured, ends. Pure; see ``state_machine``."""

from __future__ import annotations

from collections.abc import Mapping

from heliograph.bus.contract.resources import (
    ENDED,
    FederatedTask,
    FederatedTaskStatus,
    StopReason,
    WeightsRef,
    condition,
)
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.federated import conditions, stopping
from heliograph.coordinator.features.federated.best_model import best_of
from heliograph.coordinator.features.federated.drawing import chosen
from heliograph.coordinator.features.federated.joining import with_newcomers
from heliograph.coordinator.features.federated.participation.memory import Memory


def measured(
    task: FederatedTask, round: int, model: WeightsRef | None, metrics: Mapping[str, float], now: str
) -> FederatedTask:
    """Return the task with what a round's metrics say about its stop conditions, and about its best model."""
    status, stop = task.status, task.spec.stop
    plateau = stopping.followed(stop.plateau if stop is not None else None, status.plateau, round, metrics)
    reached = stopping.by_metrics(stop, plateau, round, metrics)
    if status.step == "evaluating" and reached is not None and reached.reason != stopping.TARGET_REACHED:
        reached = None  # the task has its reason to end
    told = conditions.stop_measured(task, round, metrics)
    found = condition(status.conditions, told, now) if told is not None else status.conditions
    return with_status(
        task, plateau=plateau, conditions=found, stopped_by=status.stopped_by or reached,
        best=best_of(task, round, model, metrics),
    )  # fmt: skip


def end_by(task: FederatedTask, reached: StopReason, now: str) -> FederatedTask:
    """End a task that has used up what it may: with its last model, or as failed where no update was counted."""
    if any(each.counted for each in task.status.rounds):
        return finish(with_status(task, stopped_by=reached), now)
    return fail(task, reached.reason, f"{reached.message}; no update was counted", now)


def fail(task: FederatedTask, reason: str, message: str, now: str) -> FederatedTask:
    """End the task; the model of its last counted round stays (``results``)."""
    failed = conditions.ended(task, reason, message)
    return with_status(task, phase="Failed", step="done", completion_time=now,
                       conditions=condition(task.status.conditions, failed, now))  # fmt: skip


def stop(task: FederatedTask, now: str) -> FederatedTask:
    """Stop the task, on request."""
    if task.status.phase in ENDED:
        return task
    stopped = conditions.ended(task, "Stopped", "stopped on request")
    return with_status(task, phase="Stopped", step="done", completion_time=now,
                       conditions=condition(task.status.conditions, stopped, now))  # fmt: skip


def begin_round(task: FederatedTask, round: int, view: View, now: str, memory: Memory) -> FederatedTask:
    """Return the task with an open round, for edges that are there now."""
    task = with_newcomers(task, view)
    choice = chosen(task, round, view, memory=memory)
    told = conditions.selection_informed(task, choice.lacking)
    found = condition(task.status.conditions, told, now) if told is not None else task.status.conditions
    step = "training" if round else "initialising"
    return with_status(task, step=step, round=round, round_began=now, participants=choice.edges, conditions=found)


def finish(task: FederatedTask, now: str) -> FederatedTask:
    """End a task that has learned, once its last model is evaluated."""
    if task.spec.evaluation_worker is not None and not is_evaluated(task.status):
        return with_status(task, step="evaluating", participants=[])
    return succeed(task, now)


def succeed(task: FederatedTask, now: str) -> FederatedTask:
    """End a task that has learned, and whose last model is evaluated."""
    return with_status(
        task, phase="Succeeded", step="done", participants=[], completion_time=now,
        conditions=condition(task.status.conditions, conditions.succeeded(task), now),
    )  # fmt: skip


def is_evaluated(status: FederatedTaskStatus) -> bool:
    """Return whether the evaluation of the newest model has come."""
    return any(each.round == status.model_round and each.evaluation is not None for each in status.rounds)


def with_status(task: FederatedTask, **changes: object) -> FederatedTask:
    """Return the task with a changed status; the same object where nothing changes."""
    status: FederatedTaskStatus = task.status.model_copy(update=changes)
    return task if status == task.status else task.model_copy(update={"status": status})
