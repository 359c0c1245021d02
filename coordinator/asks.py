"""What the workers of jobs and services ask of their nodes. Pure."""

from __future__ import annotations

from heliograph.bus.contract.payloads import WorkerAsk
from heliograph.bus.contract.resources.base import Metadata
from heliograph.bus.contract.resources.node_resources import WorkerResources
from heliograph.coordinator.edges.view import EdgeView

_NOTHING = WorkerResources()


def ask_of(resources: WorkerResources | None, priority: int, owner: Metadata) -> WorkerAsk | None:
    """Return what a worker asks, for its task; None where it asks for nothing.

    Args:
        priority, owner: those of the worker's job or service.
    """
    asked = resources or _NOTHING
    if not (asked.memory_bytes or asked.gpus):
        return None
    return WorkerAsk(
        memory=asked.memory_bytes, gpus=asked.gpus, priority=priority, since=owner.creation_timestamp
    )  # fmt: skip


def beyond(resources: WorkerResources | None, edge: EdgeView) -> str:
    """Return what a worker asks beyond all that an edge has; empty where it may run there, or nobody knows."""
    asked = resources or _NOTHING
    has = edge.report.capacity if edge.report is not None else None
    if has is None:
        return ""
    if has.memory and asked.memory_bytes > has.memory:
        return "as much memory"
    return "as many GPUs" if asked.gpus > has.gpus else ""
