"""What pods of workers are wanted: the edges' desired tasks, the edges' nodes, and the custom resources that own
jobs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from heliograph.bus.contract.payloads import Desired, ScriptTask, WorkerAsk, WorkerTaskBase
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.resources import Edge, LoopState, Resource
from heliograph.bus.contract.resources.base import API_VERSION
from heliograph.bus.contract.worker_pods import pod_of, script_in
from heliograph.coordinator.authorization.managed import creator_in
from heliograph.coordinator.kubernetes.documents import UID
from heliograph.coordinator.kubernetes.worker_jobs import Wanted
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.incremental.tasks import learn_task


def pods_wanted(store: ResourceStore, newest: Callable[[str], Desired | None], namespace: str) -> Wanted:
    """Return what is wanted.

    Args:
        newest: returns the newest desired document of an edge.
        namespace: that of the Jobs: a custom resource elsewhere cannot own one.
    """
    tasks: dict[str, list[WorkerTaskBase]] = {}
    labels: dict[str, dict[str, str]] = {}
    nodes: dict[str, str] = {}
    undecided = set[str]()
    for edge in store.all(Edge):
        desired = newest(edge.name)
        if desired is None:
            undecided.add(edge.name)
            continue
        in_pods: list[WorkerTaskBase] = [
            each for each in (*desired.tasks, *_of_loops(desired))
            if isinstance(each, ScriptTask) and each.pod is not None
        ]  # fmt: skip
        if in_pods:
            tasks[edge.name], labels[edge.name] = in_pods, dict(edge.spec.labels)
            if edge.status.node:
                nodes[edge.name] = edge.status.node
    owners = {each.metadata.uid: _reference(each) for each in _owned(store, namespace)} if tasks else {}
    return Wanted(tasks, labels, owners, undecided, nodes)


def _of_loops(desired: Desired) -> Iterator[ScriptTask]:
    """Yield a task for each worker of the loops that an edge runs by itself. Their pods are there before the edge has
    anything for them to do: it may have no link then."""
    for name, each in desired.loops.items():
        for learned in each.spec.models if not each.stopped else ():
            worker, resources = learned.worker_spec, learned.worker_spec.resources
            asks = WorkerAsk(memory=resources.memory_bytes, gpus=resources.gpus) if resources is not None else None
            pod, package = pod_of(worker, resources, each.uid), each.packages.get(learned.model.name)
            yield learn_task(name, each.uid, each.spec, LoopState(), learned, None, package, asks, pod,
                             script_in(worker))  # fmt: skip


def _owned(store: ResourceStore, namespace: str) -> Iterator[Resource]:
    for kind in declared().kinds.values():
        if kind.code_workers is not Resource.code_workers:
            yield from (each for each in store.all(kind) if each.metadata.created_by == creator_in(namespace))


def _reference(resource: Resource) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": type(resource).__name__,
        "name": resource.name,
        "uid": resource.metadata.annotations.get(UID, ""),
        "controller": True,
        "blockOwnerDeletion": False,
    }
