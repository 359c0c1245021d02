"""Processes of a measurement, ours or a peer's: their resident memory and their end (Linux only)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

PERIOD = 0.2
"""Seconds between two samples of memory."""


class MemoryWatch:
    """Sampler of the resident memory of process trees, five times a second; a context manager.

    Args:
        roots: pids of the trees' roots.
        aggregator: part of the command line of the aggregating process.

    Attributes:
        total: largest sum of resident bytes seen. Pages shared by processes count in each of them.
        aggregating: peak of the aggregating process's resident bytes, as recorded by the kernel.
    """

    def __init__(self, roots: Iterable[int], aggregator: str) -> None:
        self._roots = tuple(roots)
        self._aggregator = aggregator
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.total = 0
        self.aggregating = 0

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(PERIOD):
            total = 0
            for pid in tree(*self._roots):
                total += resident_alone(pid)
                with contextlib.suppress(OSError):
                    words = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
                    if self._aggregator in words:
                        self.aggregating = max(self.aggregating, resident_alone(pid, "VmHWM"))
            # the kernel records each process's peak; the peak of the sum is only sampled
            self.total = max(self.total, total, self.aggregating)


def resident(*roots: int) -> int:
    """Return the resident bytes of these processes and their descendants."""
    return sum(resident_alone(pid) for pid in tree(*roots))


def resident_alone(pid: int, field: str = "VmRSS") -> int:
    """Return the resident bytes of one process, or their peak with ``VmHWM``; 0 if the process has ended."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def tree(*roots: int) -> list[int]:
    """Return the pids of these processes and of their living descendants."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            pid, rest = place.read_text().split(" (", 1)
            state, parent = rest.rsplit(") ", 1)[1].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(pid))
    found, left = list(roots), list(roots)
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return list(dict.fromkeys(found))


def adopt_orphans() -> None:
    """Make this process the parent of orphaned descendants, so that ``end_all`` finds them."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def end_all() -> None:
    """Kill all descendants of this process until none is left."""
    while left := tree(os.getpid())[1:]:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def wait_for(done: Callable[[], bool], timeout: float, alive: Callable[[], bool] = lambda: True) -> None:
    """Wait until ``done()``. Raises TimeoutError after ``timeout`` seconds, RuntimeError as soon as not ``alive()``."""
    until = time.monotonic() + timeout
    while not done():
        if not alive() and not done():
            raise RuntimeError("ended early")
        if time.monotonic() > until:
            raise TimeoutError(f"took more than {timeout:g} s")
        time.sleep(0.05)
