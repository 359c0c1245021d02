"""The entry of a worker's pod: ``python -m heliograph.workers.pod [SCRIPT]``. It runs the worker that its node's agent
hands over, and hands back the lines that it prints and its end. SCRIPT is the worker's script in the image.

The entry outlives the worker: the agent decides whether it is started again. Without its agent no worker runs, and the
entry waits for the next one. A signal alone ends it, and never with exit code 0, by which its Job would count as done.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from heliograph import __version__
from heliograph.core import orphans
from heliograph.core.child_process import SAFE_PATH, dying_with_parent
from heliograph.core.errors import Refused
from heliograph.core.pod_channel import (
    DIRECTORY_VARIABLE,
    IDENTITY_VARIABLE,
    MAX_LINE,
    PROTOCOL,
    SECRET,
    Unpacker,
    packed,
    socket_path,
)
from heliograph.core.text import say_line

SECRET_FILE = "HELIOGRAPH_SECRET_FILE"
CODE = "HELIOGRAPH_CODE"
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds before the entry looks for its agent again: an agent that is away sends nobody a word of its return."""
SEND_WITHIN = 60.0
"""Seconds after which an agent that takes no line counts as away."""
MAX_REST = 4 << 20
"""Bytes that are read of an ended worker's output, at most: a pipe holds less."""
_MODULE = re.compile(r"heliograph\.workers\.[a-z_]+(\.[a-z_]+)?")
_ENDED = 128 + signal.SIGTERM


def main(argv: list[str], environment: Mapping[str, str] = os.environ) -> int:
    """Run workers until a signal comes. Return the exit code."""
    try:
        directory, identity = Path(environment[DIRECTORY_VARIABLE]), environment[IDENTITY_VARIABLE]
    except KeyError as missing:
        say_line(f"error: {missing.args[0]} is not set: this is the entry of a pod that heliograph's operator makes")
        return 2
    Entry(directory, identity, Path(argv[1]) if len(argv) > 1 else None).run()
    return _ENDED


class Entry:
    """Runs the workers of one pod, one at a time.

    Args:
        directory: the worker's directory, which the agent sees too.
        identity: that of the pod.
        script: the worker's script in the image.
    """

    def __init__(self, directory: Path, identity: str, script: Path | None) -> None:
        self._directory = directory
        self._identity = identity
        self._script = script
        self._worker: _Worker | None = None
        self._stopping = False
        self._agent: socket.socket | None = None
        self._said = ""

    def run(self) -> None:
        """Run workers until SIGTERM or SIGINT comes."""
        self._woken, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._on_signal)
        pause = FIRST_PAUSE
        while not self._stopping:
            if self._meet_agent():
                pause = FIRST_PAUSE
            elif not self._stopping:
                select.select([self._woken], [], [], pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        if self._worker is not None:
            self._worker.signal(signal.SIGTERM)

    def _meet_agent(self) -> bool:
        """Serve an agent until it goes. Return whether it handed over a worker."""
        launched = False
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(SEND_WITHIN)
            with socket_path(self._directory) as path:
                agent.connect(path)
            self._agent = agent
            self._send({"hello": {"protocol": PROTOCOL, "version": __version__, "pod": self._identity}})
            try:
                for message in self._messages(agent):
                    launched |= self._take(message)
            except Refused as error:
                self._say_once(f"error: the agent's message: {error}")
            finally:
                if self._worker is not None:
                    self._worker.end()
                    self._worker = None
        return launched

    def _messages(self, agent: socket.socket) -> Iterator[dict[str, Any]]:
        """Yield the agent's messages, and send what the worker prints, until the agent goes, or the worker has ended
        after a signal."""
        unpacker = Unpacker()
        while not self._stopping or self._worker is not None:
            worker = self._worker
            ready, _, _ = select.select([agent, self._woken, *(worker.watched if worker is not None else ())], [], [])
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 512)
            if worker is not None and worker.pidfd in ready:
                self._conclude(worker)
            elif worker is not None and worker.output in ready:
                for line in worker.lines():
                    self._print(line)
            if agent in ready:
                if not (data := agent.recv(65536)):
                    return
                yield from unpacker.feed(data)

    def _take(self, message: dict[str, Any]) -> bool:
        """Obey the agent. Return whether it handed over a worker."""
        if (asked := message.get("signal")) in ("terminate", "kill") and self._worker is not None:
            self._worker.signal(signal.SIGTERM if asked == "terminate" else signal.SIGKILL)
        if isinstance(why := message.get("refused"), str):
            self._say_once(f"the node's agent does not take this pod: {why[:1000]}")
        launch = message.get("launch")
        if not isinstance(launch, dict) or self._worker is not None or self._stopping:
            return False
        try:
            self._worker = _Worker(*self._prepared(launch))
        except (OSError, Refused, subprocess.SubprocessError) as error:
            self._print(f"error: the worker cannot be started in its pod: {error}")
            self._send({"exit": 1})
        return True

    def _prepared(self, launch: dict[str, Any]) -> tuple[str, str, dict[str, str], bytes]:
        """Return module, working directory, variables and secret of a launch. Raise Refused, or OSError."""
        module, place, given = launch.get("module"), launch.get("directory"), launch.get("environment")
        if not isinstance(module, str) or _MODULE.fullmatch(module) is None:
            raise Refused("invalid", field="module", expected="a module of heliograph.workers", got=module)
        inside = isinstance(place, str) and Path(place).resolve().is_relative_to(self._directory.resolve())
        if not isinstance(place, str) or not inside:
            raise Refused("invalid", field="directory", expected=f"one in {self._directory}", got=place)
        if not isinstance(given, dict) or not all(isinstance(each, str) for each in given.values()):
            raise Refused("invalid", field="environment", expected="texts by name", got=type(given).__name__)
        variables = {**os.environ, **given}
        if self._script is not None:
            code = [*json.loads(variables.get(CODE, "[]")), str(self._script.resolve().parent)]
            variables[CODE] = json.dumps(code)
        file = self._directory / SECRET
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as content:
            secret = content.read(4096)
        file.unlink(missing_ok=True)
        return module, place, variables, secret

    def _conclude(self, worker: _Worker) -> None:
        for line in worker.end():
            self._print(line)
        self._worker = None
        self._send({"exit": worker.code})

    def _print(self, line: str) -> None:
        say_line(line)  # also for kubectl logs
        self._send({"line": line})

    def _send(self, message: dict[str, Any]) -> None:
        if self._agent is not None:
            self._agent.sendall(packed(message))

    def _say_once(self, line: str) -> None:
        if line != self._said:
            self._said = line
            say_line(line)


class _Worker:
    """A worker's process, with all that it starts in a session of its own."""

    def __init__(self, module: str, directory: str, variables: dict[str, str], secret: bytes) -> None:
        self._launch = f"pod-{os.getpid()}-{os.urandom(8).hex()}/1"
        reading, writing = os.pipe()
        try:
            os.write(writing, secret)
            os.close(writing)
            own = {SECRET_FILE: f"/dev/fd/{reading}", "PYTHONUNBUFFERED": "1", orphans.VARIABLE: self._launch}
            self._process = subprocess.Popen(
                [sys.executable, *SAFE_PATH, "-m", module], env=variables | own, cwd=directory,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(reading,),
                start_new_session=True, preexec_fn=dying_with_parent(signal.SIGKILL),
            )  # fmt: skip
        finally:
            os.close(reading)
        assert self._process.stdout is not None
        self.output = self._process.stdout.fileno()
        os.set_blocking(self.output, False)
        self.pidfd = os.pidfd_open(self._process.pid)
        self.code = 0
        self._partial = bytearray()
        self._closed = False

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    @property
    def watched(self) -> list[int]:
        """The descriptors that are readable once it has printed something, or has ended."""
        return [self.pidfd] if self._closed else [self.pidfd, self.output]

    def lines(self) -> list[str]:
        """Return the lines that are there now; one that is longer than ``MAX_LINE`` comes in parts."""
        self._read()
        *whole, rest = bytes(self._partial).split(b"\n")
        if len(rest) >= MAX_LINE:
            whole, rest = [*whole, rest], b""
        self._partial = bytearray(rest)
        return [_shown(line) for line in whole]

    def end(self) -> list[str]:
        """End the worker and all that it has started, and return the rest of its lines. ``code`` is its exit code."""
        self.signal(signal.SIGKILL)  # nothing happens where it has ended
        self.code = self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        orphans.end_launched(self._launch)
        while len(self._partial) < MAX_REST and self._read():
            pass
        os.close(self.pidfd)
        assert self._process.stdout is not None
        self._process.stdout.close()
        _reap()
        rest = bytes(self._partial).rstrip(b"\n")
        return [_shown(line) for line in rest.split(b"\n")] if rest else []

    def _read(self) -> bool:
        """Read once. Return False where there is nothing now."""
        try:
            data = os.read(self.output, MAX_LINE)
        except BlockingIOError:
            return False
        self._closed = not data
        self._partial += data
        return bool(data)


def _shown(line: bytes) -> str:
    """Return a line as a terminal shows it: a progress bar overwrites its line."""
    return line.decode(errors="replace").rstrip("\r").rpartition("\r")[2][:MAX_LINE]


def _reap() -> None:
    """Take the ends of processes whose parents are gone, where this is a container's first process."""
    if os.getpid() == 1:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


if __name__ == "__main__":
    sys.exit(main(sys.argv))
