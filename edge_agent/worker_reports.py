"""Report an agent's workers: running ones, and ones that cannot be started."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from heliograph import __version__
from heliograph.bus.contract.payloads import UnsupportedTask, WorkerReport
from heliograph.edge_agent.reconcile import Hold
from heliograph.edge_agent.supervised_worker import Worker

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import WorkerTask

MAX_DETAIL = 4096
"""Characters of a reason, at most."""
_STATES: dict[str, Literal["starting", "running", "backing-off", "finished", "failed"]] = {
    "starting": "starting",
    "ready": "running",
    "backing-off": "backing-off",
    "stopping": "finished",
    "finished": "finished",
    "failed": "failed",
}


def worker_reports(
    workers: Mapping[str, Worker],
    holds: Mapping[str, Hold],
    wanted: Mapping[str, WorkerTask],
    failures: Mapping[str, str],
    key_of: Callable[[WorkerTask], str] = lambda task: "",
) -> list[WorkerReport]:
    """Return a report for each worker, sorted by name, running ones first.

    Args:
        wanted: the desired task of each worker.
        failures: the reason why a model could not be fetched, by its digest; its worker keeps its earlier model.
        key_of: returns the public key by which a task's worker signs for the cloud; empty for none.
    """
    found = [
        WorkerReport(
            worker=name,
            role=worker.task.role,
            job=worker.task.job,
            job_uid=worker.task.job_uid,
            round=worker.task.revision,
            state="waiting" if worker.waits and worker.state == "starting" else _STATES[worker.state],
            detail=(worker.waits or worker.detail or _missing_model(wanted.get(name), failures))[:MAX_DETAIL],
            restarts=worker.restarts,
            final=worker.state == "failed",
            code=worker.code,
            queued=bool(worker.waits),
            key=key_of(worker.task),
        )
        for name, worker in sorted(workers.items())
    ]
    found += [
        WorkerReport(
            worker=name,
            role=hold.task.role,
            job=hold.task.job,
            job_uid=hold.task.job_uid,
            round=hold.task.revision,
            state="refused" if hold.forbidden else "waiting",
            detail=hold.reason[:MAX_DETAIL],
            queued=hold.queued,
        )
        for name, hold in sorted(holds.items())
    ]
    return found


def refusals(unsupported: Iterable[UnsupportedTask]) -> list[WorkerReport]:
    """Return a report for each task that this agent cannot run, in a state that every coordinator's version knows."""
    return [
        WorkerReport(
            worker=each.worker,
            role=each.role,
            job=each.job,
            job_uid=each.job_uid,
            round=each.revision,
            state="refused",
            detail=f"this agent (heliograph {__version__}) cannot run the task: {each.reason}"[:MAX_DETAIL],
        )
        for each in unsupported
    ]


def _missing_model(task: WorkerTask | None, failures: Mapping[str, str]) -> str:
    return failures.get(task.model.digest, "") if task is not None and task.model is not None else ""
