"""What an agent reports of its workers, those that run and those that cannot be started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from heliograph.bus.payloads import WorkerReport
from heliograph.edge_agent.reconcile import Hold
from heliograph.edge_agent.supervisor import Worker

_STATES: dict[str, Literal["starting", "running", "backing-off", "finished"]] = {
    "starting": "starting",
    "ready": "running",
    "backing-off": "backing-off",
    "stopping": "finished",
}


def worker_reports(workers: Mapping[str, Worker], holds: Mapping[str, Hold]) -> list[WorkerReport]:
    """In the order of their names, the running ones first."""
    found = [
        WorkerReport(
            worker=name,
            role=worker.task.role,
            job=worker.task.job,
            job_uid=worker.task.job_uid,
            round=worker.task.round,
            state=_STATES[worker.state],
            detail=worker.detail,
            restarts=worker.restarts,
        )
        for name, worker in sorted(workers.items())
    ]
    found += [
        WorkerReport(
            worker=name,
            role=hold.task.role,
            job=hold.task.job,
            job_uid=hold.task.job_uid,
            round=hold.task.round,
            state="refused" if hold.forbidden else "waiting",
            detail=hold.reason,
        )
        for name, hold in sorted(holds.items())
    ]
    return found
