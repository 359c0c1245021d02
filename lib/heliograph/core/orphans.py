"""End the processes that a program has left behind, also those that have left its process group.

A program that is launched has a variable in its environment, ``HELIOGRAPH_LAUNCH`` or that of its run, and its children
inherit it. As a program, this file waits until its parent has ended, also by SIGKILL, and then ends what the parent has
started: ``python orphans.py FD NAME=VALUE [GRACE DIRECTORY]``. FD is the reading end of a pipe whose writing end the
parent alone holds; it has a byte in it where the parent has stopped its processes itself. A VALUE that ends in ``/`` is
the beginning of the variable's value. The processes have GRACE seconds to end by themselves, and DIRECTORY is deleted
after them.

It imports little, and no pathlib: each agent that runs workers has one such process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator

VARIABLE = "HELIOGRAPH_LAUNCH"
"""``<launcher>/<number>``: the launcher that started the program, and the number of this start."""
ATTEMPTS = 20
"""Scans, at most, until one finds no process: a process may start others while it is being ended."""
POLL = 0.1
STRAYS_GRACE = 0.5
"""Seconds in which the rest may end by itself where the parent has stopped its processes."""


def end_launched(launch: str) -> int:
    """Send SIGKILL to each process of this user that belongs to a launch, or to a launcher if it ends in ``/``.

    Return how many there were. Do nothing where there is no ``/proc``.
    """
    return _end(f"{VARIABLE}={launch}")


def members(variable: str) -> list[int]:
    """Return the ids of this user's other processes that have an environment variable, ``NAME=VALUE``, or one whose
    value begins so if it ends in ``/``."""
    return [pid for pid in _processes() if _belongs(pid, variable)]


def _end(variable: str) -> int:
    ended: set[int] = set()
    for _ in range(ATTEMPTS):
        found = [pid for pid in members(variable) if _killed(pid, variable)]
        ended.update(found)  # a killed process takes a moment to go, and may be found again
        if not found:
            break
    return len(ended)


def _processes() -> Iterator[int]:
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208
            if name.isdigit() and int(name) != os.getpid():
                yield int(name)


def _belongs(pid: int, variable: str) -> bool:
    """Return whether a process has inherited the variable; False for one that has ended."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            variables = file.read().split(b"\0")
    except OSError:  # another user's, or gone
        return False
    wanted = variable.encode()
    return any(each.startswith(wanted) if variable.endswith("/") else each == wanted for each in variables)


def _killed(pid: int, variable: str) -> bool:
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not _belongs(pid, variable):  # another process has the number by now
            return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(process)
    return True


def _main(descriptor: str, variable: str, seconds: str = "0", directory: str = "") -> None:
    pipe, grace = int(descriptor), float(seconds)
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    while os.read(pipe, 1):
        grace = min(grace, STRAYS_GRACE)
    for _ in range(round(grace / POLL)):
        if not members(variable):
            break
        time.sleep(POLL)
    while _end(variable):  # until a scan finds none: a killed process takes a moment to go
        time.sleep(POLL)
    if directory:
        import shutil

        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
