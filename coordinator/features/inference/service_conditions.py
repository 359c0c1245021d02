"""The conditions of a joint inference service: whether its workers answer, and what is wrong with them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from heliograph.bus.contract.payloads import (
    ServingTask,
    WorkerReport,
)
from heliograph.bus.contract.resources import (
    NAMED,
    Condition,
    InferenceScript,
    JointInferenceService,
    ServiceNumbers,
    resolve_all,
)
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.inference.service_placement import (
    deep_node,
    other_format,
    unable,
)
from heliograph.coordinator.features.inference.totals import Totals

OFFLINE = "offline"
HEALTHY = "WorkersHealthy"
_RUNNABLE = "FormatRunnable"


def trouble_of(
    service: JointInferenceService,
    edge: str,
    task: type[ServingTask],
    answers: bool,
    before: ServiceNumbers | None,
    counted: ServiceNumbers | None,
    view: View,
) -> str:
    """Return the trouble of the service's workers on an edge, as agent and workers report it; empty: none."""
    there = view.edges[edge]
    if not there.online:
        return OFFLINE
    workers = there.workers(service.metadata.uid, task)
    earlier = before.trouble if before is not None and before.trouble != OFFLINE else ""
    if earlier and any(_restarts(each) for each in workers):
        return earlier  # else it would come and go with each restart
    reasons = [each.detail or each.state for each in workers
               if not each.queued and (each.detail or each.state in ("refused", "backing-off"))]  # fmt: skip
    reasons += [counted.trouble] if counted is not None and workers else []
    found = "; ".join(dict.fromkeys(filter(None, reasons)))[:1000]
    if found and earlier.endswith(found):
        return earlier  # the process has said it, and has not ended yet: the exit code before it would come and go
    loads = not answers and any(each.restarts > 0 and each.state == "running" for each in workers)
    return found or (earlier if loads else "")  # until the model is there, it is not known to be mended


def does_answer(
    service: JointInferenceService,
    edge: str,
    name: str,
    task: type[ServingTask],
    totals: Totals,
    view: View,
) -> bool:
    """Return whether the worker of that name on an edge answers: it runs and says so. An edge that is offline is taken
    to go on as it was."""
    there, ready = view.edges[edge], totals.ready.get(edge, frozenset())
    if not there.online:
        return name in ready
    runs = any(each.worker == name and each.state == "running" for each in there.workers(service.metadata.uid, task))
    return runs and name in ready


def ready_condition(answers: bool, answering: str, *others: Condition | None) -> Condition:
    if answers:
        return Condition(type="Ready", status="True", reason="Answers", message=answering)
    wrong = next((each for each in others if each is not None and each.status == "False"), None)
    if wrong is None:
        return Condition(type="Ready", status="False", reason="Starting", message=answering)
    message = f"{answering}; {wrong.message}"[:2000]
    return Condition(type="Ready", status="False", reason=wrong.reason, message=message)


def scheduled_condition(service: JointInferenceService, placed: Sequence[str], view: View) -> Condition | None:
    """Return the condition that names the nodes on which a worker waits for memory or a GPU that others have. It
    appears once one does, and turns true when none does any more."""
    uid, node = service.metadata.uid, deep_node(service)
    waiting = view.queued(uid, ServingTask)
    found = [f"{edge}: {waiting[edge]}" for edge in dict.fromkeys((*placed, node)) if edge in waiting]
    if found:
        message = "; ".join(found[:NAMED])[:2000]
        return Condition(type="Scheduled", status="False", reason="WaitsForNode", message=message)
    if any(each.type == "Scheduled" for each in service.status.conditions):
        return Condition(type="Scheduled", status="True", reason="AllRun")
    return None


def runnable_condition(service: JointInferenceService, placed: Sequence[str], view: View) -> Condition | None:
    """Return the condition that names the nodes on which a worker is not placed: they have no runtime for its format,
    or the model's version is of another one. It appears once one is, and turns true when none is any more."""
    spec = service.spec
    sides: list[tuple[InferenceScript, Sequence[str]]] = [(spec.edge_worker, placed)]
    if spec.cloud_worker is not None:
        sides.append((spec.cloud_worker, [spec.cloud_worker.node_name]))
    found: dict[str, list[str]] = {}
    for script, nodes in sides:
        for node, version in resolve_all(view.models[script.model.name], nodes).items():
            if why := unable(script, node, view) or other_format(script, version):
                found.setdefault(why, []).append(node)
    if found:
        parts = [f"{', '.join(nodes[:NAMED])}{f' and {len(nodes) - NAMED} more' if len(nodes) > NAMED else ''}: {why}"
                 for why, nodes in found.items()]  # fmt: skip
        return Condition(type=_RUNNABLE, status="False", reason="FormatNotRunnable", message="; ".join(parts)[:2000])
    if any(each.type == _RUNNABLE for each in service.status.conditions):
        return Condition(type=_RUNNABLE, status="True", reason="AllRun")
    return None


def edges_condition(service: JointInferenceService, view: View) -> Condition:
    edges = service.spec.edges.names or ()
    unknown = [edge for edge in edges if not view.runs_workers(edge)]
    if not unknown:
        return Condition(type="EdgesKnown", status="True", reason="AllKnown")
    message = f"{len(unknown)} of {len(edges)} edges unknown, or without an agent: {', '.join(unknown[:NAMED])}"
    return Condition(type="EdgesKnown", status="False", reason="Unknown", message=message)


def health_condition(troubles: Sequence[tuple[str, str]]) -> Condition:
    """Return the condition that names failing edges. An offline edge is not among them: it may work all the same."""
    failing = [f"{where}: {why}" for where, why in troubles if why not in ("", OFFLINE)]
    if not failing:
        return Condition(type=HEALTHY, status="True", reason="AllWork")
    message = "; ".join(failing[:NAMED])[:2000]
    return Condition(type=HEALTHY, status="False", reason="WorkerFails", message=message)


def _restarts(worker: WorkerReport) -> bool:
    return worker.state == "starting" and worker.restarts > 0
