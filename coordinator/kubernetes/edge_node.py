"""Which node of Kubernetes an edge runs on: the one that its agent names by a label, but no other than the one by whose
name it has enrolled. Pure."""

from __future__ import annotations

from heliograph.bus.contract.resources import Edge
from heliograph.coordinator.kubernetes.worker_job import HOSTNAME


def node_of(edge: Edge) -> str:
    """Return the value of its node's label ``kubernetes.io/hostname``; empty where the edge names none, or one that is
    not its own."""
    node = edge.spec.labels.get(HOSTNAME, "")
    return node if names_its_own(node, edge.status.node) else ""


def names_its_own(node: str, enrolled: str) -> bool:
    """Return whether the node that an edge names may be its own.

    Args:
        node: as the edge's label names it.
        enrolled: the node by whose name it has enrolled; empty where it did so by another, which says nothing.
    """
    return not node or not enrolled or node == enrolled
