"""What each edge of a joint inference service runs of a model, beside what it shall run. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from heliograph.bus.contract.model_requests import EdgeDeployment
from heliograph.bus.contract.payloads import BigModelTask, InferTask, ServingTask, WorkerReport
from heliograph.bus.contract.resources import (
    CHAMPION,
    JointInferenceService,
    Model,
    ModelVersion,
    ServiceNumbers,
    resolve_all,
)
from heliograph.bus.contract.resources.model import declared
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.features.inference.service_placement import placement
from heliograph.coordinator.features.inference.totals import Totals

State = Literal["deployed", "pending", "offline", "failing"]
_FAILING = ("refused", "waiting", "backing-off")
_NONE = ServiceNumbers()


def of_service(service: JointInferenceService, model: Model, view: View, totals: Totals) -> Iterator[EdgeDeployment]:
    """Yield what a service runs of a model: on its edges, and on the node of its deep model. A stopped service runs
    nothing."""
    if service.status.stopped:
        return
    spec = service.spec
    if spec.edge_worker.model.name == model.name:
        yield from _on(placement(service, view), service, InferTask, model, view, totals.edges)
    deep = spec.cloud_worker
    if deep is not None and deep.model.name == model.name and (node := deep.node_name) in view.edges:
        yield from _on([node], service, BigModelTask, model, view, {node: totals.cloud})


def _on(
    edges: Iterable[str],
    service: JointInferenceService,
    task: type[ServingTask],
    model: Model,
    view: View,
    counted: Mapping[str, ServiceNumbers],
) -> Iterator[EdgeDeployment]:
    bound = {edge: alias for alias, there in model.status.bindings.items() for edge in there}
    by_digest = _numbers_by_digest(model)
    for edge, version in resolve_all(model, edges).items():
        alias = bound.get(edge, CHAMPION)
        if alias not in model.status.aliases:
            alias = CHAMPION if CHAMPION in model.status.aliases else ""
        numbers = counted.get(edge, _NONE)
        workers = view.edges[edge].workers(service.metadata.uid, task)
        state, reason = _state(version, numbers, view.edges[edge], workers)
        yield EdgeDeployment(
            edge=edge,
            service=service.name,
            role=task.model_fields["role"].default,
            alias=alias,
            version=version.version if version is not None else None,
            digest=version.weights.digest if version is not None else "",
            running=numbers.model,
            running_version=by_digest.get(numbers.model),
            state=state,
            reason=reason,
        )


def _state(
    version: ModelVersion | None, counted: ServiceNumbers, there: EdgeView, workers: Iterable[WorkerReport]
) -> tuple[State, str]:
    if not there.online:
        return "offline", ""
    # a worker that was refused another model goes on and runs: what is said of both counts
    troubles = [each.detail or each.state for each in workers if each.detail or each.state in _FAILING]
    troubles = [*dict.fromkeys([*troubles, *filter(None, [counted.trouble])])]
    if troubles:
        return "failing", "; ".join(troubles)[:1000]
    is_there = any(each.state == "running" for each in workers)
    wanted = version.weights.digest if version is not None else ""
    return ("deployed" if is_there and counted.model == wanted else "pending"), ""


def _numbers_by_digest(model: Model) -> dict[str, int]:
    """Return the number of each version by its weights; of several with the same weights the newest."""
    of_declared = declared(model)
    known = [*((of_declared,) if of_declared is not None else ()), *model.status.unfinished, *model.status.versions]
    return {each.weights.digest: each.version for each in known}
