"""The tasks of a joint inference service on each edge. Pure."""

from __future__ import annotations

from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.model_statement import labels_of
from heliograph.bus.contract.payloads import (
    BigModelTask,
    CandidateModel,
    InferenceSpec,
    InferTask,
    ScriptSpec,
    ServedModel,
    WorkerTask,
)
from heliograph.bus.contract.resources import (
    InferenceScript,
    JointInferenceService,
    Model,
    ModelVersion,
    resolve_all,
)
from heliograph.bus.contract.resources.base import Reference
from heliograph.bus.contract.resources.joint_inference_service import CloudInference
from heliograph.bus.contract.resources.model import candidate_on
from heliograph.bus.contract.worker_pods import pod_of, script_in
from heliograph.coordinator.api.parameters import values_of
from heliograph.coordinator.asks import ask_of
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.inference.service_conditions import (
    HEALTHY,
)
from heliograph.coordinator.features.inference.service_placement import (
    edge_worker,
    other_format,
    placement,
    replicas,
    unable,
    what_is_missing,
)
from heliograph.coordinator.packages import (
    names_of,
    package_of,
    with_defaults,
)

_NO_DEEP_MODEL = CloudInference(model=Reference(name="none"), script_boot_file="none")
"""Stands for the settings of a deep model where there is none."""


def desired_tasks(service: JointInferenceService, view: View) -> dict[str, list[WorkerTask]]:
    """Return the tasks of each edge for this service."""
    if service.status.stopped or not any(each.type == HEALTHY for each in service.status.conditions):
        return {}  # not observed yet: its inline weights may not be where agents fetch them
    placed = placement(service, view)
    if any(what_is_missing(service, view, placed)) or set(names_of(service)) - service.status.packages.keys():
        return {}
    spec, status = service.spec, service.status
    model = view.models[spec.edge_worker.model.name]
    infer = _task(service, InferTask, spec.edge_worker, edge_worker(service), status.edge_generation)
    able = [edge for edge in placed if not unable(spec.edge_worker, edge, view)]
    of_version: dict[tuple[int | None, float | None], list[WorkerTask]] = {}
    """Edges share one list for a version, and for a candidate beside it: there may be ten thousand."""
    found: dict[str, list[WorkerTask]] = {}
    for edge, version in resolve_all(model, able).items():
        if other_format(spec.edge_worker, version):
            continue
        beside = candidate_on(model, edge) if model.status.rollout is not None else None
        key = version.version if version is not None else None, beside[1] if beside is not None else None
        if key not in of_version:
            changes = _model_of(version) | _served(spec.edge_worker, model, version) | _candidate_of(model, beside)
            of_version[key] = [infer.model_copy(update=changes)]
        found[edge] = of_version[key]
    if spec.cloud_worker is None:
        return found
    node = spec.cloud_worker.node_name
    deep_model = view.models[spec.cloud_worker.model.name]
    of_deep = resolve_all(deep_model, [node])[node]
    if unable(spec.cloud_worker, node, view) or other_format(spec.cloud_worker, of_deep):
        return found
    deep = _model_of(of_deep) | _served(spec.cloud_worker, deep_model, of_deep)
    big_models = [
        _task(service, BigModelTask, spec.cloud_worker, name, status.cloud_generation).model_copy(update=deep)
        for name in replicas(service)[: spec.cloud_worker.replicas]
    ]
    found[node] = [*found.get(node, ()), *big_models]
    return found


def _task(
    service: JointInferenceService,
    role: type[InferTask | BigModelTask],
    script: InferenceScript,
    worker: str,
    generation: int,
) -> InferTask | BigModelTask:
    packages = service.status.packages
    package = package_of(script, packages, script.script_arguments)
    return role(
        worker=worker,
        job=service.name,
        job_uid=service.metadata.uid,
        generation=generation,
        script=script_in(script) or _script_of(script),
        package=package,
        pod=pod_of(script, script.resources, service.metadata.uid),
        framework=script.framework_type or (packages[package.algorithm].framework if package is not None else None),
        parameters=values_of(with_defaults(script, packages)),
        asks=ask_of(script.resources, service.spec.priority, service.metadata),
        inference=_inference(service),
    )


def _script_of(script: InferenceScript) -> ScriptSpec | None:
    if script.script_boot_file is None:
        return None
    return ScriptSpec(
        directory=script.script_dir or "",
        boot_file=script.script_boot_file,
        arguments=script.script_arguments,
        working_directory=script.script_working_dir or "",
    )


def _served(script: InferenceScript, model: Model, version: ModelVersion | None) -> dict[str, object]:
    """Return a task's fields for a version that is served as its file; none for a worker that runs a script."""
    if script.format == "script" or version is None:
        return {}
    return {"served": ServedModel(format=script.format, output=script.output, outputs=script.outputs or "",
                                  classes=_classes_of(model, version))}  # fmt: skip


def _classes_of(model: Model, version: ModelVersion) -> list[str]:
    labels = labels_of(model, version) or model.spec.label_schema
    return labels.classes if labels is not None else []


def _model_of(version: ModelVersion | None) -> dict[str, object]:
    """Return a task's fields for a version. Inline weights become a reference to their blob: a desired document has no
    room for a copy per replica."""
    if version is None:
        return {}
    weights = version.weights
    if weights.inline is not None:
        weights = weights.model_copy(update={"inline": None, "bucket": MODELS})
    return {"model": weights, "signature": version.signature}


def _candidate_of(model: Model, beside: tuple[ModelVersion, float] | None) -> dict[str, object]:
    """Return a task's fields for a version that answers some of the requests."""
    rollout = model.status.rollout
    if beside is None or rollout is None:
        return {}
    version, share = beside
    weights = _model_of(version)["model"]
    candidate = CandidateModel.model_construct(
        model=weights, number=version.version, share=share, salt=rollout.salt, signature=version.signature,
        classes=_classes_of(model, version),
    )
    return {"candidate": candidate}


def _inference(service: JointInferenceService) -> InferenceSpec:
    spec = service.spec
    deep = spec.cloud_worker or _NO_DEEP_MODEL
    return InferenceSpec(
        rule=spec.hard_sample_rule.name,
        rule_parameters=values_of(spec.hard_sample_rule.parameters),
        temperature=spec.hard_sample_rule.temperature,
        deadline_seconds=spec.deadline_seconds,
        requests_per_second=spec.offload_budget.requests_per_second,
        bytes_per_second=spec.offload_budget.bytes_per_second,
        fallback=spec.fallback,
        max_batch=deep.max_batch,
        max_wait_seconds=deep.max_wait_seconds,
        hard_samples_to=spec.hard_samples_to,
        offloads=spec.cloud_worker is not None,
        drift=list(spec.drift),
    )
