"""What keeps the workers of a federated task from their work. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from heliograph.bus.contract.payloads import AggregateTask, EvaluateTask, TrainTask
from heliograph.bus.contract.resources import FederatedTask
from heliograph.coordinator.edges.view import View


def among(edges: list[str], reasons: Mapping[str, str]) -> dict[str, str]:
    """Return the reasons of those edges that have one."""
    return {edge: reasons[edge] for edge in edges if edge in reasons} if reasons else {}


def queued_workers(task: FederatedTask, training: list[str], view: View) -> dict[str, str]:
    """Return the edges on which a worker of the task waits for memory or a GPU that other workers have."""
    uid, evaluation = task.metadata.uid, task.spec.evaluation_worker
    found = among(training, view.queued(uid, TrainTask))
    node = view.edges.get(evaluation.node_name) if evaluation is not None else None
    if node is not None and (why := node.queued(uid, EvaluateTask)):
        found[node.name] = "; ".join(filter(None, (found.get(node.name), why)))
    return found


def failed_beside(task: FederatedTask, view: View) -> tuple[str, str] | None:
    """Return reason and message where the evaluation or the aggregation has failed for good."""
    uid, status = task.metadata.uid, task.status
    evaluation = task.spec.evaluation_worker
    node = view.edges.get(evaluation.node_name) if evaluation is not None else None
    if node is not None:
        why = node.final_trouble(uid, EvaluateTask)  # any other may pass before the last model is evaluated
        since = node.rests_since(uid, EvaluateTask)
        if status.step == "evaluating" and (since is None or since >= status.model_round):
            why = node.trouble(uid, EvaluateTask)
        if why:
            return "EvaluationFailed", f"{node.name}: {why}"
    aggregation = task.spec.aggregation_worker.node_name
    if aggregation in view.edges and (why := view.edges[aggregation].trouble(uid, AggregateTask)):
        return "AggregationFailed", f"{aggregation}: {why}"
    return None


def rests_at_evaluation(task: FederatedTask, view: View) -> bool:
    """Return whether the evaluation worker has failed at the model that it was given, and is started again only for
    another one."""
    evaluation, given = task.spec.evaluation_worker, task.status.evaluating
    node = view.edges.get(evaluation.node_name) if evaluation is not None else None
    if node is None or given is None:
        return False
    since = node.rests_since(task.metadata.uid, EvaluateTask)
    return since is not None and since >= given.round
