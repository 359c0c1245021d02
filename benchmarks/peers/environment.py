"""A peer's own virtual environment below ``build/``, and a folder in which one run of it leaves all it writes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.declaration import Samples, Unavailable
from benchmarks.processes import MemoryWatch, wait_for

BUILD = Path("build", "peers").absolute()
INSTALLING = 600.0
"""Seconds that an installation may take."""
IDLE_AFTER = 3.0
"""Seconds after which a participant that waits has done what it does at its start."""


@dataclass(frozen=True)
class Environment:
    """What is installed: requirements with their versions pinned."""

    name: str
    requirements: tuple[str, ...]

    @property
    def venv(self) -> Path:
        return BUILD / f"{self.name}-venv"

    def prepare(self) -> None:
        """Installs it unless it is there. Raises Unavailable with pip's last word."""
        installed, wanted = self.venv / "installed", "\n".join(self.requirements)
        if installed.exists() and installed.read_text() == wanted:
            return
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", self.venv], check=True, capture_output=True)
            pip: list[Path | str] = [self.venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *self.requirements], check=True, capture_output=True, timeout=INSTALLING)
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines() or ["without a word"]
            raise Unavailable(f"{self.requirements[0]} can not be installed: {said[-1]}") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"{self.requirements[0]} can not be installed: {error}") from None
        installed.write_text(wanted)

    def place(self) -> Place:
        """An empty folder for one run."""
        place = Place(self.venv / "bin", BUILD / f"{self.name}-run")
        shutil.rmtree(place.folder, ignore_errors=True)
        place.folder.mkdir(parents=True)
        return place


@dataclass
class Place:
    """One run of a peer. What it starts is ended by the process that measures."""

    programs: Path
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """Where the peer's own code writes, as JSON, when its rounds closed (in seconds), or what went wrong."""
        return self.folder / "closed.json"

    def start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts a program of the environment, which finds its own helpers by PATH; its log goes to the folder."""
        path = f"{self.programs}:{os.environ.get('PATH', '')}"
        env = {**os.environ, "HOME": str(self.folder), "PATH": path, **self.environment}
        with (self.folder / f"{program}.log").open("ab") as log:
            return subprocess.Popen([self.programs / program, *arguments], env=env, cwd=self.folder,
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # fmt: skip

    def run(self, timeout: float, program: str, *arguments: str) -> None:
        """Starts a program and waits for its end. Raises RuntimeError with the end of all logs where it fails."""
        child = self.start(program, *arguments)
        self.wait(lambda: child.poll() == 0, timeout, lambda: child.poll() is None)

    def wait(self, done: Callable[[], bool], timeout: float, alive: Callable[[], bool] = lambda: True) -> None:
        """Waits until ``done()``. Raises RuntimeError with the end of all logs where that does not come."""
        try:
            wait_for(done, timeout, alive)
        except (RuntimeError, TimeoutError) as error:
            logs = "".join(f"\n{log.name}: {log.read_text()[-800:]}" for log in sorted(self.folder.glob("*.log")))
            print(logs, file=sys.stderr)
            raise RuntimeError(f"{self.folder.name}: {error}") from None

    def settle(self, seconds: float = IDLE_AFTER) -> None:
        """Gives participants that have just started the time to become idle."""
        time.sleep(seconds)

    def samples(self, watch: MemoryWatch, rounds: int, idle: int, timeout: float, alive: Callable[[], bool]) -> Samples:
        """Waits for what the peer's code writes, and counts the rounds after the warm-up. Raises RuntimeError."""
        self.wait(self.out.exists, timeout, alive)
        closed = json.loads(self.out.read_text())
        if isinstance(closed, str):
            raise RuntimeError(closed)
        return echo_samples(closed, rounds, watch, idle)


def echo_samples(closed: Sequence[float], rounds: int, watch: MemoryWatch, idle: int) -> Samples:
    """Samples of echo rounds, ours and the peers' alike: milliseconds of each round, the last ``rounds``, and MB."""
    laps = [1000 * (after - before) for before, after in itertools.pairwise(closed)][-rounds:]
    memory = {"aggregating": watch.aggregating, "servers": watch.total, "idle": idle}
    return {"round": laps, **{key: [held / 1e6] for key, held in memory.items()}}


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
