"""Carry out the actions of ``reconcile``: fetch models and packages, launch and stop workers, and assign tasks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

from heliograph.bus.contract import payloads, topics
from heliograph.bus.contract.payloads import Desired
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.port import Port
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.failures import Failures
from heliograph.core.tasks import Background
from heliograph.edge_agent.admission import Capacity
from heliograph.edge_agent.inventory import Inventory
from heliograph.edge_agent.launcher import WorkerFiles
from heliograph.edge_agent.model_prefetcher import ModelPrefetcher
from heliograph.edge_agent.model_store import ModelStore
from heliograph.edge_agent.package_store import PackageStore
from heliograph.edge_agent.reconcile import (
    Assign,
    Evict,
    Fetch,
    FetchPackage,
    Hold,
    Hurry,
    Launch,
    Stop,
    decide,
    work_of,
)
from heliograph.edge_agent.supervised_worker import Worker
from heliograph.edge_agent.supervisor import Supervisor
from heliograph.edge_agent.task_code import TaskCode

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import Assignment, ScriptSpec, WorkerTask

_Effect = Fetch | FetchPackage | Launch | Assign | Stop | Evict | Hurry
ASSIGN_RETRY = 1.0
"""Seconds before an assignment that could not be published is repeated."""


class Reconciler:
    """Keeps the node at its desired document.

    Args:
        node: connection to the node's broker, for assignments.
        files: maps paths to those that a worker sees.
        code: finds the code of tasks.
        objection: returns why this node must not use a task's model; empty where it may.
        capacity: what the node has for workers that ask for memory or GPUs.
        warn: called with a line about a task that could not be assigned.
    """

    def __init__(
        self,
        node: Port,
        edge: str,
        supervisor: Supervisor,
        files: WorkerFiles,
        models: ModelStore,
        prefetcher: ModelPrefetcher,
        inventory: Inventory,
        packages: PackageStore,
        code: TaskCode,
        capacity: Capacity,
        background: Background,
        warn: Callable[[str], None],
        failures: Failures,
        objection: Callable[[WorkerTask], str] = lambda task: "",
        kept: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._node = node
        self._edge = edge
        self._supervisor = supervisor
        self._files = files
        self._models = models
        self._prefetcher = prefetcher
        self._inventory = inventory
        self._packages = packages
        self._code = code
        self._capacity = capacity
        self._background = background
        self._warn = warn
        self._failures = failures
        self._objection = objection
        self._kept = kept
        self.holds: dict[str, Hold] = {}
        """Tasks that cannot run here, with the reason, by the worker's name."""
        self._assignments = itertools.count(1)

    def reconcile(self, desired: Desired) -> None:
        """Start the actions that lead to the desired document. Call it again when the document or the node changes."""
        self._inventory.follow(desired.datasets)
        self._prefetcher.follow(desired.tasks)
        running = {name: worker.as_running() for name, worker in self._supervisor.workers.items()}
        holds = {}
        packages = self._code.package_states(desired.tasks)
        for action in decide(
            desired.tasks, running, self._inventory.datasets, self._models, self._code.roots, packages,
            self._objection, self._capacity,
        ):  # fmt: skip
            if isinstance(action, Hold):
                holds[action.task.worker] = action
            else:
                with self._failures.contain(_about(action)):
                    self._carry_out(action)
        self.holds = holds
        used = [*desired.tasks, *(worker.task for worker in self._supervisor.workers.values())]
        needed = {ref.digest for task in used for ref in task.files}
        self._models.keep_only(needed | self._prefetcher.expected | set(self._kept()))
        self._packages.keep_only(
            {task.package.digest for task in used if isinstance(task, payloads.ScriptTask) and task.package is not None}
        )
        self._inventory.release({name for task in used for name in task.datasets}, {task.worker for task in used})

    def _carry_out(self, action: _Effect) -> None:
        if isinstance(action, Fetch):
            self._models.fetch(action.model)
        elif isinstance(action, FetchPackage):
            self._packages.fetch(action.package.ref)
        elif isinstance(action, Launch):
            self._supervisor.launch(action.task, action.gpus)
        elif isinstance(action, Assign):
            self._assign(self._supervisor.workers[action.task.worker], action.task)
        elif isinstance(action, Evict):
            self._background.spawn(self._supervisor.evict(action.worker))
        elif isinstance(action, Hurry):
            self._supervisor.hurry(action.worker)
        else:
            self._background.spawn(self._supervisor.stop(action.worker, self._assign_end))

    def _assign(self, worker: Worker, task: WorkerTask, *, ended: bool = False) -> None:
        worker.task = task  # what it asks of the node counts until it has ended
        worker.assigned = task = work_of(task)
        path_for, datasets = partial(self._files.path_for, task.worker), self._inventory
        if isinstance(task, payloads.ScriptTask) and (task.script is not None or task.package is not None):
            task = task.model_copy(update={"script": self._script_for(worker, task, task.script), "package": None})
        places = {ref.digest: path_for(self._models.path(ref)) for ref in task.files}

        def place(ref: WeightsRef | None) -> str:
            return places.get(ref.digest, "") if ref is not None else ""

        dataset = (task.dataset or "") if isinstance(task, payloads.DatasetTask) else ""
        further = task.further_datasets if isinstance(task, payloads.PairTask) else {}
        (data, samples), reads = datasets.read_by(task.worker, dataset), partial(datasets.read_by, task.worker)
        assignment = payloads.Assignment(
            number=next(self._assignments),
            task=task,
            edge=self._edge,
            model_file=place(task.loaded),
            down_file=place(task.down) if isinstance(task, payloads.TrainTask) and task.down is not None else None,
            dataset_file=path_for(data) if data is not None else "",
            dataset_files={role: path_for(path) for role, name in further.items()
                           if (path := reads(name)[0]) is not None},
            files={each.digest: place(each) for each in task.besides if each is not None and each.digest in places},
            dataset_samples=samples,
            ended=ended,
        )  # fmt: skip
        self._background.spawn(self._send(worker, assignment))

    def _script_for(self, worker: Worker, task: WorkerTask, named: ScriptSpec | None) -> ScriptSpec | None:
        """Return a task's script with the paths at which the worker finds it, that of a package too; None where it no
        longer lies here. A script in a pod's image has the paths of its document."""
        if task.has_script_in_image:
            return named
        code = self._code.of(task)
        if code is None or code.directory is None:
            return None
        path_for = partial(self._files.path_for, worker.task.worker)
        boot_file = path_for(code.boot_file)
        if isinstance(task, payloads.ScriptTask) and task.package is not None:
            return payloads.ScriptSpec(boot_file=boot_file, arguments=task.package.arguments)
        if named is None:
            return None
        directory = path_for(code.directory) if named.directory else ""
        there = {"boot_file": boot_file, "directory": directory, "working_directory": ""}
        return named.model_copy(update=there)  # the launcher has laid the working directory's files

    async def _send(self, worker: Worker, assignment: Assignment) -> None:
        name = worker.task.worker
        while True:
            try:
                await self._node.publish(topics.ASSIGNMENT, assignment, key=worker.secret, worker=name)
                return
            except Refused as error:
                self._warn(f"worker {name}: {error}")
                return
            except HeliographError:
                await self._node.world.sleep(ASSIGN_RETRY)
                if self._supervisor.workers.get(name) is not worker:
                    return

    def _assign_end(self, worker: Worker) -> None:
        self._assign(worker, worker.task, ended=True)


def _about(action: _Effect) -> str:
    if isinstance(action, Fetch):
        return f"model {action.model.digest[:12]}"
    if isinstance(action, FetchPackage):
        return f"package {action.package.digest[:12]}"
    return f"worker {action.task.worker if isinstance(action, (Launch, Assign)) else action.worker}"
