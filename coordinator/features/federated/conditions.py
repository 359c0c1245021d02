"""The conditions of a federated task: what people are told of its workers, its rounds and its end. Pure.

``InTime``, ``UpdatesChange``, ``Evaluated``, ``StopMeasured``, ``Scheduled`` and ``HasRoom`` appear once something is
wrong, and turn true when it is right again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from heliograph.bus.contract.payloads import Aggregation, EvaluateTask, Evaluation
from heliograph.bus.contract.resources import NAMED, WATCHED, Condition, FederatedTask, FederatedTaskStatus
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.federated.participation.strategies import number_of

MAX_MESSAGE = 2000
WHY = 200
"""Characters of the reason that a message gives for one edge of several."""


def workers_healthy(
    task: FederatedTask, view: View, failing: Mapping[str, str], waiting: Mapping[str, str]
) -> Condition:
    """Return the condition that names the nodes whose worker fails, or waits for a script or data set.

    Args:
        failing, waiting: training edge to the reason; those of the evaluation are added.
    """
    failing, waiting = dict(failing), dict(waiting)
    evaluation = task.spec.evaluation_worker
    node = view.edges.get(evaluation.node_name) if evaluation is not None else None
    if node is not None:
        uid = task.metadata.uid
        for found, why in ((failing, node.trouble(uid, EvaluateTask)), (waiting, node.missing(uid, EvaluateTask))):
            if why:
                found[node.name] = "; ".join(filter(None, (found.get(node.name), why)))
    if not failing and not waiting:
        return Condition(type="WorkersHealthy", status="True", reason="AllWork")
    return Condition(type="WorkersHealthy", status="False", reason="WorkerFails" if failing else "WorkerWaits",
                     message=reasons({**waiting, **failing}))  # fmt: skip


def scheduled(task: FederatedTask, queued: Mapping[str, str]) -> Condition | None:
    """Return the condition that names the nodes on which a worker waits for memory or a GPU that others have; None
    where it says nothing."""
    if not queued:
        return _right(task.status, "Scheduled", "AllRun")
    return _wrong("Scheduled", "WaitsForNode", reasons(queued))


def room(task: FederatedTask, view: View, training: Sequence[str]) -> Condition | None:
    """Return the condition that names the nodes of the task with a store that has no room left: its updates and results
    may wait there; None where it says nothing."""
    nodes = {task.spec.aggregation_worker.node_name, *training} if view.full else ()
    full = {name: view.full[name] for name in nodes if name in view.full}
    if not full:
        return _right(task.status, "HasRoom", "RoomAgain")
    return _wrong("HasRoom", "StoreFull", reasons(full))


def reasons(troubles: Mapping[str, str]) -> str:
    """Return the reason of each edge, in one message of bounded length."""
    return "; ".join(f"{edge}: {why}" for edge, why in sorted(troubles.items()))[:MAX_MESSAGE]


def progressing(task: FederatedTask, view: View) -> Condition:
    """Return the condition that the round progresses, or names the nodes that it waits for."""
    status, spec = task.status, task.spec
    if status.step == "evaluating" and spec.evaluation_worker is not None:
        what, node, edges = f"the evaluation of round {status.model_round}", spec.evaluation_worker.node_name, None
    else:
        what, node, edges = f"round {status.round}", spec.aggregation_worker.node_name, status.participants
    absent = [each for each in [*(edges or ()), node] if not view.online(each)]
    if not absent or (absent[-1] != node and edges is not None and len(absent) < len(edges)):
        return Condition(type="Progressing", status="True", reason="Working")
    message = f"{what} waits for {', '.join(absent[:NAMED])}: offline"
    if unknown := [edge for edge in absent if edge not in view.edges]:
        message += f"; unknown: {', '.join(unknown[:NAMED])}"
    return Condition(type="Progressing", status="False", reason="Offline", message=message)


def none_in_time(task: FederatedTask) -> Condition:
    """Return the condition of a round that is open beyond its deadline: it closes with the first update."""
    what = "update" if task.status.round else "initial weights"
    message = f"round {task.status.round}: no {what} came within {task.spec.round_deadline_seconds:g} s"
    return _wrong("InTime", "NoneInTime", f"{message}: look at the workers, or raise roundDeadlineSeconds")


def in_time(task: FederatedTask, closed: Aggregation) -> Condition | None:
    """Return the condition after a round's close; None where it says nothing about the deadline.

    An update of a round that closed before its deadline is late by the job's own will; one of an edge that was cut off
    has no ``seconds_late``: a longer deadline would not help it.
    """
    by_deadline = {each.round for each in task.status.rounds if each.reason == "deadline"} if closed.late else set()
    if closed.reason == "deadline":
        by_deadline.add(closed.round)
    late = {each.edge: each.seconds_late for each in closed.late
            if each.round in by_deadline and each.seconds_late is not None}  # fmt: skip
    if late:
        seconds = math.ceil(max(late.values()))  # whole ones, so that not each round says something new
        by = f" by {'up to ' if len(late) > 1 or seconds == 1 else ''}{seconds} s" if seconds else ""
        came = len(late.keys() | closed.counted.keys())
        message = f"{len(late)} of {came} updates came late{by}"
        return _wrong("InTime", "Late", f"{message}: raise roundDeadlineSeconds, "
                      f"now {task.spec.round_deadline_seconds:g} ({_named(sorted(late))})")  # fmt: skip
    return None if closed.reason == "deadline" else _right(task.status, "InTime", "AllInTime")


def updates_change(task: FederatedTask, closed: Aggregation) -> Condition | None:
    """Return the condition after a round's close; None where it changes nothing."""
    if not closed.unchanged:
        return _right(task.status, "UpdatesChange", "AllChange") if closed.counted and closed.round else None
    number = len(closed.unchanged)
    message = f"{number} of {len(closed.counted)} updates equal the model that they began from"
    return _wrong("UpdatesChange", "Unchanged", f"{message} ({_named(closed.unchanged)}): the script trains nothing, "
                  "or another model than the one it gave to FederatedLearning")  # fmt: skip


def evaluated(task: FederatedTask, evaluation: Evaluation) -> Condition | None:
    """Return the condition after an evaluation; None where it changes nothing."""
    if evaluation.metrics:
        return _right(task.status, "Evaluated", "Measured")
    return _wrong("Evaluated", "NoMetrics", f"round {evaluation.round}: evaluate gave no finite number")


def stop_measured(task: FederatedTask, round: int, metrics: Mapping[str, float]) -> Condition | None:
    """Return the condition that names the metrics which the stop conditions need and a round does not have; None where
    it changes nothing."""
    stop = task.spec.stop
    parts = {} if stop is None else {"target": stop.target, "plateau": stop.plateau}
    wanted = {f"stop.{field}.metric": part.metric for field, part in parts.items() if part is not None}
    lacking = [f"{metric} ({field})" for field, metric in wanted.items() if metric not in metrics]
    if not lacking:
        return _right(task.status, "StopMeasured", "Measured")
    has = _named(sorted(metrics)) or "none"
    return _wrong("StopMeasured", "NoMetric", f"round {round} has no metric {', '.join(lacking)}; it has {has}")


def selection_informed(task: FederatedTask, lacking: str) -> Condition | None:
    """Return the condition that says what the selection of participants lacks; None where it changes nothing."""
    if not lacking:
        return _right(task.status, "SelectionInformed", "Informed")
    return _wrong("SelectionInformed", "Lacking", lacking)


def succeeded(task: FederatedTask) -> Condition:
    """Return the condition of a task that has ended well; it names the edges that were never counted."""
    status, spec = task.status, task.spec
    if status.stopped_by is not None:
        reason = status.stopped_by.reason
        message = f"{status.model_round} of {spec.rounds} rounds; {status.stopped_by.message}"
    elif status.left and status.model_round < spec.rounds:
        reason = "EarlyStopped"
        message = f"{status.model_round} of {spec.rounds} rounds; {_named(status.left)} asked to stop"
    else:
        reason, message = "AllRoundsClosed", f"{spec.rounds} rounds"
    if status.uncounted:
        message += f"; {_uncounted(task)}"
    return Condition(type="Complete", status="True", reason=reason, message=message[:MAX_MESSAGE])


def ended(task: FederatedTask, reason: str, message: str) -> Condition:
    """Return the condition of a task that has failed or was stopped; it says where there is a model all the same."""
    kept = ""
    if any(each.counted for each in task.status.rounds):
        kept = f"; the model of round {task.status.model_round} is kept"
    return _wrong("Complete", reason, message[: MAX_MESSAGE - len(kept)] + kept)


def _uncounted(task: FederatedTask) -> str:
    """Return the edges that were never counted, the first few with the last reason that is known."""
    status, participants = task.status, task.spec.participants
    assigned = len(status.assignments)
    number = number_of(participants, assigned)
    drawn = number is not None and number < assigned
    what = "never drawn or never counted" if drawn else "never counted"
    if assigned > WATCHED:
        what += f" among the first {WATCHED} edges"
    why = {each.edge: f"refused: {each.reason[:WHY]}" for each in status.refused}
    why |= {each.edge: f"late: {each.reason[:WHY]}" for each in status.late}
    first = [f"{edge} ({why[edge]})" if edge in why else edge for edge in status.uncounted[:NAMED]]
    return f"{what}: {_named(first, len(status.uncounted))}"


def _named(edges: Sequence[str], number: int | None = None) -> str:
    """Return the first few edges, and how many more there are."""
    more = (len(edges) if number is None else number) - len(edges[:NAMED])
    return ", ".join(edges[:NAMED]) + (f" and {more} more" if more else "")


def _wrong(type: str, reason: str, message: str) -> Condition:
    return Condition(type=type, status="False", reason=reason, message=message[:MAX_MESSAGE])


def _right(status: FederatedTaskStatus, type: str, reason: str) -> Condition | None:
    """Return the true condition where it was false; a task that never had it gets none."""
    known = any(each.type == type for each in status.conditions)
    return Condition(type=type, status="True", reason=reason) if known else None
