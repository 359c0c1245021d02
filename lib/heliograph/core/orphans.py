"""End the processes that a launched program has left behind, also those that have left its process group.

Each launched program has the variable ``HELIOGRAPH_LAUNCH`` in its environment, and its children inherit it. As a
program, this file waits until its parent has ended, also by SIGKILL, and then ends what the parent had launched:
``python orphans.py FD LAUNCHER``, where FD is the reading end of a pipe whose writing end the parent alone holds. It
imports little, and no pathlib: each agent that runs workers has one such process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

VARIABLE = "HELIOGRAPH_LAUNCH"
"""``<launcher>/<number>``: the launcher that started the program, and the number of this start."""
ATTEMPTS = 20
"""Scans, at most, until one finds no process: a process may start others while it is being ended."""


def end_launched(launch: str) -> int:
    """Send SIGKILL to each process of this user that belongs to a launch, or to a launcher if it ends in ``/``.

    Return how many there were. Do nothing where there is no ``/proc``.
    """
    ended = 0
    for _ in range(ATTEMPTS):
        found = [pid for pid in _processes() if _belongs(pid, launch) and _killed(pid, launch)]
        ended += len(found)
        if not found:
            break
    return ended


def _processes() -> Iterator[int]:
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208
            if name.isdigit() and int(name) != os.getpid():
                yield int(name)


def _belongs(pid: int, launch: str) -> bool:
    """Return whether a process has inherited the launch's variable; False for one that has ended."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            variables = file.read().split(b"\0")
    except OSError:  # another user's, or gone
        return False
    wanted = f"{VARIABLE}={launch}".encode()
    return any(each.startswith(wanted) if launch.endswith("/") else each == wanted for each in variables)


def _killed(pid: int, launch: str) -> bool:
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not _belongs(pid, launch):  # another process has the number by now
            return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(process)
    return True


def _main() -> None:
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    pipe, launcher = int(sys.argv[1]), sys.argv[2]
    while os.read(pipe, 1):
        pass
    end_launched(launcher)


if __name__ == "__main__":
    _main()
