"""Tools for other processes of this machine (Linux only): find descendants, kill them, limit their files."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from pathlib import Path

UNLIMITED = resource.RLIM_INFINITY


def descendants(root: int) -> list[int]:
    """Return the pids of a process's descendants."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(place.parent.name)] = int(place.read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in {root, *found}} - found:
        found |= more
    return sorted(found)


def workers_of(agent: int) -> list[int]:
    """Return the pids of an agent's worker processes."""
    return [pid for pid in descendants(agent) if b"heliograph.workers." in _command(pid)]


def kill(pid: int) -> None:
    """Kill a process by SIGKILL, unless it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def limit_files(pids: list[int], size: int = UNLIMITED) -> None:
    """Limit the files of these processes to ``size`` bytes; writes beyond fail.

    Only the soft limit changes, so that raising it again needs no root.
    """
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size == UNLIMITED else size, hard))


def free_files(pids: list[int]) -> None:
    """Take the limits of ``limit_files`` off again. A worker with a user of its own, whose limits this process may not
    change, is killed: its agent starts another one."""
    for pid in pids:
        try:
            limit_files([pid])
        except PermissionError:
            kill(pid)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
