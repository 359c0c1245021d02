"""When a federated task has to be looked at again although nothing has happened. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from heliograph.bus.contract.resources import FederatedTask


def deadline_of(task: FederatedTask) -> str:
    """Return the time at which the present round's deadline passes; empty where no round is open, or its begin is not
    known."""
    status = task.status
    if status.step not in ("initialising", "training") or not status.round_began:
        return ""
    return _later(status.round_began, task.spec.round_deadline_seconds)


def next_look(task: FederatedTask, now: str) -> str:
    """Return the time at which ``observe`` may decide otherwise although nothing has happened; empty for none."""
    return min((each for each in (deadline_of(task), end_of_wall_time(task)) if each > now), default="")


def end_of_wall_time(task: FederatedTask) -> str:
    """Return the time at which a running task has had its wall time; empty where it has none."""
    stop, start = task.spec.stop, task.status.start_time
    return _later(start, stop.wall_time_seconds) if stop is not None and stop.wall_time_seconds and start else ""


def _later(time: str, seconds: float) -> str:
    end = datetime.fromisoformat(time) + timedelta(seconds=seconds)
    return end.isoformat(timespec="microseconds").replace("+00:00", "Z")
