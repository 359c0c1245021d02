"""The state machine of a federated task: select, initialise, train round by round, evaluate, done. Pure.

Every function takes a task and an observation, and returns the task to store; the same object where nothing changed.
The file ``desired_tasks`` gives the tasks of each edge in that state.
"""

from __future__ import annotations

from collections.abc import Mapping

from heliograph.bus.contract.payloads import AggregateTask, Aggregation, Evaluation
from heliograph.bus.contract.resources import (
    ENDED,
    HISTORY,
    NAMED,
    Condition,
    FederatedTask,
    FederatedTaskStatus,
    RoundRecord,
    UncountedRecord,
    condition,
    resolve,
)
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.federated.selection import Missing, draw, select

ROUNDS_WITHOUT_UPDATE = 3
"""Successive rounds without a valid update after which a task fails."""


def begin(
    task: FederatedTask, view: View, now: str, updates_from: int, evaluations_from: int = 1
) -> FederatedTask:
    """Start a pending task if its edges, data sets and model are there; else add a condition with what is missing."""
    if task.status.phase != "Pending":
        return task
    found = select(task, view)
    if isinstance(found, Missing):
        waiting = Condition(type="Ready", status="False", reason="Missing", message="; ".join(found.what))
        return _with(task, conditions=condition(task.status.conditions, waiting, now))
    ready = Condition(type="Ready", status="True", reason="Selected", message=f"{len(found.assignments)} edges")
    version = resolve(view.models[task.spec.aggregation_worker.model.name])
    weights = version.weights if version is not None else None
    started = _with(
        task,
        phase="Running",
        assignments=found.assignments,
        datasets=found.datasets,
        pinned_samples=_samples_now(found.datasets, view),
        conditions=condition(task.status.conditions, ready, now),
        start_time=now,
        model=weights,
        updates_from=updates_from,
        evaluations_from=evaluations_from,
    )
    return _begin_round(started, 1 if weights is not None else 0, view)


def _samples_now(datasets: Mapping[str, str], view: View) -> dict[str, int]:
    """Return the number of samples in each edge's data set, where it has one."""
    indexes = {edge: view.edges[edge].dataset(name) for edge, name in datasets.items()}
    return {edge: index.samples for edge, index in indexes.items() if index is not None}


def close(task: FederatedTask, closed: Aggregation, view: View, now: str) -> FederatedTask:
    """Return the task after a round has closed. A round other than the present one changes nothing."""
    status = task.status
    if status.phase != "Running" or closed.job_uid != task.metadata.uid or closed.round != status.round:
        return task
    if status.step not in ("initialising", "training"):
        return task
    refused = [UncountedRecord(edge=each.edge, round=each.round, reason=each.reason) for each in closed.refused]
    late = [UncountedRecord(edge=each.edge, round=each.round, reason=each.reason) for each in closed.late]
    without_update = 0 if closed.counted else status.fruitless + 1
    changes: dict[str, object] = {
        "refused": [*status.refused, *refused][-HISTORY:],
        "late": [*status.late, *late][-HISTORY:],
        "refused_count": status.refused_count + len(refused),
        "late_count": status.late_count + len(late),
        "duplicate_count": status.duplicate_count + closed.duplicates,
        "unnoted_count": (status.unnoted_count or 0) + (closed.unnoted or 0) or None,
        "fruitless": without_update,
        "updates_from": closed.next_sequence,
    }
    if closed.model is None or without_update >= ROUNDS_WITHOUT_UPDATE:
        reason = refused[-1] if refused else None
        why = f"edge {reason.edge}: {reason.reason}" if reason else "no update came"
        failed = _with(task, **changes)
        return fail(failed, "NoValidUpdate", f"round {closed.round} closed without a valid update; {why}", now)
    if closed.round > 0:
        record = RoundRecord(
            round=closed.round,
            counted=len(closed.counted),
            edges=sorted(closed.counted)[:NAMED],
            model=closed.model.digest,
            num_samples=closed.num_samples,
            duration_seconds=closed.duration_seconds,
            reason=closed.reason,
            metrics=closed.metrics,
            capped=closed.capped[:NAMED] if closed.capped else None,
        )
        changes["rounds"] = [*status.rounds, record][-HISTORY:]
    after = _with(
        task, model=closed.model, model_round=closed.round, down=closed.down, personal=closed.personal, **changes
    )
    if closed.round < task.spec.rounds:
        return _begin_round(after, closed.round + 1, view)
    if task.spec.evaluation_worker is not None:
        return _with(after, step="evaluating", participants=[])
    return _succeed(after, now)


def evaluate(task: FederatedTask, evaluation: Evaluation, now: str) -> FederatedTask:
    """Return the task with the evaluation of a global model; the last round's ends the task."""
    status = task.status
    if evaluation.job_uid != task.metadata.uid or status.phase != "Running":
        return task
    rounds = [
        each.model_copy(update={"evaluation": evaluation.metrics})
        if each.round == evaluation.round and each.model == evaluation.model
        else each
        for each in status.rounds
    ]
    if rounds == status.rounds:
        return task
    measured = _with(task, rounds=rounds, evaluation=evaluation.metrics)
    if status.step == "evaluating" and status.model is not None and evaluation.model == status.model.digest:
        return _succeed(measured, now)
    return measured


def observe(task: FederatedTask, view: View, now: str) -> FederatedTask:
    """Return a running task after a change of presence or reports."""
    status = task.status
    if status.phase != "Running":
        return task
    uid = task.metadata.uid
    assigned = sorted(status.assignments.values())
    troubles = view.troubles(uid)
    failing = {edge: troubles[edge] for edge in assigned if edge in troubles}
    if failing and len(failing) == len(assigned):
        edge, why = sorted(failing.items())[0]
        return fail(task, "WorkersFailed", f"the worker fails on every edge; {edge}: {why}", now)
    evaluation = task.spec.evaluation_worker
    if evaluation is not None and status.step == "evaluating":
        node = view.edges.get(evaluation.node_name)
        if node is not None and (why := node.trouble(uid)):
            return fail(task, "EvaluationFailed", f"{evaluation.node_name}: {why}", now)
    aggregation = task.spec.aggregation_worker.node_name
    if aggregation in view.edges and (why := view.edges[aggregation].trouble(uid, AggregateTask)):
        return fail(task, "AggregationFailed", f"{aggregation}: {why}", now)
    healthy = _workers_healthy(failing, view.missing(uid))
    task = _with(task, conditions=condition(task.status.conditions, healthy, now))
    task = _with(task, conditions=condition(task.status.conditions, _progress(task, view), now))
    if status.step in ("initialising", "training") and (working := view.working(uid)).isdisjoint(status.participants):
        again = draw(task, status.round, view)
        if again != status.participants and not working.isdisjoint(again):
            task = _with(task, participants=again)  # every participant has gone, others are there
    return task


def _workers_healthy(failing: Mapping[str, str], missing: Mapping[str, str]) -> Condition:
    """Return the condition that names the edges whose worker fails, or waits for a script or data set."""
    if not failing and not missing:
        return Condition(type="WorkersHealthy", status="True", reason="AllWork")
    message = "; ".join(f"{edge}: {why}" for edge, why in sorted({**missing, **failing}.items()))[:2000]
    return Condition(type="WorkersHealthy", status="False", reason="WorkerFails" if failing else "WorkerWaits",
                     message=message)  # fmt: skip


def _progress(task: FederatedTask, view: View) -> Condition:
    """Return the condition that the round progresses, or names the edges that it waits for."""
    status = task.status
    needed = [*status.participants, task.spec.aggregation_worker.node_name]
    absent = [edge for edge in needed if not view.online(edge)]
    asked = status.step in ("initialising", "training")
    if not asked or (needed[-1] not in absent and len(absent) < len(status.participants)):
        return Condition(type="Progressing", status="True", reason="Working")
    message = f"round {status.round} waits for {', '.join(absent[:NAMED])}: offline"
    if unknown := [edge for edge in absent if edge not in view.edges]:
        message += f"; unknown: {', '.join(unknown[:NAMED])}"
    return Condition(type="Progressing", status="False", reason="Offline", message=message)


def fail(task: FederatedTask, reason: str, message: str, now: str) -> FederatedTask:
    """End the task without its model."""
    failed = Condition(type="Complete", status="False", reason=reason, message=message[:2000])
    return _with(task, phase="Failed", step="done", completion_time=now,
                 conditions=condition(task.status.conditions, failed, now))  # fmt: skip


def stop(task: FederatedTask, now: str) -> FederatedTask:
    """Stop the task, on request."""
    if task.status.phase in ENDED:
        return task
    stopped = Condition(type="Complete", status="False", reason="Stopped", message="stopped on request")
    return _with(task, phase="Stopped", step="done", completion_time=now,
                 conditions=condition(task.status.conditions, stopped, now))  # fmt: skip


def _begin_round(task: FederatedTask, round: int, view: View) -> FederatedTask:
    step = "training" if round else "initialising"
    return _with(task, step=step, round=round, participants=draw(task, round, view))


def _succeed(task: FederatedTask, now: str) -> FederatedTask:
    done = Condition(type="Complete", status="True", reason="AllRoundsClosed", message=f"{task.spec.rounds} rounds")
    return _with(
        task, phase="Succeeded", step="done", participants=[], completion_time=now,
        conditions=condition(task.status.conditions, done, now),
    )  # fmt: skip


def _with(task: FederatedTask, **changes: object) -> FederatedTask:
    status: FederatedTaskStatus = task.status.model_copy(update=changes)
    return task if status == task.status else task.model_copy(update={"status": status})
