"""A cgroup for each worker: the kernel bounds memory, processes and CPU of a worker together with all that it starts.

They lie below the agent's own cgroup, where systemd has delegated that to the agent: ``Delegate=yes`` in its unit,
which an attribute of the directory shows. Kernel interface: cgroups(7), version 2; systemd's: "Control Group APIs and
Delegation".
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from heliograph.core.world import World

MOUNTED = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "memory", "pids")
_DELEGATED = "user.delegate"
_AGENT = "agent"
"""The agent's own part: the kernel lets no process stay in a cgroup that gives controllers on."""
_PERIOD = 100_000
"""Microseconds in which a bound of CPU holds, as systemd has it."""
_LOOKS, _BETWEEN = 200, 0.01
"""Looks, and seconds between them, until killed processes have left, unless the kernel holds one."""
MB = 1 << 20


@dataclass(frozen=True)
class Bounds:
    """Bounds of one worker and all that it starts; 0 is none. ``cpu_percent`` is of one core."""

    memory_mb: int
    processes: int
    cpu_percent: int

    @property
    def files(self) -> Mapping[str, str]:
        """What is written into which file of the cgroup."""
        found = {"memory.oom.group": "1"}  # the worker ends whole
        if self.memory_mb:
            found["memory.max"] = str(self.memory_mb * MB)
        if self.processes:
            found["pids.max"] = str(self.processes)
        if self.cpu_percent:
            found["cpu.max"] = f"{self.cpu_percent * _PERIOD // 100} {_PERIOD}"
        return found


class WorkerGroup:
    """The cgroup of one worker."""

    def __init__(self, place: Path, bounds: Bounds) -> None:
        self._place = place
        self._memory_mb = bounds.memory_mb
        self._why = ""
        place.mkdir()
        try:
            for name, text in bounds.files.items():
                (place / name).write_text(text)
            self._processes = os.open(place / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            place.rmdir()
            raise

    def enter(self) -> None:
        """Enter it; called by the child, which may open no file any more."""
        os.write(self._processes, b"0")

    def close(self) -> None:
        """Close what the child needs to enter it."""
        os.close(self._processes)

    @property
    def why(self) -> str:
        """Why the kernel has ended the worker; empty where it has not."""
        with contextlib.suppress(OSError):  # the cgroup is gone, after end() has asked
            events = dict(line.split() for line in (self._place / "memory.events").read_text().splitlines())
            if int(events.get("oom_kill", 0)):
                self._why = f"needed more memory, with what it had started, than the {self._memory_mb} MB of a worker"
        return self._why

    async def end(self, world: World) -> None:
        """Kill what is left in it, and remove it."""
        _ = self.why  # of the counts that go with it
        with contextlib.suppress(OSError):  # before Linux 5.14; what is left ends by other means there
            (self._place / "cgroup.kill").write_text("1")
        for _ in range(_LOOKS):
            try:
                return self._place.rmdir()
            except FileNotFoundError:
                return None
            except OSError:  # a killed process has not left it yet
                await world.sleep(_BETWEEN)


class WorkerGroups:
    """Makes cgroups below one that is this process's to divide."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._numbers = itertools.count(1)

    @classmethod
    def of_this_process(cls) -> WorkerGroups | None:
        """Return cgroups below this process's own; None where that is not delegated, or has other processes too. Call
        it before a child is started: this process moves into a part of its own."""
        try:
            place = own_cgroup(Path("/proc/self/cgroup").read_text())
            if place is None or os.getxattr(place, _DELEGATED) != b"1":
                return None
        except OSError:
            return None
        part = place / _AGENT
        try:
            part.mkdir(exist_ok=True)
            (part / "cgroup.procs").write_text(str(os.getpid()))
            (place / "cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in CONTROLLERS))
        except OSError:
            with contextlib.suppress(OSError):
                (place / "cgroup.procs").write_text(str(os.getpid()))
                part.rmdir()
            return None
        return cls(place)

    def make(self, bounds: Bounds) -> WorkerGroup:
        """Return a new cgroup with bounds. Raise OSError where the kernel refuses."""
        return WorkerGroup(self._place / f"worker-{next(self._numbers)}", bounds)


def own_cgroup(text: str) -> Path | None:
    """Return the directory of a process's cgroup by its ``/proc/PID/cgroup``; None where the machine has version 1."""
    lines = text.splitlines()
    if len(lines) != 1 or not lines[0].startswith("0::/"):
        return None
    return MOUNTED / lines[0].removeprefix("0::/")
