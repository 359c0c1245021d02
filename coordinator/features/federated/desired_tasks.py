"""The tasks that each edge has to run for a federated task, in each state of its state machine. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from heliograph.bus.contract.parameter_schema import LOCAL_TERM, NEEDS
from heliograph.bus.contract.payloads import (
    AggregateTask,
    EvaluateTask,
    PackageSpec,
    PodSpec,
    RoundSpec,
    ScriptSpec,
    TrainTask,
    WorkerTask,
)
from heliograph.bus.contract.resources import FederatedTask
from heliograph.bus.contract.resources.base import Scalar
from heliograph.bus.contract.resources.worker_spec import WorkerSpec
from heliograph.bus.contract.worker_pods import pod_of, script_in
from heliograph.coordinator.api.parameters import values_of
from heliograph.coordinator.asks import ask_of
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.federated.participation.strategies import needs_memory
from heliograph.coordinator.features.federated.resuming import left_by_earlier_run
from heliograph.coordinator.features.federated.selection import common_resources, ready_of, repeated_worker
from heliograph.coordinator.packages import package_of
from heliograph.core.names import join_labels

GROWTH = 2
"""Times the samples at the job's begin that an edge's data set may grow to while the job runs."""


def desired_tasks(
    task: FederatedTask, view: View, training: Mapping[str, list[WorkerTask]] | None = None
) -> dict[str, list[WorkerTask]]:
    """Return the tasks of each edge. ``training``: the result of ``training_tasks``, if known."""
    status = task.status
    if status.phase != "Running":
        return {}
    if training is None:
        warm = without_left(task, warm_tasks(task, _offered(task, view)))
        training = training_tasks(task, warm)
    found = dict(training)

    def add(node: str, one: WorkerTask) -> None:
        found[node] = [*found.get(node, ()), one]

    if status.step in ("initialising", "training"):
        add(task.spec.aggregation_worker.node_name, _aggregation(task, view))
    if task.spec.evaluation_worker is not None:
        add(task.spec.evaluation_worker.node_name, _evaluation(task, view))
    return found


def without_left(task: FederatedTask, warm: Mapping[str, list[WorkerTask]]) -> dict[str, list[WorkerTask]]:
    """Return the warm tasks of the edges that have not left: the workers of the others end."""
    found = dict(warm)
    for edge in task.status.left:
        found.pop(edge, None)
    return found


def training_tasks(
    task: FederatedTask, warm: Mapping[str, list[WorkerTask]], participants: Sequence[str] | None = None
) -> dict[str, list[WorkerTask]]:
    """Return the training tasks of each edge; an edge that does not take part reuses its warm task, which stays the
    same between rounds.

    Args:
        participants: some of the round's participants, to give only these a task of the round.
    """
    status = task.status
    found = dict(warm)
    if status.step in ("initialising", "training"):
        personal, counted = status.personal or {}, status.counted_updates or {}
        for edge in status.participants if participants is None else participants:
            now = {"round": status.round, "model": status.model, "active": True, "down": status.down,
                   "personal": personal.get(edge), "counted": counted.get(edge)}  # fmt: skip
            if edge in warm:  # else no coordinator has written this status
                found[edge] = [each.model_copy(update=now) for each in warm[edge]]
    return found


def warm_tasks(
    task: FederatedTask,
    algorithms: Mapping[str, Mapping[str, Any]],
    assignments: Sequence[tuple[str, str]] | None = None,
) -> dict[str, list[WorkerTask]]:
    """Return the training task of each edge between rounds: it keeps the edge's worker ready.

    Args:
        assignments: some of the task's assignments, sorted, to return only their tasks.
    """
    status = task.status
    declared = {each.name: each.worker_spec for each in task.spec.training_workers}
    repeated = repeated_worker(task).worker_spec
    first, parameters, defaults = _first_code(task), training_parameters(task, algorithms), _defaults(task, algorithms)
    schema = algorithms.get(task.spec.aggregation_worker.worker_spec.aggregation_algorithm, {})
    needs, term = schema.get(NEEDS, []), schema.get(LOCAL_TERM, "")
    known: dict[int, tuple[_Code, dict[str, Scalar]]] = {}
    """Code and parameters of each spec: ten thousand edges may share one."""
    common = ask_of(common_resources(task), task.spec.priority, task.metadata)
    found: dict[str, list[WorkerTask]] = {}
    for worker, edge in sorted(status.assignments.items()) if assignments is None else assignments:
        if task.is_foreign(edge):
            continue  # no agent runs a worker for it
        own = declared.get(worker) or repeated
        if id(own) not in known:
            runs = _Code.of(task, own) or _in_own_image(task, own, first)
            given = defaults | values_of(own.parameters) if own.parameters else parameters
            known[id(own)] = runs, {**runs.defaults, **given} if runs.defaults else given
        runs, given = known[id(own)]
        one = TrainTask.model_construct(  # without validation: all values are checked, for ten thousand edges
            worker=join_labels(task.name, worker),
            job=task.name,
            job_uid=task.metadata.uid,
            round=0,
            model=None,
            script=runs.script,
            package=runs.package,
            pod=runs.pod,
            dataset=status.datasets.get(edge) or None,
            framework=own.framework_type or runs.framework,
            parameters=given,
            active=False,
            asks=ask_of(own.resources, task.spec.priority, task.metadata) if own.resources else common,
            needs=needs,
            local_term=term,
            encoding=task.spec.update_encoding,
        )
        found.setdefault(edge, []).append(one)
    return found


def _aggregation(task: FederatedTask, view: View) -> AggregateTask:
    status, spec = task.status, task.spec
    uid = task.metadata.uid
    working = view.working(uid)
    ready = ready_of(uid, view, working)
    reachable = [edge for edge in status.participants if edge in ready]
    one_of_several = 1 if len(status.participants) > 1 else None
    collect = RoundSpec(
        participants=status.participants,
        reachable=reachable or [edge for edge in status.participants if edge in working],
        quorum=spec.quorum if status.round else one_of_several,
        deadline_seconds=spec.round_deadline_seconds,
        samples=_samples(task, view),
        start=max(1, status.updates_from),
        measure=status.round > 0 and needs_memory(task),
        count_bytes=spec.stop is not None and spec.stop.uplink_bytes is not None,
    )
    algorithm = spec.aggregation_worker.worker_spec
    return AggregateTask(
        worker=join_labels(task.name, "aggregate"),
        job=task.name,
        job_uid=uid,
        round=status.round,
        model=status.model,
        parameters=values_of(algorithm.parameters),
        algorithm=algorithm.aggregation_algorithm,
        collect=collect,
        edges_of_job=len(set(status.assignments.values())),
        resumed=left_by_earlier_run(task),
    )


def _samples(task: FederatedTask, view: View) -> dict[str, int]:
    """Return the most samples that each participant may claim: as many as its data set had when the job began.

    A data set that has grown since may count up to ``GROWTH`` times that. Jobs that began before 0.2 have no such
    record: as many as the edge reports now.
    """
    pinned = task.status.pinned_samples
    found: dict[str, int] = {}
    for edge in task.status.participants:
        index = view.edges[edge].dataset(task.status.datasets.get(edge, "")) if edge in view.edges else None
        known = pinned.get(edge) if pinned is not None else None
        if index is not None and (pinned is None or known is not None):
            found[edge] = index.samples if known is None else min(index.samples, GROWTH * known)
        elif known is not None:
            found[edge] = known
    return found


def _offered(task: FederatedTask, view: View) -> dict[str, dict[str, Any]]:
    """Return the algorithms of the node that aggregates: no other edge's report sets this job's defaults."""
    return view.algorithms(task.spec.aggregation_worker.node_name)


def evaluation_is_due(task: FederatedTask, view: View) -> bool:
    """Return whether the newest model is one to evaluate."""
    status, every = task.status, 1
    value = training_parameters(task, _offered(task, view)).get("rounds_between_validations", 1)
    if isinstance(value, int) and value > 0:
        every = value
    return status.model_round > 0 and (status.model_round % every == 0 or status.step == "evaluating")


def _evaluation(task: FederatedTask, view: View) -> EvaluateTask:
    status = task.status
    worker = task.spec.evaluation_worker
    assert worker is not None
    code, round, model = _first_code(task), status.model_round, status.model
    if status.evaluating is not None:
        round, model = status.evaluating.round, status.evaluating.model
    due = status.evaluating is not None or evaluation_is_due(task, view)
    return EvaluateTask(
        worker=join_labels(task.name, worker.name),
        job=task.name,
        job_uid=task.metadata.uid,
        round=round,
        model=model if due else None,
        script=code.script,
        package=code.package,
        pod=code.pod,
        dataset=worker.dataset.name,
        parameters={**code.defaults, **training_parameters(task, _offered(task, view))},
        active=due,
        asks=ask_of(worker.resources, task.spec.priority, task.metadata),
    )


@dataclass(frozen=True)
class _Code:
    """What a worker runs: a script on its node or in its image, or a package with the defaults of its parameters; or
    nothing. Without a pod it is a process."""

    script: ScriptSpec | None = None
    package: PackageSpec | None = None
    pod: PodSpec | None = None
    framework: str | None = None
    defaults: Mapping[str, Scalar] = field(default_factory=dict)

    @classmethod
    def of(cls, task: FederatedTask, spec: WorkerSpec) -> _Code | None:
        """Return the code that a worker names itself."""
        packages, pod = task.status.packages, _pod(task, spec)
        if (package := package_of(spec, packages, spec.train_script_arguments)) is not None:
            pinned = packages[package.algorithm]
            return cls(None, package, pod, pinned.framework, values_of(pinned.defaults))
        if (script := script_in(spec)) is not None:
            return cls(script, pod=pod)
        if not spec.train_script_boot_file:
            return None
        script = ScriptSpec(
            directory=spec.train_script_dir or "",
            boot_file=spec.train_script_boot_file,
            arguments=spec.train_script_arguments,
            working_directory=spec.train_script_working_dir or "",
        )
        return cls(script, pod=pod)


def _in_own_image(task: FederatedTask, spec: WorkerSpec, code: _Code) -> _Code:
    """Return the code of the first worker that names any, for one that names at most an image."""
    return replace(code, pod=_pod(task, spec)) if spec.image is not None else code


def _pod(task: FederatedTask, spec: WorkerSpec) -> PodSpec | None:
    return pod_of(spec, spec.resources or common_resources(task), task.metadata.uid)


def _first_code(task: FederatedTask) -> _Code:
    """Return the code of the first worker that names any."""
    return next((found for each in task.spec.training_workers if (found := _Code.of(task, each.worker_spec))), _Code())


def _defaults(task: FederatedTask, algorithms: Mapping[str, Mapping[str, Any]]) -> dict[str, Scalar]:
    """Return the algorithm's defaults, overridden by the task's values."""
    algorithm = task.spec.aggregation_worker.worker_spec
    schema = algorithms.get(algorithm.aggregation_algorithm, {}).get("properties", {})
    found: dict[str, Scalar] = {key: each["default"] for key, each in schema.items() if each.get("default") is not None}
    return found | values_of(algorithm.parameters)


def training_parameters(task: FederatedTask, algorithms: Mapping[str, Mapping[str, Any]]) -> dict[str, Scalar]:
    """Return parameters for workers that declare none: the defaults, overridden by the first worker with parameters."""
    first = next((each.worker_spec for each in task.spec.training_workers if each.worker_spec.parameters), None)
    return _defaults(task, algorithms) | (values_of(first.parameters) if first is not None else {})
