"""Whether this node runs workers in pods, and the directories that their pods need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.bus.contract import payloads
from heliograph.core.private_files import make_private
from heliograph.edge_agent.agent_config import packages_directory

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import WorkerTask


class PodSupport:
    """What a node says about pods.

    Args:
        directory: the directory that it shares with its pods; None where it runs none.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def objection(self, task: WorkerTask) -> str:
        """Return why this node does not run a task whose worker is a pod; empty where it may."""
        if self._directory is not None or not isinstance(task, payloads.ScriptTask) or task.pod is None:
            return ""
        return (f"its spec names the image {task.pod.image}, and this node runs no pods; expected an agent that was "
                "started with --pods (HELIOGRAPH_PODS), or a spec without image")  # fmt: skip

    def prepare(self, state: Path) -> None:
        """Make the directories that pods mount: Kubernetes would make a missing one as root's."""
        if self._directory is not None:
            make_private(self._directory)
            for directory in (state / "models", state / "datasets", packages_directory(state)):
                make_private(directory)
