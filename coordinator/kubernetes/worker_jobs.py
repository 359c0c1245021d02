"""Keep the Jobs of workers that are pods as the edges' desired tasks want them: a pure decision, and what carries it
out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from heliograph.bus.contract.payloads import ScriptTask, WorkerTaskBase
from heliograph.coordinator.kubernetes.documents import CLOUD
from heliograph.coordinator.kubernetes.edge_node import names_its_own
from heliograph.coordinator.kubernetes.pod_problems import pull_problem
from heliograph.coordinator.kubernetes.worker_job import (
    EDGE,
    HOSTNAME,
    JOB_UID,
    MANAGED_BY,
    MANAGER,
    PodSettings,
    job_name,
    objection,
    worker_job,
)
from heliograph.core.errors import HeliographError


@dataclass(frozen=True)
class Wanted:
    """What is desired.

    Attributes:
        tasks: the desired tasks of each edge.
        labels: the labels of each edge, as its agent reports them.
        nodes: the node of each edge that has enrolled by its node's name.
        owners: a reference to the custom resource of each job or service that has one, by its uid. It lies in the Jobs'
            namespace: Kubernetes deletes a Job whose owner is not there.
        undecided: edges for which nothing has been decided yet, as when a coordinator begins to lead: their Jobs stay.
    """

    tasks: Mapping[str, Sequence[WorkerTaskBase]]
    labels: Mapping[str, Mapping[str, str]]
    owners: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    undecided: Collection[str] = frozenset()
    nodes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Changes:
    """What leads there.

    Attributes:
        create: manifests.
        delete: names of Jobs.
        problems: why no Job is made, a sentence for each worker, by the uid of the job or service.
    """

    create: list[dict[str, Any]]
    delete: list[str]
    problems: dict[str, list[str]]


def changes_of(
    wanted: Wanted, existing: Mapping[str, Mapping[str, Any]], settings: PodSettings, cloud: str
) -> Changes:
    """Return what leads from the existing Jobs to the wanted ones.

    A worker that begins once it has something to do gets its Job then, and keeps it. A Job that has ended makes place
    for a new one; one that is being deleted is waited for.

    Args:
        existing: Jobs by name; others than those of this cloud's workers are left alone.
        cloud: id of this cloud.
    """
    ours = {
        name: job for name, job in existing.items()
        if (_labels(job).get(MANAGED_BY), _labels(job).get(CLOUD)) == (MANAGER, cloud)
    }  # fmt: skip
    create, problems = [], dict[str, list[str]]()
    needed = {name for name, job in ours.items() if _labels(job).get(EDGE) in wanted.undecided}
    for edge, task in _in_pods(wanted.tasks):
        assert task.pod is not None
        name = job_name(cloud, edge, task)
        node, enrolled = wanted.labels.get(edge, {}).get(HOSTNAME, ""), wanted.nodes.get(edge, "")
        if not names_its_own(node, enrolled):  # a Job that exists may run on the other node: it goes
            problems.setdefault(task.job_uid, []).append(
                f"worker {task.worker} of edge {edge}: its label {HOSTNAME} names node {node}, and it has enrolled as"
                f" node {enrolled}; start its agent with --label {HOSTNAME}={enrolled}, and if nobody has changed that,"
                f" the edge may be taken over: heliograph edge revoke {edge}")
            continue
        if name in ours:
            if not _has_ended(ours[name]):
                needed.add(name)
            continue
        if task.starts_idle and not task.is_due:
            continue
        why = objection(task.pod, settings)
        if not node:
            why = (f"nobody knows on which node of Kubernetes edge {edge} runs: expected the edge's label {HOSTNAME}; "
                   f"start its agent with --label {HOSTNAME}=NODE")  # fmt: skip
        if why:
            problems.setdefault(task.job_uid, []).append(f"worker {task.worker} of edge {edge}: {why}")
        else:
            create.append(worker_job(task, edge, node, settings, cloud, wanted.owners.get(task.job_uid)))
    delete = [name for name, job in sorted(ours.items()) if name not in needed and not _is_being_deleted(job)]
    return Changes(create, delete, problems)


def problems_of(pods: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return why workers' pods do not run, a sentence for each, by the uid of the job or service."""
    found: dict[str, list[str]] = {}
    for pod in pods:
        labels = _labels(pod)
        if labels.get(MANAGED_BY) == MANAGER and (why := pull_problem(pod)):
            found.setdefault(labels.get(JOB_UID, ""), []).append(f"edge {labels.get(EDGE, '?')}: {why}")
    return found


class Jobs(Protocol):
    """The Jobs of one namespace."""

    @property
    def objects(self) -> Mapping[str, Mapping[str, Any]]:
        """The Jobs by name, as they were last seen."""
        ...

    async def create(self, manifest: dict[str, Any]) -> None:
        """Create a Job; do nothing where one of its name exists. Raise HeliographError."""
        ...

    async def delete(self, name: str) -> None:
        """Delete a Job with its pods (``propagationPolicy: Background``); do nothing where there is none. Raise
        HeliographError."""
        ...


class WorkerJobs:
    """Carries the decision out. ``problems`` has why a job's workers have no Job, by the job's uid."""

    def __init__(self, jobs: Jobs, settings: PodSettings, cloud: str) -> None:
        self._jobs = jobs
        self._settings = settings
        self._cloud = cloud
        self.problems: dict[str, list[str]] = {}

    async def reconcile(self, wanted: Wanted) -> None:
        """Create and delete Jobs. One that Kubernetes refuses stops no other one; the next call tries it again."""
        existing = self._jobs.objects
        changes = changes_of(wanted, existing, self._settings, self._cloud)
        problems = changes.problems
        for name in changes.delete:
            uid = _labels(existing[name]).get(JOB_UID, "")
            try:
                await self._jobs.delete(name)
            except HeliographError as error:
                problems.setdefault(uid, []).append(f"Job {name} cannot be deleted: {error}")
        for manifest in changes.create:
            name, uid = manifest["metadata"]["name"], _labels(manifest).get(JOB_UID, "")
            try:
                await self._jobs.create(manifest)
            except HeliographError as error:
                problems.setdefault(uid, []).append(f"Job {name} cannot be created: {error}")
        self.problems = problems


def _in_pods(tasks: Mapping[str, Sequence[WorkerTaskBase]]) -> Iterator[tuple[str, ScriptTask]]:
    for edge, each in sorted(tasks.items()):
        for task in each:
            if isinstance(task, ScriptTask) and task.pod is not None:
                yield edge, task


def _labels(given: Mapping[str, Any]) -> Mapping[str, str]:
    metadata = given.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
    return labels if isinstance(labels, Mapping) else {}


def _has_ended(job: Mapping[str, Any]) -> bool:
    status = job.get("status")
    conditions = status.get("conditions") if isinstance(status, Mapping) else None
    return any(isinstance(each, Mapping) and each.get("type") in ("Complete", "Failed") and each.get("status") == "True"
               for each in conditions or ())  # fmt: skip


def _is_being_deleted(job: Mapping[str, Any]) -> bool:
    metadata = job.get("metadata")
    return isinstance(metadata, Mapping) and bool(metadata.get("deletionTimestamp"))
