"""A peer's own virtual environment below ``build/``, and a fresh folder for each of its runs."""

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
"""Longest duration of an installation, in seconds."""
IDLE_AFTER = 3.0
"""Seconds after which a waiting participant has finished its start."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment with pinned requirements."""

    name: str
    requirements: tuple[str, ...]

    @property
    def venv(self) -> Path:
        return BUILD / f"{self.name}-venv"

    def prepare(self) -> None:
        """Install the requirements unless they are installed. Raises Unavailable with pip's last line."""
        installed, wanted = self.venv / "installed", "\n".join(self.requirements)
        if installed.exists() and installed.read_text() == wanted:
            return
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", self.venv], check=True, capture_output=True)
            pip: list[Path | str] = [self.venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *self.requirements], check=True, capture_output=True, timeout=INSTALLING)
        except subprocess.CalledProcessError as error:
            lines = error.stderr.decode(errors="replace").strip().splitlines() or ["pip gave no reason"]
            raise Unavailable(f"{self.requirements[0]} cannot be installed: {lines[-1]}") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"{self.requirements[0]} cannot be installed: {error}") from None
        installed.write_text(wanted)

    def new_run(self) -> PeerRun:
        """Return a run with an empty folder."""
        run = PeerRun(self.venv / "bin", BUILD / f"{self.name}-run")
        shutil.rmtree(run.folder, ignore_errors=True)
        run.folder.mkdir(parents=True)
        return run


@dataclass
class PeerRun:
    """One run of a peer. The measuring process ends the processes that it starts."""

    programs: Path
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """Return the file for the peer's result: as JSON, the times at which rounds closed (seconds), or an error."""
        return self.folder / "closed.json"

    def start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a program of the environment, with its helpers in PATH and its log in the folder."""
        path = f"{self.programs}:{os.environ.get('PATH', '')}"
        env = {**os.environ, "HOME": str(self.folder), "PATH": path, **self.environment}
        with (self.folder / f"{program}.log").open("ab") as log:
            return subprocess.Popen([self.programs / program, *arguments], env=env, cwd=self.folder,
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # fmt: skip

    def run(self, timeout: float, program: str, *arguments: str) -> None:
        """Start a program and wait for its end. Raises RuntimeError, and prints the end of all logs, if it fails."""
        child = self.start(program, *arguments)
        self.wait(lambda: child.poll() == 0, timeout, lambda: child.poll() is None)

    def wait(self, done: Callable[[], bool], timeout: float, alive: Callable[[], bool] = lambda: True) -> None:
        """Wait until ``done()``. Raises RuntimeError, and prints the end of all logs, if that does not happen."""
        try:
            wait_for(done, timeout, alive)
        except (RuntimeError, TimeoutError) as error:
            logs = "".join(f"\n{log.name}: {log.read_text()[-800:]}" for log in sorted(self.folder.glob("*.log")))
            print(logs, file=sys.stderr)
            raise RuntimeError(f"{self.folder.name}: {error}") from None

    def settle(self, seconds: float = IDLE_AFTER) -> None:
        """Wait until freshly started participants are idle."""
        time.sleep(seconds)

    def samples(self, watch: MemoryWatch, rounds: int, idle: int, timeout: float, alive: Callable[[], bool]) -> Samples:
        """Wait for the peer's file and return the samples of the rounds after the warm-up. Raises RuntimeError if the
        peer ends early, takes too long or writes an error."""
        self.wait(self.out.exists, timeout, alive)
        closed = json.loads(self.out.read_text())
        if isinstance(closed, str):
            raise RuntimeError(closed)
        return echo_samples(closed, rounds, watch, idle)


def echo_samples(closed: Sequence[float], rounds: int, watch: MemoryWatch, idle: int) -> Samples:
    """Return the samples of echo rounds, for us and the peers alike: milliseconds of each of the last ``rounds``, and
    memory in MB."""
    laps = [1000 * (after - before) for before, after in itertools.pairwise(closed)][-rounds:]
    memory = {"aggregating": watch.aggregating, "servers": watch.total, "idle": idle}
    return {"round": laps, **{key: [size / 1e6] for key, size in memory.items()}}


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
