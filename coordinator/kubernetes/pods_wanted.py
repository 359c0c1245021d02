"""What pods of workers are wanted: the edges' desired tasks, the edges' nodes, and the custom resources that own
jobs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from heliograph.bus.contract.payloads import Desired, ScriptTask, WorkerTaskBase
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.resources import Edge, Resource
from heliograph.bus.contract.resources.base import API_VERSION
from heliograph.coordinator.authorization.managed import creator_in
from heliograph.coordinator.kubernetes.documents import UID
from heliograph.coordinator.kubernetes.worker_jobs import Wanted
from heliograph.coordinator.resource_store import ResourceStore


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
            each for each in desired.tasks if isinstance(each, ScriptTask) and each.pod is not None
        ]
        if in_pods:
            tasks[edge.name], labels[edge.name] = in_pods, dict(edge.spec.labels)
            if edge.status.node:
                nodes[edge.name] = edge.status.node
    owners = {each.metadata.uid: _reference(each) for each in _owned(store, namespace)} if tasks else {}
    return Wanted(tasks, labels, owners, undecided, nodes)


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
