"""The sender of an evaluation: the node of the job's evaluation worker, and nobody else. Pure."""

from __future__ import annotations

from heliograph.bus.contract.resources import FederatedTask
from heliograph.bus.contract.versions import Version, parse_version
from heliograph.coordinator.edges.view import View
from heliograph.core.errors import Refused

NAMES_EDGE: Version = (0, 2)
"""From this version on, an evaluation's topic ends in the name of its edge, which the broker lets nobody else use."""


def check_sender(task: FederatedTask, edge: str | None, view: View, topic: str) -> None:
    """Raise Refused unless an evaluation of the task comes from the node of its evaluation worker.

    Args:
        edge: the edge that the topic names; None for a topic of 0.1, which names none.
    """
    worker = task.spec.evaluation_worker
    if worker is None:
        raise Refused("not-asked", topic=topic, field="job", expected="a job with an evaluation worker", got=task.name)
    if edge is not None:
        if edge != worker.node_name:
            raise Refused("not-asked", topic=topic, field="edge", expected=f"{worker.node_name}, the node of the job's "
                          "evaluation worker", got=edge)  # fmt: skip
        return
    node = view.edges.get(worker.node_name)
    version = node.report.version if node is not None and node.report is not None else ""
    if parse_version(version) >= NAMES_EDGE:
        raise Refused("not-asked", topic=topic, field="topic", expected=f"{topic}/{worker.node_name}: that node has "
                      f"version {version}", got="a topic that names no edge, as before 0.2")  # fmt: skip
