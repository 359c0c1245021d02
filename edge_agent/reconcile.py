"""Decide an agent's next actions: a pure function of desired tasks, running workers and files on disk."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from heliograph.bus.contract import payloads
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.edge_agent.admission import UNKNOWN, Admission, Capacity, admit
from heliograph.edge_agent.code_roots import Code, CodeRoot, locate
from heliograph.edge_agent.package_allowance import Forbidden

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import PackageSpec, ScriptSpec, WorkerTask
    from heliograph.bus.contract.resources import DatasetIndex

State = Literal["starting", "ready", "backing-off", "stopping", "failed", "finished"]
"""``failed`` and ``finished``: the process has ended, and the worker is not started again for its task."""


@dataclass(frozen=True)
class Running:
    """A worker as its supervisor sees it.

    Attributes:
        assigned: the task last handed to its present process.
        task: the task last handed to the worker; a restarted process does not know it yet.
        ended_in: the round in which a worker that has ended left its loop, or failed.
        final: True where the worker failed in a way that only another script, or other arguments or samples of it,
            mend.
        hurried: True where a worker that is being stopped has no more time for the code after its loop.
        gpus: ids of the GPUs that it was given.
    """

    worker: str
    job_uid: str
    state: State
    assigned: WorkerTask | None = None
    task: WorkerTask | None = None
    ended_in: int = -1
    final: bool = False
    hurried: bool = False
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Launch:
    """``gpus``: ids of the GPUs that the worker asks for, which it alone is given."""

    task: WorkerTask
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stop:
    worker: str


@dataclass(frozen=True)
class Evict:
    """A worker that gives up its place to another one. It starts again once there is room."""

    worker: str


@dataclass(frozen=True)
class Hurry:
    """A worker that is being stopped, and whose name the next job needs, or whose place a higher priority."""

    worker: str


@dataclass(frozen=True)
class Assign:
    task: WorkerTask


@dataclass(frozen=True)
class Fetch:
    model: WeightsRef


@dataclass(frozen=True)
class FetchPackage:
    package: PackageSpec


@dataclass(frozen=True)
class PackageState:
    """A task's package on this node.

    Attributes:
        code: where it lies, unpacked; None while it is not here.
        barred: why it may not run here.
        problem: why it is not here yet.
        refused: True where it came, and is no package: waiting does not help.
    """

    code: Code | None = None
    barred: Forbidden | None = None
    problem: str = ""
    refused: bool = False


@dataclass(frozen=True)
class Hold:
    """A task that cannot run here, and the reason; ``forbidden`` where waiting does not help, ``queued`` where it waits
    for memory or a GPU that other workers have."""

    task: WorkerTask
    reason: str
    forbidden: bool = False
    queued: bool = False


Action = Launch | Stop | Evict | Hurry | Assign | Fetch | FetchPackage | Hold
_NO_PACKAGES: Mapping[str, PackageState] = MappingProxyType({})


def decide(
    tasks: Collection[WorkerTask],
    running: Mapping[str, Running],
    datasets: Mapping[str, DatasetIndex],
    models: Container[str],
    code_roots: Sequence[CodeRoot],
    packages: Mapping[str, PackageState] = _NO_PACKAGES,
    objection: Callable[[WorkerTask], str] = lambda task: "",
    capacity: Capacity = UNKNOWN,
) -> list[Action]:
    """Return the actions that lead to the desired tasks, in order. Once they are done, a new decision has no action but
    those that hold a task.

    Args:
        packages: the packages of tasks that run one, by the worker's name.
        objection: returns why this node must not use a task's model; empty where it may.
    """
    wanted = {task.worker: task for task in tasks}
    actions: list[Action] = [
        Stop(worker)
        for worker, present in sorted(running.items())
        if present.state != "stopping" and _is_obsolete(present, wanted.get(worker))
    ]
    holds = {}
    for task in wanted.values():
        present = running.get(task.worker)
        runs = present is not None and present.assigned == work_of(task)  # its script is loaded
        package = packages.get(task.worker)
        if package is not None and package.barred is not None and _may_stop(present, task):
            actions.append(Stop(task.worker))  # it was allowed when it started
        if hold := _objected(task, objection) or _hold(task, datasets, code_roots, package, runs):
            holds[task.worker] = hold
    free = [task for task in wanted.values() if task.worker not in holds and _may_start(task, running)
            and not _awaits_package(packages.get(task.worker))]  # fmt: skip
    starting = [each for each in free if _starts(each, running)]
    later = [each for each in free if not _starts(each, running)]
    admission = admit(starting, later, running, wanted, capacity)
    actions += [Evict(worker) for worker in admission.evicted]
    actions += _hurried(admission, running)
    for task in wanted.values():
        present, package = running.get(task.worker), packages.get(task.worker)
        if hold := holds.get(task.worker) or _queued(task, admission):
            actions.append(hold)
        if package is not None and _awaits_package(package) and isinstance(task, payloads.ScriptTask):
            if task.package is not None and not package.refused:
                actions.append(FetchPackage(task.package))
            continue
        if hold:
            continue
        if present is not None and _is_obsolete(present, task):
            if present.state == "stopping" and not present.hurried:  # the earlier one of that name is stopped first
                actions.append(Hurry(task.worker))
            continue
        if present is None or present.state in ("failed", "finished"):
            if not _starts(task, running):
                continue
            present = None
            actions.append(Launch(task, admission.gpus.get(task.worker, ())))
        if missing := _missing(task, models):
            actions += [Fetch(ref) for ref in missing]
            if present is not None and (before := _interim_task(present, models)) is not None:
                actions.append(Assign(before))
        elif present is not None and _is_replaced(present, task):
            if present.state != "stopping":
                actions.append(Stop(task.worker))
        elif present is not None and present.state == "ready" and present.assigned != work_of(task):
            actions.append(Assign(task))
    return actions


def work_of(task: WorkerTask) -> WorkerTask:
    """Return a task as its worker gets it: what it asks of the node is the agent's business, and may change while it
    runs."""
    return task if task.asks is None else task.model_copy(update={"asks": None})


def _may_start(task: WorkerTask, running: Mapping[str, Running]) -> bool:
    """Return whether the task's worker has no process and may be started."""
    present = running.get(task.worker)
    if present is None:
        return True
    ended = present.job_uid == task.job_uid and present.state in ("failed", "finished")
    return ended and _begins_again(present, task)


def _starts(task: WorkerTask, running: Mapping[str, Running]) -> bool:
    """Return whether a worker without a process is to be started for the task."""
    return _may_start(task, running) and (task.is_due or not task.starts_idle)


def _queued(task: WorkerTask, admission: Admission) -> Hold | None:
    waiting = admission.waiting.get(task.worker)
    return Hold(task, waiting.reason, waiting.never, not waiting.never) if waiting is not None else None


def _hurried(admission: Admission, running: Mapping[str, Running]) -> list[Action]:
    """Return which workers that are being stopped get no more time, because a higher priority waits for their place."""
    ending = sorted({each for waiting in admission.waiting.values() for each in waiting.ending})
    return [Hurry(each) for each in ending if running[each].state == "stopping" and not running[each].hurried]


def _is_obsolete(present: Running, task: WorkerTask | None) -> bool:
    if task is None or task.job_uid != present.job_uid:
        return True
    before = present.task  # of a name that all attempts have
    return isinstance(task, payloads.LearnTask) and isinstance(before, payloads.LearnTask) and (
        task.round == before.round and task.attempt != before.attempt
    )  # fmt: skip


def _awaits_package(package: PackageState | None) -> bool:
    return package is not None and package.code is None and package.barred is None


def _may_stop(present: Running | None, task: WorkerTask) -> bool:
    return present is not None and present.state != "stopping" and not _is_obsolete(present, task)


def _is_replaced(present: Running, task: WorkerTask) -> bool:
    """Return whether the task runs other code than the process has loaded."""
    return task.serves and present.task is not None and present.task.revision != task.revision


def _begins_again(present: Running, task: WorkerTask) -> bool:
    """Return whether a worker that has ended is started for the task.

    One whose script left its loop, or failed repeatedly, is started when it is asked in another round; one whose
    failure is final when it runs something else, or when another round has other samples.
    """
    if present.task is None or _what_runs(present.task) != _what_runs(task):
        return True
    is_final = present.final and not task.has_new_samples
    return not is_final and task.is_due and task.revision != present.ended_in


def _what_runs(task: WorkerTask) -> object:
    if isinstance(task, payloads.DatasetTask):
        package = (task.package.digest, task.package.arguments) if task.package is not None else None
        pod = task.pod.identity if task.pod is not None else ""
        return task.script, package, task.parameters, task.datasets, pod
    return task.revision


def _looked_in(name: str, code_roots: Sequence[CodeRoot]) -> str:
    """Return where a script was looked for: below each root, where its name is relative and there are several."""
    if Path(name).is_absolute() or len(code_roots) < 2:
        return ""
    return f": looked for below {', '.join(str(root.prefix) for root in code_roots)}"


def _missing(task: WorkerTask, models: Container[str]) -> list[WeightsRef]:
    return [ref for ref in task.files if ref.digest not in models]


def _interim_task(present: Running, models: Container[str]) -> WorkerTask | None:
    """Return the earlier task for a restarted process, so that it serves while the new model is fetched; else None."""
    before = present.task
    if before is None or not before.serves or present.state != "ready" or present.assigned is not None:
        return None
    return None if _missing(before, models) else before


def _objected(task: WorkerTask, objection: Callable[[WorkerTask], str]) -> Hold | None:
    """Return the hold of a task whose model must not be used here; a worker that runs serves its earlier model."""
    why = objection(task)
    return Hold(task, why, forbidden=True) if why else None


def _hold(
    task: WorkerTask, datasets: Mapping[str, DatasetIndex], code_roots: Sequence[CodeRoot],
    package: PackageState | None, runs: bool,
) -> Hold | None:  # fmt: skip
    if package is not None:
        if package.barred is not None:
            return Hold(task, package.barred.reason, package.barred.final)
        if package.problem and not runs:
            return Hold(task, package.problem, package.refused)
    elif isinstance(task, payloads.ServingTask) and task.served is not None:
        return None  # no code of the user's
    elif isinstance(task, payloads.ScriptTask) and not (runs or task.has_script_in_image) and (
        hold := _script_hold(task, task.script, code_roots)
    ):
        return hold
    for name in task.datasets:
        index = datasets.get(name)
        if index is None:
            return Hold(task, f"data set {name} is not on this node")
        if index.error:
            return Hold(task, f"data set {name}: {index.error}")
    return None


def _script_hold(task: WorkerTask, named: ScriptSpec | None, code_roots: Sequence[CodeRoot]) -> Hold | None:
    if named is None:
        return Hold(task, "the task names no script (trainScriptBootFile)", forbidden=True)
    code = locate(named, code_roots)
    if code is None:
        roots = ", ".join(str(root.prefix) for root in code_roots) or "none"
        reason = f"script {named.boot_file} does not lie under a --code root of this agent ({roots})"
        return Hold(task, reason, forbidden=True)
    if code.directory is None:
        reason = f"directory {named.directory} does not lie under the --code root of script {named.boot_file}"
        return Hold(task, reason, forbidden=True)
    if code.working_directory is None:
        reason = f"working directory {named.working_directory} does not lie under a --code root of this agent"
        return Hold(task, reason, forbidden=True)
    if not code.boot_file.is_file():
        return Hold(task, f"script {named.boot_file} is not on this node{_looked_in(named.boot_file, code_roots)}")
    if not code.directory.is_dir():
        return Hold(task, f"directory {named.directory} is not on this node")
    if not code.working_directory.is_dir():
        return Hold(task, f"directory {named.working_directory} is not on this node")
    return None
