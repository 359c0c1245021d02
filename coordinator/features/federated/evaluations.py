"""The sender of an evaluation: the node of the job's evaluation worker, and nobody else. Pure."""

from __future__ import annotations

from heliograph.bus.contract.resources import FederatedTask
from heliograph.core.errors import Refused


def check_sender(task: FederatedTask, edge: str, topic: str) -> None:
    """Raise Refused unless ``edge``, which the topic names, is the node of the task's evaluation worker."""
    worker = task.spec.evaluation_worker
    if worker is None:
        raise Refused("not-asked", topic=topic, field="job", expected="a job with an evaluation worker", got=task.name)
    if edge != worker.node_name:
        expected = f"{worker.node_name}, the node of the job's evaluation worker"
        raise Refused("not-asked", topic=topic, field="edge", expected=expected, got=edge)
