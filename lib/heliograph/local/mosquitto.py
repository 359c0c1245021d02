"""A mosquitto process, if mosquitto is installed: the broker of a KubeEdge node."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path

from heliograph.bus.connection_url import is_loopback
from heliograph.core.child_process import dying_with_parent
from heliograph.core.errors import HeliographError
from heliograph.core.world import Process, World
from heliograph.local.broker_tls import BrokerTls, require_protected
from heliograph.local.nats_server import free_ports

START_TIMEOUT = 60.0
MAX_LOG = 500
"""Newest lines of its log that are kept."""


def find_mosquitto() -> Path:
    """Return the path of the program. Raise HeliographError if it is not installed."""
    found = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise HeliographError("mosquitto is not installed; install it with 'apt-get install mosquitto'")
    return Path(found)


@dataclass
class Mosquitto:
    """A mosquitto that accepts anonymous clients of its own machine; like ``Broker`` it keeps its port over restarts.

    Args:
        settings: further lines of its configuration; all other settings are mosquitto's defaults.
        host: address to listen at; one that other machines reach needs ``tls`` and a password file.
        tls: its certificate; None for clear text.
    """

    directory: Path
    settings: tuple[str, ...] = ()
    world: World = field(default_factory=World)
    port: int = field(default_factory=lambda: free_ports(1)[0])
    host: str = "127.0.0.1"
    tls: BrokerTls | None = None
    process: Process | None = None
    log: list[str] = field(default_factory=list)
    reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start mosquitto and return when it runs. Raise HeliographError with its log if it ends instead, Refused if
        other machines would reach it unprotected."""
        require_protected(self.host, self.tls, any(line.startswith("password_file ") for line in self.settings))
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "mosquitto.conf"
        anonymous = f"allow_anonymous {str(is_loopback(self.host)).lower()}"
        listener = [f"listener {self.port} {self.host}", *(self.tls.of_mosquitto() if self.tls else ())]
        lines = [*listener, anonymous, "log_dest stderr", *self.settings]
        config.write_text("\n".join(lines) + "\n")
        self.process = await self.world.spawn(
            [str(find_mosquitto()), "-c", str(config)],
            env=dict(os.environ),
            cwd=str(self.directory),
            before=dying_with_parent(),
        )
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT):
                line = b""
                while not line.rstrip().endswith(b" running"):
                    line = await self.process.stdout.readline()
                    if not line:
                        raise HeliographError("mosquitto ended:\n" + "\n".join(self.log[-8:]))
                    self.log.append(line.decode(errors="replace").rstrip())
        except TimeoutError:
            tail = "\n".join(self.log[-8:])
            raise HeliographError(f"mosquitto was not ready after {START_TIMEOUT:g} s:\n{tail}") from None
        self.reading = asyncio.create_task(self._drain(self.process.stdout))

    async def kill(self) -> None:
        """Kill the process by SIGKILL, as in a power failure."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        if self.reading is not None:
            await self.reading

    def reload(self) -> None:
        """Let the running mosquitto read its certificates again; its connections stay."""
        if self.process is not None and self.process.returncode is None:
            os.kill(self.process.pid, signal.SIGHUP)

    def url(self, user: str = "", scheme: str = "mqtt") -> str:
        return f"{scheme}://127.0.0.1:{self.port}"

    async def _drain(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self.log.append(line.decode(errors="replace").rstrip())
            del self.log[:-MAX_LOG]
