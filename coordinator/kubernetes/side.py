"""What a coordinator that leads does with Kubernetes: the operator, labels of nodes, and the pods of workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from heliograph.bus.contract.payloads import Desired
from heliograph.bus.contract.resources import Edge, Resource
from heliograph.coordinator.api.request import Request
from heliograph.coordinator.feature import InstalledFeatures, Part
from heliograph.coordinator.kubernetes.api import Api
from heliograph.coordinator.kubernetes.node_labels import NodeLabels
from heliograph.coordinator.kubernetes.operator import Operator, OperatorSettings
from heliograph.coordinator.kubernetes.pod_conditions import tell_problems
from heliograph.coordinator.kubernetes.pod_workers import PodWorkers
from heliograph.coordinator.kubernetes.pods_wanted import pods_wanted
from heliograph.coordinator.kubernetes.worker_job import HOSTNAME
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.failures import Failures
from heliograph.core.world import World


class KubernetesSide:
    """The parts of a term that deal with Kubernetes.

    Args:
        cloud: id of the cloud.
        handle: handles a request for a resource.
        newest: returns the newest desired document of an edge.
    """

    def __init__(
        self, api: Api, settings: OperatorSettings, cloud: str, store: ResourceStore, features: InstalledFeatures,
        handle: Callable[[Request], Awaitable[Any]], newest: Callable[[str], Desired | None], world: World,
        failures: Failures, warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._operator = Operator(api, store, handle, cloud, settings, world, failures, warn)
        self._store = store
        self._nodes: dict[str, str] = {}
        """Of each edge the nodes that it names, by its label and as it enrolled: its Jobs depend on them."""
        self._labels = NodeLabels(api, features.of(Edge.plural).context, world, warn)
        self._pods: PodWorkers | None = None
        if settings.pods is not None:
            wanted = partial(pods_wanted, store, newest, settings.pods.namespace)
            self._pods = PodWorkers(api, settings.pods, cloud, wanted, partial(tell_problems, features, world), world,
                                    warn)  # fmt: skip

    def manages(self, resource: Resource) -> bool:
        """Whether the custom resource that a resource was made from is seen at present."""
        return self._operator.manages(resource)

    def parts(self) -> Sequence[Part]:
        """Return what runs as long as this coordinator leads."""
        return [self._operator.run, self._labels.run, *([self._pods.run] if self._pods is not None else [])]

    def resource_changed(self, resource: Resource) -> None:
        """Take note that a resource was written or deleted."""
        self._operator.resource_changed(resource)
        if isinstance(resource, Edge):
            self._labels.edge_changed()
            self._edge_changed(resource)

    def desired_changed(self) -> None:
        """Take note that an edge is to do something else."""
        if self._pods is not None:
            self._pods.desired_changed()

    def _edge_changed(self, edge: Edge) -> None:
        nodes = f"{edge.spec.labels.get(HOSTNAME, '')} {edge.status.node}"
        if self._store.get(Edge, edge.name) is None:
            self._nodes.pop(edge.name, None)
        elif self._nodes.get(edge.name) != nodes:
            self._nodes[edge.name] = nodes
            self.desired_changed()
