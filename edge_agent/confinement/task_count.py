"""Count processes and threads, as the kernel shows them in ``/proc``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_STATE, _GROUP, _THREADS = 0, 2, 17
"""Fields of ``/proc/PID/stat`` behind the command: proc(5) counts them from 1, with two before these."""


def tasks_of_user(user: int) -> int:
    """Return the number of processes and threads of a user."""
    return sum(threads for owner, _, threads in _tasks() if owner == user)


def tasks_by_group() -> dict[int, int]:
    """Return the number of processes and threads of each process group."""
    found: dict[int, int] = {}
    for _, group, threads in _tasks():
        found[group] = found.get(group, 0) + threads
    return found


def _tasks() -> Iterator[tuple[int, int, int]]:
    """Yield owner, process group and number of threads of each process that has not ended."""
    with contextlib.suppress(OSError), os.scandir("/proc") as entries:
        for entry in entries:
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, ValueError, IndexError):
                owner = entry.stat().st_uid
                with open(f"/proc/{entry.name}/stat", "rb") as file:  # noqa: PTH123
                    rest = file.read(1024).rpartition(b")")[2].split()
                if rest[_STATE] not in (b"Z", b"X"):
                    yield owner, int(rest[_GROUP]), int(rest[_THREADS])
