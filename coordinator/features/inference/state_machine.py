"""The state machine of a joint inference service: wait for its models and edges, start its workers, run while they
answer, stop, start again. Pure.

Every function takes a service and an observation, and returns the service to store; the same object where nothing
changed. ``service_tasks`` has the tasks of each edge in that state.
"""

from __future__ import annotations

from heliograph.bus.contract.payloads import BigModelTask, InferTask
from heliograph.bus.contract.resources import (
    Condition,
    InferenceScript,
    JointInferenceService,
    JointInferenceServiceStatus,
    PinnedPackage,
    ServiceNumbers,
    condition,
)
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.inference.service_conditions import (
    does_answer,
    edges_condition,
    health_condition,
    ready_condition,
    runnable_condition,
    scheduled_condition,
    trouble_of,
)
from heliograph.coordinator.features.inference.service_placement import (
    deep_node,
    edge_worker,
    placement,
    replicas,
    what_is_missing,
)
from heliograph.coordinator.features.inference.totals import Totals
from heliograph.coordinator.packages import names_of, pinned, signed_since

EDGES_SHOWN = 256
"""Edges that a status shows at most: ten thousand do not fit."""


def observe(service: JointInferenceService, view: View, totals: Totals, now: str) -> JointInferenceService:
    """Return the service after a change of presence, reports, models or totals."""
    status = service.status
    service = _with(service, total=totals.total, cloud=totals.cloud)
    ready = [each for each in status.conditions if each.type == "Ready"]
    if status.stopped:
        stopped = Condition(type="Ready", status="False", reason="Stopped", message="stopped on request")
        return _with(service, phase="Stopped", edges={}, start_time="", conditions=condition(ready, stopped, now))
    placed = placement(service, view)
    if missing := list(what_is_missing(service, view, placed)):
        waiting = Condition(type="Ready", status="False", reason="Missing", message="; ".join(missing)[:2000])
        return _with(service, phase="Pending", edges={}, conditions=condition(ready, waiting, now))
    service = _with(service, packages=_packages(service, view))
    deep, node = service.spec.cloud_worker, deep_node(service)
    names = replicas(service)[: deep.replicas] if deep is not None else []
    answers = {edge: does_answer(service, edge, edge_worker(service), InferTask, totals, view) for edge in placed}
    on_edges = sum(answers.values())
    of_deep = sum(does_answer(service, node, name, BigModelTask, totals, view) for name in names)
    troubles = {edge: trouble_of(service, edge, InferTask, answers[edge], status.edges.get(edge),
                                 totals.edges.get(edge), view) for edge in placed}  # fmt: skip
    in_cloud, answering = "", f"{on_edges} of {len(placed)} edges answer"
    if deep is not None:
        in_cloud = trouble_of(service, node, BigModelTask, of_deep == len(names), status.cloud, totals.cloud, view)
        answering = f"{on_edges} of {len(placed)} edges and {of_deep} of {len(names)} replicas of the deep model answer"
    healthy = health_condition([*troubles.items(), (f"deep model on {node}", in_cloud)])
    conditions = status.conditions
    queued = scheduled_condition(service, placed, view)
    runnable = runnable_condition(service, placed, view)
    ready_now = ready_condition(bool(on_edges and (of_deep or deep is None)), answering, healthy, queued, runnable)
    for each in (ready_now, edges_condition(service, view), healthy, queued, runnable):
        conditions = condition(conditions, each, now) if each is not None else conditions
    # an edge answers without the deep model, too: one that fails later makes no running service pending again
    running = on_edges > 0 and (of_deep > 0 or deep is None or status.phase == "Running")
    return _with(
        service,
        phase="Running" if running else "Pending",
        start_time=status.start_time or (now if running else ""),
        conditions=conditions,
        edges={edge: _with_trouble(totals.edges.get(edge), troubles[edge]) for edge in placed[:EDGES_SHOWN]},
        cloud=_with_trouble(totals.cloud, in_cloud),
    )


def update(known: JointInferenceService, changed: JointInferenceService) -> JointInferenceService:
    """Return ``changed``, with a new generation for workers whose script or script parameters differ: they are launched
    anew. Any other change (rule, deadline, budget, model, batches) reaches the running workers."""
    status, generation = changed.status, changed.metadata.generation
    if _launch_inputs(changed.spec.edge_worker) != _launch_inputs(known.spec.edge_worker):
        status = status.model_copy(update={"edge_generation": generation, "packages": {}})
    deep, deep_before = changed.spec.cloud_worker, known.spec.cloud_worker
    if deep is not None and (deep_before is None or _launch_inputs(deep) != _launch_inputs(deep_before)):
        status = status.model_copy(update={"cloud_generation": generation, "packages": {}})
    return changed.model_copy(update={"status": status})


def stop(service: JointInferenceService) -> JointInferenceService:
    """Stop all workers of the service, on request."""
    return _with(service, stopped=True)


def start(service: JointInferenceService) -> JointInferenceService:
    """Start a stopped service again, on request."""
    return _with(service, stopped=False, packages={}) if service.status.stopped else service


def _packages(service: JointInferenceService, view: View) -> dict[str, PinnedPackage]:
    """Return the packages that the service's workers run: those that it began with, with signatures that came since."""
    known = service.status.packages
    return signed_since(known, view) if known else pinned(names_of(service), view)


def _launch_inputs(script: InferenceScript) -> tuple[object, ...]:
    code = script.script_dir, script.script_boot_file, script.script_arguments, script.script_working_dir
    served = script.format, script.output, script.outputs
    runs = script.algorithm, script.framework_type, script.parameters, script.resources, script.pod_fields
    return *code, *served, *runs


def _with_trouble(counted: ServiceNumbers | None, trouble: str) -> ServiceNumbers:
    return (counted or ServiceNumbers()).model_copy(update={"trouble": trouble})


def _with(service: JointInferenceService, **changes: object) -> JointInferenceService:
    status: JointInferenceServiceStatus = service.status.model_copy(update=changes)
    return service if status == service.status else service.model_copy(update={"status": status})
