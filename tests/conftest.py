"""Brokers to test against: the embedded one and mosquitto, each on free ports, each ended with its test."""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

from heliograph.bus.broker import Broker, User, die_with_parent, find_nats_server, free_ports
from heliograph.bus.permissions import Place
from heliograph.bus.topics import DEFAULT_ROOT

USERS = (
    User("coordinator", "of-coordinator", "coordinator"),
    User("operator", "of-operator", "operator"),
    User("agent-edge-1", "of-edge-1", "agent", "edge-1"),
    User("agent-edge-2", "of-edge-2", "agent", "edge-2"),
    User("worker", "of-worker", "worker"),
    User("cloud-worker", "of-cloud-worker", "cloud-worker"),
)
"""A login for each role, and an agent for each of two edges."""


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Broker]]]:
    """``await broker(place="cloud", users=..., root=...)``: a started embedded broker with ``USERS``."""
    find_nats_server()
    started: list[Broker] = []

    async def start(place: Place = "cloud", users: Iterable[User] = USERS, root: str = DEFAULT_ROOT) -> Broker:
        one = Broker(tmp_path / f"broker-{len(started)}", place, tuple(users), root=root)
        started.append(one)
        await one.start()
        return one

    yield start
    for each in started:
        await each.kill()


@dataclass
class Mosquitto:
    """One mosquitto process; like ``Broker`` it keeps its port over restarts."""

    directory: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: asyncio.subprocess.Process | None = None
    log: list[str] = field(default_factory=list)
    reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} 127.0.0.1\n"
            "allow_anonymous true\n"
            "set_tcp_nodelay true\n"
            "persistence false\n"
            "log_dest stderr\n"
        )
        self.process = await asyncio.create_subprocess_exec(
            find_mosquitto(),
            "-c",
            str(config),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        assert self.process.stderr is not None
        async with asyncio.timeout(10):
            while not self.log or not self.log[-1].endswith(" running"):
                line = await self.process.stderr.readline()
                assert line, "mosquitto ended:\n" + "\n".join(self.log)
                self.log.append(line.decode().rstrip())
        self.reading = asyncio.create_task(self._drain(self.process.stderr))

    async def _drain(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self.log.append(line.decode().rstrip())

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        if self.reading is not None:
            await self.reading

    def url(self, user: str = "", scheme: str = "mqtt") -> str:
        return f"{scheme}://127.0.0.1:{self.port}"


def find_mosquitto() -> str:
    """The program; skips the test where there is none, fails it where there has to be one."""
    found = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        reason = "mosquitto is not installed"
        if os.environ.get("HELIOGRAPH_REQUIRE_MOSQUITTO") == "1":
            pytest.fail(f"{reason}, and HELIOGRAPH_REQUIRE_MOSQUITTO=1 says that it must be")
        pytest.skip(reason)
    return found


@pytest.fixture
def framework() -> Callable[[str], ModuleType]:
    """``framework("torch")``: the module; skips the test where it is not installed, fails it where it has to be."""

    def find(name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as missing:
            if missing.name != name:
                raise
        reason = f"{name} is not installed"
        if os.environ.get("HELIOGRAPH_REQUIRE_FRAMEWORKS") == "1":
            pytest.fail(f"{reason}, and HELIOGRAPH_REQUIRE_FRAMEWORKS=1 says that it must be")
        pytest.skip(f"{reason}; make test-frameworks installs it and runs this test")

    return find


@pytest.fixture
async def mosquitto(tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[Mosquitto]]]:
    """``await mosquitto()``: a started mosquitto that lets anyone in; skips where mosquitto is not installed."""
    started: list[Mosquitto] = []

    async def start() -> Mosquitto:
        one = Mosquitto(tmp_path / f"mosquitto-{len(started)}")
        started.append(one)
        await one.start()
        return one

    yield start
    for each in started:
        await each.kill()
