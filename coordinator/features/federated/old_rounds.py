"""Which close records of rounds nobody reads any more. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta

from heliograph.bus.contract import close_record
from heliograph.bus.contract.resources import ENDED, FederatedTask
from heliograph.coordinator.garbage.lives import Lives


def old_rounds(
    keys: Iterable[str], tasks: Iterable[FederatedTask], strangers: Collection[str], now: str, lives: Lives
) -> Iterator[tuple[str, str]]:
    """Yield each key in the bucket of close records that has come to the end of its life, with the reason.

    A job that runs keeps its newest records; one that has ended keeps all for some days. What a deleted job has left
    is taken: its deletion was cut off.

    Args:
        strangers: uids of jobs that are known to be deleted. A uid that is neither there nor a task's is passed over.
    """
    known = {task.metadata.uid: task for task in tasks}
    for key in keys:
        uid = close_record.job_of(key)
        task = known.get(uid)
        if task is None:
            if uid in strangers:
                yield key, "its job was deleted"
        elif task.status.phase in ENDED:
            if _since(task.status.completion_time, now) >= timedelta(days=lives.ended_days):
                yield key, f"job {task.name} ended {lives.ended_days} days ago or earlier"
        elif close_record.is_record(key) and _round(key) <= task.status.round - lives.open_rounds:
            yield key, f"job {task.name} has {lives.open_rounds} newer ones"


def _round(key: str) -> int:
    return int(key.rpartition(".")[2])


def _since(time: str, now: str) -> timedelta:
    """Return the time from ``time`` to ``now``; none where it is not known."""
    try:
        return datetime.fromisoformat(now) - datetime.fromisoformat(time)
    except ValueError:
        return timedelta()
