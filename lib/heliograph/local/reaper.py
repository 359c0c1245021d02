"""The program that outlives a command by design, even one that was killed: it ends the processes that the command has
left behind, and deletes its temporary directory.

Each process of a run has an environment variable with the run's id. On Linux this program finds it in ``/proc``, also
in a process that a user's script has started and that has left its session. It is run by its file and imports nothing
of ours, so that it starts in milliseconds and needs no more memory than an interpreter.

Its arguments: the variable as ``NAME=id``, the directory or an empty word, and the seconds in which the processes of a
killed command may end by themselves. Its standard input ends with the command; there is a byte in it where the command
has stopped its processes itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

POLL = 0.1
STRAYS_GRACE = 0.5
"""Seconds in which the rest may end by itself where the command has stopped its processes."""


def members(variable: str) -> list[int]:
    """Return the ids of the processes that have an environment variable, ``NAME=value``; none without ``/proc``."""
    found = Path("/proc").glob("[0-9]*/environ")
    return [int(file.parent.name) for file in found if variable.encode() in _content(file).split(b"\0")]


def reap(variable: str, directory: str, grace: float) -> None:
    """Wait for the processes of a run to end, kill those that do not, then delete the directory."""
    patience = round(grace / POLL)
    while left := members(variable):
        patience -= 1
        if patience < 0:
            for pid in left:
                _kill(pid)
        time.sleep(POLL)
    if directory:
        shutil.rmtree(directory, ignore_errors=True)


def _content(environment: Path) -> bytes:
    """Return a process's environment; an empty one if the process has ended, or is another user's."""
    try:
        return environment.read_bytes()
    except OSError:
        return b""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return


if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    stopped = sys.stdin.buffer.read()
    reap(sys.argv[1], sys.argv[2], STRAYS_GRACE if stopped else float(sys.argv[3]))
