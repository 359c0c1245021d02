"""Labels of nodes, copied to the edges that run there: an edge has no API to read those of its own node with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from heliograph.bus.contract.custom_resources.definitions import GROUP
from heliograph.bus.contract.resources import Edge
from heliograph.coordinator.feature import ControllerContext
from heliograph.coordinator.kubernetes.api import NODES, Api, Object
from heliograph.coordinator.kubernetes.edge_node import node_of
from heliograph.coordinator.kubernetes.list_watch import Follower
from heliograph.coordinator.kubernetes.worker_job import HOSTNAME
from heliograph.core.world import World

NODE_GROUP = "apps.kubeedge.io/belonging-to"
"""The label that KubeEdge gives the nodes of a NodeGroup: the group's name."""
PAUSE = 0.5
"""Seconds between two passes over all edges, at least: one serves all changes of its time."""
_BEGINNINGS = ("topology.kubernetes.io/", f"{GROUP}/")


def copied(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that an edge has of its node: the node group, the place, and those of our own group."""
    return {key: value for key, value in labels.items() if key == NODE_GROUP or key.startswith(_BEGINNINGS)}


def with_node_labels(edge: Edge, node: Mapping[str, str] | None) -> Edge:
    """Return an edge with the copied labels of its node; the same where nothing changes.

    Args:
        node: the node's labels; None where Kubernetes knows no such node: the edge keeps what it has.
    """
    if node is None:
        return edge
    own = {key: value for key, value in edge.metadata.labels.items() if key not in copied(edge.metadata.labels)}
    labels = {**own, **copied(node)}
    if labels == edge.metadata.labels:
        return edge
    return edge.model_copy(update={"metadata": edge.metadata.model_copy(update={"labels": labels})})


class NodeLabels:
    """Keeps the labels of edges like those of their nodes, while a coordinator leads. An edge names its node by its
    label ``kubernetes.io/hostname``; one that names another than it has enrolled by gets no labels of it."""

    def __init__(self, api: Api, context: ControllerContext, world: World, warn: Callable[[str], None]) -> None:
        self._context = context
        self._world = world
        self._due = asyncio.Event()
        self._nodes = Follower(api, NODES, world, lambda *_: self._due.set(), warn, keep=_only_labels)

    def edge_changed(self) -> None:
        """Take note that an edge has come or changed."""
        self._due.set()

    async def run(self) -> None:
        """Copy labels until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._nodes.run())
            await self._nodes.synced.wait()
            while True:
                self._due.clear()
                by_host = {
                    labels[HOSTNAME]: labels for each in self._nodes.objects.values()
                    if HOSTNAME in (labels := each["metadata"].get("labels", {}))
                }  # fmt: skip
                for edge in self._context.store.all(Edge):
                    node = by_host.get(node_of(edge))
                    if with_node_labels(edge, node) is not edge:
                        await self._context.step(Edge, edge.name, partial(with_node_labels, node=node))
                await self._world.sleep(PAUSE)  # edges of a large site come one after the other
                await self._due.wait()


def _only_labels(node: Object) -> Object:
    metadata = node["metadata"]
    return {"metadata": {key: metadata[key] for key in ("name", "labels") if key in metadata}}
