"""Which projects' work may run on this node: its operator says so in the site policy, and no message changes it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from heliograph.bus.contract.scopes import DEFAULT_PROJECT

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import Desired, WorkerTask


class ServedProjects:
    """Bars the tasks and loops of other projects.

    Args:
        served: the projects; empty for all.
        warn: called with a line for each loop that is barred.
    """

    def __init__(self, served: Collection[str], warn: Callable[[str], None]) -> None:
        self._served = frozenset(served)
        self._warn = warn
        self._warned: set[str] = set()
        self._desired: Desired | None = None

    def applied(self, desired: Desired) -> Desired:
        """Return the desired document without loops of other projects; tasks stay, with an objection."""
        self._desired = desired
        barred = {name: why for name, loop in desired.loops.items() if (why := self._refusal(loop.uid))}
        if not barred:
            return desired
        for name in barred.keys() - self._warned:
            self._warn(f"incremental-jobs/{name} does not run here: {barred[name]}")
        self._warned |= barred.keys()
        loops = {name: loop for name, loop in desired.loops.items() if name not in barred}
        return desired.model_copy(update={"loops": loops})

    def objection(self, task: WorkerTask) -> str:
        """Return why a task of the newest document may not run here; empty where it may."""
        return self._refusal(task.job_uid)

    def _refusal(self, uid: str) -> str:
        if not self._served or self._desired is None:
            return ""
        project = self._desired.projects.get(uid, DEFAULT_PROJECT)
        if project in self._served:
            return ""
        return f"project {project} may not run here; the site policy lists {', '.join(sorted(self._served))}"
