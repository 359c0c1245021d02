"""The state machine of a joint inference service: wait for its models and edges, start its workers, run while they
answer, stop, start again. Pure.

Every function takes a service and an observation, and returns the service to store; the same object where nothing
changed. ``desired_tasks`` returns the tasks of each edge in that state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.payloads import (
    BigModelTask,
    CandidateModel,
    InferenceSpec,
    InferTask,
    ScriptSpec,
    ServedModel,
    ServingTask,
    WorkerReport,
    WorkerTask,
)
from heliograph.bus.contract.resources import (
    MOST_REPLICAS,
    NAMED,
    Condition,
    InferenceScript,
    JointInferenceService,
    JointInferenceServiceStatus,
    Model,
    ModelVersion,
    PinnedPackage,
    ServiceNumbers,
    condition,
    resolve_all,
)
from heliograph.bus.contract.resources.base import Reference
from heliograph.bus.contract.resources.joint_inference_service import CloudInference
from heliograph.bus.contract.resources.model import candidate_on
from heliograph.bus.contract.versions import parse_version
from heliograph.coordinator.api.parameters import values_of
from heliograph.coordinator.asks import ask_of
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.inference.totals import Totals
from heliograph.coordinator.packages import (
    missing_packages,
    names_of,
    package_of,
    pinned,
    signed_since,
    with_defaults,
)
from heliograph.core.names import CLOUD, join_labels

EDGES_SHOWN = 256
"""Edges that a status shows at most: ten thousand do not fit."""
OFFLINE = "offline"
_HEALTHY = "WorkersHealthy"
_RUNNABLE = "FormatRunnable"
_NO_DEEP_MODEL = CloudInference(model=Reference(name="none"), script_boot_file="none")
"""Stands for the settings of a deep model where there is none."""
_READY_SINCE = (0, 2)
"""The version since which workers say whether they answer."""


def observe(service: JointInferenceService, view: View, totals: Totals, now: str) -> JointInferenceService:
    """Return the service after a change of presence, reports, models or totals."""
    status = service.status
    service = _with(service, total=totals.total, cloud=totals.cloud)
    ready = [each for each in status.conditions if each.type == "Ready"]
    if status.stopped:
        stopped = Condition(type="Ready", status="False", reason="Stopped", message="stopped on request")
        return _with(service, phase="Stopped", edges={}, start_time="", conditions=condition(ready, stopped, now))
    placed = placement(service, view)
    if missing := list(_missing(service, view, placed)):
        waiting = Condition(type="Ready", status="False", reason="Missing", message="; ".join(missing)[:2000])
        return _with(service, phase="Pending", edges={}, conditions=condition(ready, waiting, now))
    service = _with(service, packages=_packages(service, view))
    deep, node = service.spec.cloud_worker, deep_node(service)
    names = replicas(service)[: deep.replicas] if deep is not None else []
    answers = {edge: _answers(service, edge, _edge_worker(service), InferTask, totals, view) for edge in placed}
    on_edges = sum(answers.values())
    of_deep = sum(_answers(service, node, name, BigModelTask, totals, view) for name in names)
    troubles = {edge: _trouble(service, edge, InferTask, answers[edge], status.edges.get(edge), totals.edges.get(edge),
                               view) for edge in placed}  # fmt: skip
    in_cloud, answering = "", f"{on_edges} of {len(placed)} edges answer"
    if deep is not None:
        in_cloud = _trouble(service, node, BigModelTask, of_deep == len(names), status.cloud, totals.cloud, view)
        answering = f"{on_edges} of {len(placed)} edges and {of_deep} of {len(names)} replicas of the deep model answer"
    healthy = _workers_healthy([*troubles.items(), (f"deep model on {node}", in_cloud)])
    conditions = status.conditions
    queued = _scheduled(service, placed, view)
    runnable = _runnable(service, placed, view)
    ready_now = _ready(bool(on_edges and (of_deep or deep is None)), answering, healthy, queued, runnable)
    for each in (ready_now, _edges_known(service, view), healthy, queued, runnable):
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


def desired_tasks(service: JointInferenceService, view: View) -> dict[str, list[WorkerTask]]:
    """Return the tasks of each edge for this service."""
    if service.status.stopped or not any(each.type == _HEALTHY for each in service.status.conditions):
        return {}  # not observed yet: its inline weights may not be where agents fetch them
    placed = placement(service, view)
    if any(_missing(service, view, placed)) or set(names_of(service)) - service.status.packages.keys():
        return {}
    spec, status = service.spec, service.status
    model = view.models[spec.edge_worker.model.name]
    infer = _task(service, InferTask, spec.edge_worker, _edge_worker(service), status.edge_generation, model)
    able = [edge for edge in placed if not _unable(spec.edge_worker, edge, view)]
    of_version: dict[tuple[int | None, float | None], list[WorkerTask]] = {}
    """Edges share one list for a version, and for a candidate beside it: there may be ten thousand."""
    found: dict[str, list[WorkerTask]] = {}
    for edge, version in resolve_all(model, able).items():
        if _other_format(spec.edge_worker, version):
            continue
        beside = candidate_on(model, edge) if model.status.rollout is not None else None
        key = version.version if version is not None else None, beside[1] if beside is not None else None
        if key not in of_version:
            of_version[key] = [infer.model_copy(update=_model_of(version) | _candidate_of(model, beside))]
        found[edge] = of_version[key]
    if spec.cloud_worker is None:
        return found
    node = spec.cloud_worker.node_name
    deep_model = view.models[spec.cloud_worker.model.name]
    of_deep = resolve_all(deep_model, [node])[node]
    if _unable(spec.cloud_worker, node, view) or _other_format(spec.cloud_worker, of_deep):
        return found
    deep = _model_of(of_deep)
    big_models = [
        _task(service, BigModelTask, spec.cloud_worker, name, status.cloud_generation, deep_model).model_copy(
            update=deep
        )
        for name in replicas(service)[: spec.cloud_worker.replicas]
    ]
    found[node] = [*found.get(node, ()), *big_models]
    return found


def placement(service: JointInferenceService, view: View) -> list[str]:
    """Return the known edges that its spec names, online or not; ``all`` means every edge except the cloud."""
    return view.selected(service.spec.edges)


def replicas(service: JointInferenceService) -> list[str]:
    """Return the names of all workers that may ever have run its deep model."""
    return [join_labels(service.name, f"big-{number}") for number in range(MOST_REPLICAS)]


def _edge_worker(service: JointInferenceService) -> str:
    return join_labels(service.name, "infer")


def models(service: JointInferenceService) -> list[str]:
    """Return the names of the models that the service runs."""
    deep = service.spec.cloud_worker
    return [service.spec.edge_worker.model.name, *([deep.model.name] if deep is not None else [])]


def deep_node(service: JointInferenceService) -> str:
    """Return the node of the deep model; the cloud where there is none."""
    return service.spec.cloud_worker.node_name if service.spec.cloud_worker is not None else CLOUD


def _missing(service: JointInferenceService, view: View, placed: Sequence[str]) -> Iterator[str]:
    for name in dict.fromkeys(models(service)):
        if name not in view.models:
            yield f"model {name} does not exist"
    if service.spec.cloud_worker is not None and (node := deep_node(service)) not in view.edges:
        yield f"node {node} of cloudWorker is unknown"
    if not placed:
        names = service.spec.edges.names
        yield "no edge is known" if names is None else f"none of its edges is known: {', '.join(names[:NAMED])}"
    if not service.status.packages:
        yield from missing_packages(service, view)


def _packages(service: JointInferenceService, view: View) -> dict[str, PinnedPackage]:
    """Return the packages that the service's workers run: those that it began with, with signatures that came since."""
    known = service.status.packages
    return signed_since(known, view) if known else pinned(names_of(service), view)


def _task(
    service: JointInferenceService,
    role: type[InferTask | BigModelTask],
    script: InferenceScript,
    worker: str,
    generation: int,
    model: Model,
) -> InferTask | BigModelTask:
    packages = service.status.packages
    package = package_of(script, packages, script.script_arguments)
    return role(
        worker=worker,
        job=service.name,
        job_uid=service.metadata.uid,
        generation=generation,
        script=_script_of(script),
        package=package,
        served=_served(script, model),
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


def _served(script: InferenceScript, model: Model) -> ServedModel | None:
    """Return how the model's file is served; None for a worker that runs a script."""
    if script.format == "script":
        return None
    labels = model.spec.label_schema
    return ServedModel(format=script.format, output=script.output, outputs=script.outputs or "",
                       classes=labels.classes if labels is not None else [])  # fmt: skip


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
        model=weights, number=version.version, share=share, salt=rollout.salt, signature=version.signature
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


def _launch_inputs(script: InferenceScript) -> tuple[object, ...]:
    code = script.script_dir, script.script_boot_file, script.script_arguments, script.script_working_dir
    served = script.format, script.output, script.outputs
    return *code, script.algorithm, *served, script.framework_type, script.parameters, script.resources


def _trouble(
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
    loads = not answers and any(each.restarts > 0 and each.state == "running" for each in workers)
    return found or (earlier if loads else "")  # until the model is there, it is not known to be mended


def _answers(
    service: JointInferenceService,
    edge: str,
    name: str,
    task: type[ServingTask],
    totals: Totals,
    view: View,
) -> bool:
    """Return whether the worker of that name on an edge answers: it runs and says so. An edge that is offline is taken
    to go on as it was; a worker before 0.2 says nothing, and answers as soon as it runs."""
    there, ready = view.edges[edge], totals.ready.get(edge, frozenset())
    if not there.online:
        return name in ready
    silent = there.report is None or parse_version(there.report.version) < _READY_SINCE
    runs = any(each.worker == name and each.state == "running" for each in there.workers(service.metadata.uid, task))
    return runs and (silent or name in ready)


def _ready(answers: bool, answering: str, *others: Condition | None) -> Condition:
    if answers:
        return Condition(type="Ready", status="True", reason="Answers", message=answering)
    wrong = next((each for each in others if each is not None and each.status == "False"), None)
    if wrong is None:
        return Condition(type="Ready", status="False", reason="Starting", message=answering)
    message = f"{answering}; {wrong.message}"[:2000]
    return Condition(type="Ready", status="False", reason=wrong.reason, message=message)


def _scheduled(service: JointInferenceService, placed: Sequence[str], view: View) -> Condition | None:
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


def _runnable(service: JointInferenceService, placed: Sequence[str], view: View) -> Condition | None:
    """Return the condition that names the nodes on which a worker is not placed: they have no runtime for its format,
    or the model's version is of another one. It appears once one is, and turns true when none is any more."""
    spec = service.spec
    sides: list[tuple[InferenceScript, Sequence[str]]] = [(spec.edge_worker, placed)]
    if spec.cloud_worker is not None:
        sides.append((spec.cloud_worker, [spec.cloud_worker.node_name]))
    found: dict[str, list[str]] = {}
    for script, nodes in sides:
        for node, version in resolve_all(view.models[script.model.name], nodes).items():
            if why := _unable(script, node, view) or _other_format(script, version):
                found.setdefault(why, []).append(node)
    if found:
        parts = [f"{', '.join(nodes[:NAMED])}{f' and {len(nodes) - NAMED} more' if len(nodes) > NAMED else ''}: {why}"
                 for why, nodes in found.items()]  # fmt: skip
        return Condition(type=_RUNNABLE, status="False", reason="FormatNotRunnable", message="; ".join(parts)[:2000])
    if any(each.type == _RUNNABLE for each in service.status.conditions):
        return Condition(type=_RUNNABLE, status="True", reason="AllRun")
    return None


def _unable(script: InferenceScript, node: str, view: View) -> str:
    """Return why a node cannot run a worker's format; empty where it can."""
    if script.format == "script" or script.format in view.formats(node):
        return ""
    return f"no runtime for format {script.format} is installed; pip install 'heliograph[{script.format}]' there"


def _other_format(script: InferenceScript, version: ModelVersion | None) -> str:
    """Return why a version cannot be served as a worker's format says; empty where it can."""
    wanted = "safetensors" if script.format == "script" else script.format
    if version is None:
        return "" if script.format == "script" else f"model {script.model.name} has no version: upload its file"
    if version.weights.format == wanted:
        return ""
    return (f"version {version.version} of model {script.model.name} is a {version.weights.format} file, and the "
            f"worker's format is {script.format}")  # fmt: skip


def _restarts(worker: WorkerReport) -> bool:
    return worker.state == "starting" and worker.restarts > 0


def _with_trouble(counted: ServiceNumbers | None, trouble: str) -> ServiceNumbers:
    return (counted or ServiceNumbers()).model_copy(update={"trouble": trouble})


def _edges_known(service: JointInferenceService, view: View) -> Condition:
    edges = service.spec.edges.names or ()
    unknown = [edge for edge in edges if edge not in view.edges]
    if not unknown:
        return Condition(type="EdgesKnown", status="True", reason="AllKnown")
    message = f"{len(unknown)} of {len(edges)} edges unknown: {', '.join(unknown[:NAMED])}"
    return Condition(type="EdgesKnown", status="False", reason="Unknown", message=message)


def _workers_healthy(troubles: Sequence[tuple[str, str]]) -> Condition:
    """Return the condition that names failing edges. An offline edge is not among them: it may work all the same."""
    failing = [f"{where}: {why}" for where, why in troubles if why not in ("", OFFLINE)]
    if not failing:
        return Condition(type=_HEALTHY, status="True", reason="AllWork")
    message = "; ".join(failing[:NAMED])[:2000]
    return Condition(type=_HEALTHY, status="False", reason="WorkerFails", message=message)


def _with(service: JointInferenceService, **changes: object) -> JointInferenceService:
    status: JointInferenceServiceStatus = service.status.model_copy(update=changes)
    return service if status == service.status else service.model_copy(update={"status": status})
