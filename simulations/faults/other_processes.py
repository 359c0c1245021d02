"""What the faults do to other processes of this machine (Linux): find children, limit what they may write."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from pathlib import Path

UNLIMITED = resource.RLIM_INFINITY


def descendants(root: int) -> list[int]:
    """Processes that a process has started, and those that they have."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(place.parent.name)] = int(place.read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in {root, *found}} - found:
        found |= more
    return sorted(found)


def workers_of(agent: int) -> list[int]:
    """An agent's worker processes."""
    return [pid for pid in descendants(agent) if b"heliograph.workers." in _command(pid)]


def kill(pid: int) -> None:
    """SIGKILL; nothing where it has gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def limit_files(pids: list[int], size: int = UNLIMITED) -> None:
    """Lets no file that these processes write grow beyond ``size`` bytes; what is written behind it fails.

    Only the soft limit moves, so that it can be raised again without being root.
    """
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size == UNLIMITED else size, hard))


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
