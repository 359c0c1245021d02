"""Tell that jobs have ended, on ``event/job-ended/<job>``: once each end is stored, and again after a coordinator was
lost in between. A repeated notification has the same id."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import JobEnded
from heliograph.bus.contract.resources import ENDED, FederatedTask
from heliograph.coordinator.api.announcements import Announcements
from heliograph.coordinator.feature import ControllerContext
from heliograph.coordinator.features.federated.results import metrics_of

DELETED = "Deleted"
"""The phase of a notification that a job was deleted before its end."""
LOOK_BACK = timedelta(days=1)
"""Age of the ends that a new leader tells again where nobody has: as long as no coordinator may have led."""


class EndNotifications:
    """Publishes the ends of tasks."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._announcements = Announcements(context.port, context.doors, context.failures)

    async def announce(self, task: FederatedTask) -> None:
        """Tell that a task has ended, or was deleted."""
        ending = ending_of(task)
        await self._announcements.publish(topics.JOB_ENDED, ending, id_of(ending), job=task.name)

    async def announce_missed(self, tasks: Iterable[FederatedTask]) -> None:
        """Tell the ends that an earlier coordinator stored, and was lost before it told them."""
        port = self._context.port
        for task in recently_ended(tasks, port.world.timestamp()):
            told = await port.bus.last(topics.JOB_ENDED.at(job=task.name))
            with self._context.failures.contain(f"the end of job {task.name}"):
                if told is None or port.read(topics.JOB_ENDED, told).payload.job_uid != task.metadata.uid:
                    await self.announce(task)


def ending_of(task: FederatedTask) -> JobEnded:
    """Return the notification of a task that has ended, or was deleted."""
    status = task.status
    complete = next((each for each in status.conditions if each.type == "Complete"), None)
    return JobEnded(
        job=task.name, job_uid=task.metadata.uid, kind=task.kind,
        phase=status.phase if status.phase in ENDED else DELETED,
        reason=complete.reason if complete is not None else "",
        message=complete.message if complete is not None else "",
        model=task.spec.aggregation_worker.model.name,
        digest=status.model.digest if status.model is not None else None,
        round=status.model_round, metrics=metrics_of(status), created_by=task.metadata.created_by,
        start_time=status.start_time, completion_time=status.completion_time,
    )  # fmt: skip


def id_of(ending: JobEnded) -> str:
    """Return the id of a notification's event: the same each time it is told."""
    return f"{ending.job_uid}.ended"


def recently_ended(tasks: Iterable[FederatedTask], now: str) -> list[FederatedTask]:
    """Return the tasks whose end the last coordinator may not have told."""
    since = (datetime.fromisoformat(now) - LOOK_BACK).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return [each for each in tasks if each.status.phase in ENDED and each.status.completion_time >= since]
