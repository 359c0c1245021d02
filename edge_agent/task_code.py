"""The code of a task on this node: a script below one of the agent's roots, or an unpacked package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.bus.contract import payloads
from heliograph.edge_agent.code_roots import Code, CodeRoot, locate
from heliograph.edge_agent.package_allowance import AllowedPackages
from heliograph.edge_agent.package_store import PackageStore
from heliograph.edge_agent.reconcile import PackageState

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import PackageSpec, WorkerTask


class TaskCode:
    """Finds the code of tasks, and says which packages may run.

    Args:
        roots: directories below which scripts lie.
    """

    def __init__(self, roots: Sequence[CodeRoot], packages: PackageStore, allowed: AllowedPackages) -> None:
        self.roots = roots
        self._directories = tuple(root.directory for root in roots)
        self._packages = packages
        self._allowed = allowed

    def of(self, task: WorkerTask) -> Code | None:
        """Return the code of a task; None where it has none here: that in a pod's image is none of the node's."""
        if not isinstance(task, payloads.ScriptTask) or task.has_script_in_image:
            return None
        if task.package is not None:
            return self._packages.code(task.package)
        return locate(task.script, self.roots) if task.script is not None else None

    def directories(self, task: WorkerTask) -> tuple[Path, ...]:
        """Return the directories below which the code of a task's worker may lie: a package is alone, and
        a script in a pod's image has none here."""
        if task.has_script_in_image:
            return ()
        if isinstance(task, payloads.ScriptTask) and task.package is not None:
            code = self._packages.code(task.package)
            return (code.working_directory,) if code is not None and code.working_directory is not None else ()
        return self._directories

    def package_states(self, tasks: Sequence[WorkerTask]) -> dict[str, PackageState]:
        """Return the state of the package of each task that has one, by the worker's name."""
        return {
            task.worker: self._state(task.package)
            for task in tasks
            if isinstance(task, payloads.ScriptTask) and task.package is not None
        }

    def _state(self, package: PackageSpec) -> PackageState:
        if (barred := self._allowed.now.refusal(package)) is not None:
            return PackageState(barred=barred)
        if (code := self._packages.code(package)) is not None:
            return PackageState(code)
        problem = self._packages.failures.get(package.digest, "")
        return PackageState(problem=problem, refused=self._packages.is_refused(package.ref))
