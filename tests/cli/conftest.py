"""Runs of the command line, in this process or in a new one, and a cluster of one edge."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio

from heliograph.cli.main import main
from heliograph.core.child_process import dying_with_parent
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

SCRIPTS = {
    "train.py": """
import numpy as np
from heliograph import FederatedLearning
model = {"w": np.zeros(3, np.float32)}
for r in FederatedLearning(model, num_samples=4).rounds():
    print("hello from the script", flush=True)
    model["w"] += 1
    r.report(loss=0.5)
""",
    "bad.py": 'raise RuntimeError("no such luck")',
    "endless.py": """
import threading
print("never done", flush=True)
threading.Event().wait()
""",
}


@dataclass(frozen=True)
class Ran:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """Return the only error line, without its prefix."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), self.err
        return lines[0].removeprefix("error: ")


class CommandLine:
    """Runs of ``heliograph`` with only the environment that the test gives.

    Args:
        state: directory of the file that ``heliograph up`` writes.
        server: value of HELIOGRAPH_SERVER; empty to leave it unset.
    """

    def __init__(self, state: Path, server: str = "") -> None:
        self.state = state
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HELIOGRAPH_")}
        self._environment = kept | {"XDG_STATE_HOME": str(state), "NO_COLOR": "1", "COLUMNS": "80"}
        if server:
            self._environment["HELIOGRAPH_SERVER"] = server

    async def __call__(self, *words: str | Path, stdin: str = "", **environment: str) -> Ran:
        return await self.apart(*words, stdin=stdin, **environment)

    async def apart(self, *words: str | Path, stdin: str = "", **environment: str) -> Ran:
        """Run a command in a process of its own, as one does that handles signals."""
        process = await self.start(*words, **environment)
        async with asyncio.timeout(HANGS):
            out, err = await process.communicate(stdin.encode())
        return Ran(process.returncode or 0, out.decode(), err.decode())

    async def start(
        self, *words: str | Path, stdout: int = asyncio.subprocess.PIPE, **environment: str
    ) -> asyncio.subprocess.Process:
        """Start a command and return its running process."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "heliograph.cli.main", *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment | environment,
            preexec_fn=_as_at_a_terminal(),
        )


def _as_at_a_terminal() -> Callable[[], None]:
    """Return a function that restores Ctrl-C's handler: a shell starts background processes with SIGINT ignored."""
    die_with_parent = dying_with_parent()

    def before() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        die_with_parent()

    return before


async def line_with(stream: asyncio.StreamReader | None, words: str) -> str:
    """Wait for a line that contains ``words``; fail if the stream ends without it."""
    assert stream is not None
    seen = []
    async with asyncio.timeout(HANGS):
        async for raw in stream:
            seen.append(raw.decode().rstrip())
            if words in seen[-1]:
                return seen[-1]
    raise AssertionError(f"no line with {words!r} in\n" + "\n".join(seen))


@pytest.fixture
def read_until() -> Callable[..., Any]:
    """Return ``await read_until(process.stdout, words)``, which returns the first line that contains ``words``."""
    return line_with


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Return ``typed(*words, stdin="")``, which runs a command within this process, because that is faster."""

    def run(*words: str | Path, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "argv", ["heliograph", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, out, err)

    return run


class InProcess(CommandLine):
    """The command line with its environment within this process, in a thread: that is faster. ``start`` runs a process
    of its own."""

    def __init__(self, state: Path, server: str, typed: Callable[..., Ran]) -> None:
        super().__init__(state, server)
        self._typed = typed

    async def __call__(self, *words: str | Path, stdin: str = "", **environment: str) -> Ran:
        async with asyncio.timeout(HANGS):
            return await asyncio.to_thread(self._run, words, stdin, environment)

    def _run(self, words: tuple[str | Path, ...], stdin: str, environment: dict[str, str]) -> Ran:
        with patch.dict(os.environ, self._environment | environment, clear=True):
            return self._typed(*words, stdin=stdin)


@pytest.fixture
def alone(tmp_path: Path, typed: Callable[..., Ran]) -> InProcess:
    """Return the command line without a cluster."""
    return InProcess(tmp_path / "state", "", typed)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalCluster]:
    """Start a cluster of one edge with the scripts ``SCRIPTS``."""
    directory = tmp_path_factory.mktemp("cluster")
    code = directory / "code"
    code.mkdir()
    for name, text in SCRIPTS.items():
        (code / name).write_text(text)
    async with LocalCluster(directory, ["edge-1"], code=(code,)) as started:
        yield started


@pytest.fixture
def cli(cluster: LocalCluster, tmp_path: Path, typed: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Return the command line in the cluster."""
    monkeypatch.setenv("HELIOGRAPH_SERVER", cluster.server)
    return InProcess(tmp_path / "state", cluster.server, typed)


@pytest.fixture
def job() -> Callable[..., str]:
    """Return ``job(name, script)``, which makes a model and a task of it as JSON documents for stdin."""

    def make(name: str, script: str = "train.py", **spec: Any) -> str:
        worker = {"name": "w", "nodeName": "edge-1", "workerSpec": {"trainScriptBootFile": script}}
        task = {
            "kind": "FederatedTask",
            "metadata": {"name": name},
            "spec": {
                "aggregationWorker": {"model": {"name": f"of-{name}"}},
                "trainingWorkers": [worker],
                "rounds": 2,
            }
            | spec,
        }
        return json.dumps([{"kind": "Model", "metadata": {"name": f"of-{name}"}}, task])

    return make
