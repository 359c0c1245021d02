"""The state machine of a federated task: select, initialise, train round by round, evaluate, done. Pure.

Every function takes a task and an observation, and returns the task to store; the same object where nothing changed.
``desired_tasks`` returns the tasks of each edge in that state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heliograph.bus.contract.payloads import (
    AggregateTask,
    Aggregation,
    EvaluateTask,
    Evaluation,
    RoundSpec,
    ScriptSpec,
    TrainTask,
    WorkerTask,
)
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
from heliograph.bus.contract.resources.base import Parameter, Scalar
from heliograph.bus.contract.resources.federated_task import WorkerSpec
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.federated.selection import Missing, draw, select
from heliograph.core.names import join_labels

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
        conditions=condition(task.status.conditions, ready, now),
        start_time=now,
        model=weights,
        updates_from=updates_from,
        evaluations_from=evaluations_from,
    )
    return _begin_round(started, 1 if weights is not None else 0, view)


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
    text = "; ".join(f"{edge}: {why}" for edge, why in sorted(failing.items()))
    healthy = Condition(type="WorkersHealthy", status="False" if failing else "True",
                        reason="WorkerFails" if failing else "AllWork", message=text[:2000])  # fmt: skip
    task = _with(task, conditions=condition(task.status.conditions, healthy, now))
    task = _with(task, conditions=condition(task.status.conditions, _progress(task, view), now))
    if status.step in ("initialising", "training") and (working := view.working(uid)).isdisjoint(status.participants):
        again = draw(task, status.round, view)
        if again != status.participants and not working.isdisjoint(again):
            task = _with(task, participants=again)  # every participant has gone, others are there
    return task


def _progress(task: FederatedTask, view: View) -> Condition:
    """Return the condition that the round progresses, or names the edges that it waits for."""
    status = task.status
    needed = [*status.participants, task.spec.aggregation_worker.node_name]
    absent = [edge for edge in needed if not view.online(edge)]
    asked = status.step in ("initialising", "training")
    if not asked or (needed[-1] not in absent and len(absent) < len(status.participants)):
        return Condition(type="Progressing", status="True", reason="Working")
    message = f"round {status.round} waits for {', '.join(absent[:NAMED])}: offline"
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


def desired_tasks(
    task: FederatedTask, view: View, training: Mapping[str, list[WorkerTask]] | None = None
) -> dict[str, list[WorkerTask]]:
    """Return the tasks of each edge. ``training``: the result of ``training_tasks``, if known."""
    status = task.status
    if status.phase != "Running":
        return {}
    found = training_tasks(task, warm_tasks(task, view.algorithms())) if training is None else dict(training)

    def add(node: str, one: WorkerTask) -> None:
        found[node] = [*found.get(node, ()), one]

    if status.step in ("initialising", "training"):
        add(task.spec.aggregation_worker.node_name, _aggregation(task, view))
    if task.spec.evaluation_worker is not None:
        add(task.spec.evaluation_worker.node_name, _evaluation(task, view))
    return found


def training_tasks(task: FederatedTask, warm: Mapping[str, list[WorkerTask]]) -> dict[str, list[WorkerTask]]:
    """Return the training tasks of each edge; an edge that does not take part reuses its warm task, which stays the
    same between rounds."""
    status = task.status
    found = dict(warm)
    if status.step in ("initialising", "training"):
        personal = status.personal or {}
        for edge in status.participants:
            now = {"round": status.round, "model": status.model, "active": True, "down": status.down,
                   "personal": personal.get(edge)}  # fmt: skip
            found[edge] = [each.model_copy(update=now) for each in warm[edge]]
    return found


def warm_tasks(task: FederatedTask, algorithms: Mapping[str, Mapping[str, Any]]) -> dict[str, list[WorkerTask]]:
    """Return the training task of each edge between rounds: it keeps the edge's worker ready."""
    status = task.status
    declared = {each.name: each.worker_spec for each in task.spec.training_workers}
    repeated = [each.worker_spec for each in task.spec.training_workers if not each.node_name][-1:]
    script, parameters, defaults = _script(task), _parameters(task, algorithms), _defaults(task, algorithms)
    found: dict[str, list[WorkerTask]] = {}
    for worker, edge in sorted(status.assignments.items()):
        own = declared.get(worker) or repeated[0]
        one = TrainTask.model_construct(  # without validation: all values are checked, for ten thousand edges
            worker=join_labels(task.name, worker),
            job=task.name,
            job_uid=task.metadata.uid,
            round=0,
            model=None,
            script=_own_script(own) or script,
            dataset=status.datasets.get(edge) or None,
            framework=own.framework_type,
            parameters=defaults | _values(own.parameters) if own.parameters else parameters,
            active=False,
        )
        found.setdefault(edge, []).append(one)
    return found


def _aggregation(task: FederatedTask, view: View) -> AggregateTask:
    status, spec = task.status, task.spec
    uid = task.metadata.uid
    working = view.working(uid)
    sizes = {
        edge: index.samples
        for edge in status.participants
        if edge in view.edges and (index := view.edges[edge].dataset(status.datasets.get(edge, ""))) is not None
    }
    collect = RoundSpec(
        participants=status.participants,
        reachable=[edge for edge in status.participants if edge in working],
        quorum=spec.quorum if status.round else None,
        deadline_seconds=spec.round_deadline_seconds,
        samples=sizes,
        start=max(1, status.updates_from),
    )
    algorithm = spec.aggregation_worker.worker_spec
    return AggregateTask(
        worker=join_labels(task.name, "aggregate"),
        job=task.name,
        job_uid=uid,
        round=status.round,
        model=status.model,
        parameters=_values(algorithm.parameters),
        algorithm=algorithm.aggregation_algorithm,
        collect=collect,
    )


def _evaluation(task: FederatedTask, view: View) -> EvaluateTask:
    status = task.status
    worker = task.spec.evaluation_worker
    assert worker is not None
    every = _evaluation_interval(task, view)
    due = status.model_round > 0 and (status.model_round % every == 0 or status.step == "evaluating")
    return EvaluateTask(
        worker=join_labels(task.name, worker.name),
        job=task.name,
        job_uid=task.metadata.uid,
        round=status.model_round,
        model=status.model if due else None,
        script=_script(task),
        dataset=worker.dataset.name,
        parameters=_parameters(task, view.algorithms()),
        active=due,
    )


def _script(task: FederatedTask) -> ScriptSpec | None:
    """Return the script of the first worker that names one."""
    return next((found for each in task.spec.training_workers if (found := _own_script(each.worker_spec))), None)


def _own_script(spec: WorkerSpec) -> ScriptSpec | None:
    """Return the script that a worker names itself."""
    if not spec.train_script_boot_file:
        return None
    return ScriptSpec(directory=spec.train_script_dir or "", boot_file=spec.train_script_boot_file)


def _defaults(task: FederatedTask, algorithms: Mapping[str, Mapping[str, Any]]) -> dict[str, Scalar]:
    """Return the algorithm's defaults, overridden by the task's values."""
    algorithm = task.spec.aggregation_worker.worker_spec
    schema = algorithms.get(algorithm.aggregation_algorithm, {}).get("properties", {})
    found: dict[str, Scalar] = {key: each["default"] for key, each in schema.items() if each.get("default") is not None}
    return found | _values(algorithm.parameters)


def _parameters(task: FederatedTask, algorithms: Mapping[str, Mapping[str, Any]]) -> dict[str, Scalar]:
    """Return parameters for workers that declare none: the defaults, overridden by the first worker with parameters."""
    first = next((each.worker_spec for each in task.spec.training_workers if each.worker_spec.parameters), None)
    return _defaults(task, algorithms) | (_values(first.parameters) if first is not None else {})


def _values(parameters: Sequence[Parameter]) -> dict[str, Scalar]:
    return {each.key: each.value for each in parameters if each.value is not None}


def _evaluation_interval(task: FederatedTask, view: View) -> int:
    value = _parameters(task, view.algorithms()).get("rounds_between_validations", 1)
    return value if isinstance(value, int) and value > 0 else 1


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
