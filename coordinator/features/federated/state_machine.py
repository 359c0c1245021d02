"""The state machine of a federated task: select, initialise, train round by round, evaluate, done. Pure.

Every function takes a task and an observation, and returns the task to store; the same object where nothing changed.
The file ``desired_tasks`` gives the tasks of each edge in that state, ``conditions`` what people are told.
"""

from __future__ import annotations

from collections.abc import Mapping

from heliograph.bus.contract.parameter_schema import KEEPS_EDGE_STATE
from heliograph.bus.contract.payloads import Aggregation, Evaluation, TrainTask, UncountedUpdate
from heliograph.bus.contract.resources import (
    HISTORY,
    NAMED,
    WATCHED,
    Condition,
    DatasetIndex,
    EvaluatedModel,
    FederatedTask,
    RoundRecord,
    UncountedRecord,
    condition,
    resolve,
)
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.federated import conditions, stopping
from heliograph.coordinator.features.federated.best_model import measured_model
from heliograph.coordinator.features.federated.deadlines import deadline_of, end_of_wall_time
from heliograph.coordinator.features.federated.desired_tasks import evaluation_is_due
from heliograph.coordinator.features.federated.drawing import draw
from heliograph.coordinator.features.federated.joining import foreign_samples, with_joined
from heliograph.coordinator.features.federated.participation.memory import NOTHING, Memory
from heliograph.coordinator.features.federated.selection import Missing, ready_of, select
from heliograph.coordinator.features.federated.steps import (
    begin_round,
    end_by,
    fail,
    finish,
    is_evaluated,
    measured,
    succeed,
    with_status,
)
from heliograph.coordinator.features.federated.troubles import (
    among,
    failed_beside,
    queued_workers,
    rests_at_evaluation,
)
from heliograph.coordinator.packages import names_of, pinned, signed_since

ROUNDS_WITHOUT_UPDATE = 3
"""Successive rounds without a valid update after which a task fails, before its last one."""


def begin(
    task: FederatedTask, view: View, now: str, updates_from: int, evaluations_from: int = 1, memory: Memory = NOTHING
) -> FederatedTask:
    """Start a pending task if its edges, data sets and model are there; else add a condition with what is missing.

    Args:
        memory: what the rounds of an earlier run have told of each edge, for strategies that compare edges; so it is in
            ``close`` and ``observe``.
    """
    if task.status.phase != "Pending":
        return task
    found = select(task, view)
    if isinstance(found, Missing):
        waiting = Condition(type="Ready", status="False", reason="Missing", message="; ".join(found.what))
        return with_status(task, conditions=condition(task.status.conditions, waiting, now))
    ready = Condition(type="Ready", status="True", reason="Selected", message=f"{len(found.assignments)} edges")
    weights, parent, last = task.status.model, task.status.parent, task.status.model_round
    if not last:  # else it goes on where it was stopped
        version = resolve(view.models[task.spec.aggregation_worker.model.name])
        weights = version.weights if version is not None else None
        parent = weights.digest if weights is not None else ""
    placed = with_joined(task, found, view)
    started = with_status(
        task,
        phase="Running",
        assignments=placed.assignments,
        datasets=placed.datasets,
        pinned_samples={**_samples_now(placed.datasets, view), **foreign_samples(task)},
        packages=pinned(names_of(task), view),
        dataset_versions=_versions_now(placed.datasets, view),
        conditions=condition(task.status.conditions, ready, now),
        start_time=now,
        model=weights,
        parent=parent,
        updates_from=updates_from,
        evaluations_from=evaluations_from,
        uncounted=sorted(placed.assignments.values())[:WATCHED],
        counted_updates={} if _keeps_edge_state(task, view) else None,
    )
    if last >= task.spec.rounds:
        return finish(started, now)
    return begin_round(started, last + 1 if weights is not None else 0, view, now, memory)


def _keeps_edge_state(task: FederatedTask, view: View) -> bool:
    """Return whether edges keep arrays from round to round: the algorithm's, or what updates leave behind."""
    if task.spec.update_encoding is not None and task.spec.update_encoding.top_k is not None:
        return True
    worker = task.spec.aggregation_worker
    schema = view.algorithms(worker.node_name).get(worker.worker_spec.aggregation_algorithm, {})
    return bool(schema.get(KEEPS_EDGE_STATE))


def _samples_now(datasets: Mapping[str, str], view: View) -> dict[str, int]:
    """Return the number of samples in each edge's data set, where it has one."""
    return {edge: index.samples for edge, index in _indexes(datasets, view).items()}


def _versions_now(datasets: Mapping[str, str], view: View) -> dict[str, str]:
    """Return the version of each edge's data set; agents of 0.1 tell none."""
    return {edge: index.version for edge, index in _indexes(datasets, view).items() if index.version}


def _indexes(datasets: Mapping[str, str], view: View) -> dict[str, DatasetIndex]:
    found = {edge: view.edges[edge].dataset(name) for edge, name in datasets.items()}
    return {edge: index for edge, index in found.items() if index is not None}


def close(
    task: FederatedTask, closed: Aggregation, view: View, now: str, memory: Memory = NOTHING
) -> FederatedTask:
    """Return the task after a round has closed. A round other than the present one changes nothing.

    Args:
        memory: with what this round has told.
    """
    status = task.status
    if status.phase != "Running" or closed.job_uid != task.metadata.uid or closed.round != status.round:
        return task
    if status.step not in ("initialising", "training"):
        return task
    refused = [_record(each) for each in closed.refused]
    late = [_record(each) for each in closed.late if each.round]  # further initial weights are no updates
    without_update = 0 if closed.counted else status.fruitless + 1
    left = _left(task, closed)
    last = closed.round >= task.spec.rounds or (closed.round > 0 and _is_left(task, left, view))
    changes: dict[str, object] = {
        "refused": [*status.refused, *refused][-HISTORY:],
        "late": [*status.late, *late][-HISTORY:],
        "refused_count": status.refused_count + len(refused),
        "late_count": status.late_count + len(late),
        "duplicate_count": status.duplicate_count + closed.duplicates,
        "unnoted_count": (status.unnoted_count or 0) + (closed.unnoted or 0) or None,
        "fruitless": without_update,
        "updates_from": closed.next_sequence,
        "uplink_bytes": status.uplink_bytes + closed.uplink_bytes,
        "left": left,
        "evaluating": _outstanding(task, view),
        "conditions": _after_close(task, closed, now),
    }
    if closed.round > 0 and status.counted_updates is not None:
        changes["counted_updates"] = {**status.counted_updates, **closed.counted}
    if closed.round > 0 and status.uncounted:
        changes["uncounted"] = [edge for edge in status.uncounted if edge not in closed.counted]
    if closed.model is None or without_update >= (1 if last else ROUNDS_WITHOUT_UPDATE):
        reason = refused[-1] if refused else None
        why = f"edge {reason.edge}: {reason.reason}" if reason else "no update came"
        which = f"round {closed.round}, the last one," if last else f"round {closed.round}"
        failed = with_status(task, **changes)
        return fail(failed, "NoValidUpdate", f"{which} closed without a valid update; {why}", now)
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
    after = with_status(
        task, model=closed.model, model_round=closed.round, down=closed.down, state=closed.state,
        personal=closed.personal, **changes,
    )  # fmt: skip
    if closed.round > 0 and closed.counted and task.spec.evaluation_worker is None:
        after = measured(after, closed.round, closed.model, closed.metrics, now)
    if after.status.stopped_by is not None or last:
        return finish(after, now)
    if (enough := stopping.by_bytes(task.spec.stop, after.status.uplink_bytes)) is not None:
        return end_by(after, enough, now)
    return begin_round(after, closed.round + 1, view, now, memory)


def _outstanding(task: FederatedTask, view: View) -> EvaluatedModel | None:
    """Return the model whose evaluation has not come yet, of a task whose next model is there: the evaluation worker
    keeps it until then, so that it is known which models may still become the best one."""
    status = task.status
    if status.evaluating is not None or status.model is None or task.spec.evaluation_worker is None:
        return status.evaluating
    if is_evaluated(status) or not evaluation_is_due(task, view):
        return None
    return EvaluatedModel(round=status.model_round, model=status.model)


def _record(update: UncountedUpdate) -> UncountedRecord:
    return UncountedRecord(
        edge=update.edge, round=update.round, reason=update.reason, seconds_late=update.seconds_late
    )


def _left(task: FederatedTask, closed: Aggregation) -> list[str]:
    """Return the edges that have asked to stop, where the job lets them."""
    left = task.status.left
    if not closed.stopping or task.spec.early_stopping == "ignore":
        return left
    return sorted({*left, *closed.stopping} & set(task.status.assignments.values()))


def _is_left(task: FederatedTask, left: list[str], view: View) -> bool:
    """Return whether edges have asked to stop, and the job follows them: it wants so, or none that can work remains."""
    if not left or task.spec.early_stopping == "any":
        return bool(left)
    remaining = set(task.status.assignments.values()).difference(left)
    return remaining.isdisjoint(view.working(task.metadata.uid))


def _after_close(task: FederatedTask, closed: Aggregation, now: str) -> list[Condition]:
    found = task.status.conditions
    for new in (conditions.in_time(task, closed), conditions.updates_change(task, closed)):
        found = condition(found, new, now) if new is not None else found
    return found


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
    model = measured_model(task, evaluation.round, evaluation.model)
    if rounds == status.rounds and model is None:
        return task
    outstanding = status.evaluating if model is None else None
    known = with_status(task, rounds=rounds, evaluation=evaluation.metrics, evaluating=outstanding)
    if (told := conditions.evaluated(task, evaluation)) is not None:
        known = with_status(known, conditions=condition(status.conditions, told, now))
    known = measured(known, evaluation.round, model, evaluation.metrics, now)
    if status.step == "evaluating":
        is_last = status.model is not None and evaluation.model == status.model.digest
        return succeed(known, now) if is_last else known
    return known if known.status.stopped_by is None else finish(known, now)


def observe(task: FederatedTask, view: View, now: str, memory: Memory = NOTHING) -> FederatedTask:
    """Return a running task after a change of presence or reports, or once its round's deadline has passed."""
    status = task.status
    if status.phase != "Running":
        return task
    uid, left = task.metadata.uid, set(status.left)
    absent = {edge for edge, each in status.joined.items() if each.foreign and not view.online(edge)}
    training = sorted(edge for edge in status.assignments.values() if edge not in left and edge not in absent)
    failing, waiting = among(training, view.troubles(uid)), among(training, view.missing(uid, TrainTask))
    queued = queued_workers(task, training, view)
    in_round = status.step in ("initialising", "training")
    if in_round and (over := stopping.by_time(task.spec.stop, end_of_wall_time(task), now)) is not None:
        return end_by(task, over, now)
    if in_round and failing and len(failing) == len(training):
        if left and not status.fruitless and status.rounds:
            return finish(task, now)  # the others have learned what they wanted
        edge, why = min(failing.items())
        return fail(task, "WorkersFailed", f"the worker fails on every edge; {edge}: {why}", now)
    if rests_at_evaluation(task, view):
        task = with_status(task, evaluating=None)  # its agent starts the worker again only for another model
        status = task.status
    if ended := failed_beside(task, view):
        return fail(task, *ended, now)
    overdue = "" < deadline_of(task) <= now
    if overdue and training and not status.rounds and len(failing.keys() | waiting.keys()) == len(training):
        message = f"no edge could begin within {task.spec.round_deadline_seconds:g} s (roundDeadlineSeconds)"
        return fail(task, "WorkersWait", f"{message}; {conditions.reasons({**waiting, **failing})}", now)
    progressing = conditions.progressing(task, view)
    told = [conditions.workers_healthy(task, view, failing, waiting), progressing]
    if overdue and progressing.status == "True" and not queued.keys() >= set(status.participants):
        told.append(conditions.none_in_time(task))
    told += filter(None, (conditions.scheduled(task, queued), conditions.room(task, view, training)))
    found = status.conditions
    for each in told:
        found = condition(found, each, now)
    told_now = with_status(task, conditions=found, packages=signed_since(status.packages, view))
    return _ask_others(told_now, view, overdue, memory)


def _ask_others(task: FederatedTask, view: View, overdue: bool, memory: Memory) -> FederatedTask:
    """Ask other edges where none of the participants can work, or nobody has sent initial weights in time."""
    status = task.status
    if status.step not in ("initialising", "training"):
        return task
    late = overdue and status.step == "initialising"
    ready = ready_of(task.metadata.uid, view, view.working(task.metadata.uid))
    gone = ready.isdisjoint(status.participants)
    if not (gone or late):
        return task
    again = draw(task, status.round, view, late, memory)
    more = len(again) > len(status.participants)
    return with_status(task, participants=again) if (gone or more) and not ready.isdisjoint(again) else task
