"""Starts what ``heliograph init`` has written, as systemd would: from its units and environment files alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from heliograph.bus.contract.topics import STATUS
from heliograph.client import AsyncClient
from heliograph.core.world import World
from heliograph.local.child import Child
from heliograph.local.nats_server import Broker, User, free_ports
from tests.patience import HANGS


def command_of(unit: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment of a unit."""
    settings = [line.partition("=")[::2] for line in unit.read_text().splitlines() if "=" in line]
    argv = next(value for name, value in settings if name == "ExecStart").replace("%%", "%").replace("$$", "$")
    environment: dict[str, str] = {}
    for name, value in settings:
        file = Path(value.removeprefix("-"))
        if name == "EnvironmentFile" and (file.exists() or not value.startswith("-")):
            environment |= dict(word.partition("=")[::2] for word in shlex.split(file.read_text()))
    return shlex.split(argv), environment


async def typed(*words: str, text: str = "", home: Path, variables: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Type a command on a machine whose user's state lies in ``home``; return its exit code and all that it prints."""
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "heliograph.cli.main", *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=os.environ | {"XDG_STATE_HOME": str(home)} | dict(variables or {}),
    )  # fmt: skip
    out, _ = await asyncio.wait_for(run.communicate(text.encode()), HANGS)
    return int(run.returncode or 0), out.decode()


@dataclass
class Started:
    """A cloud that ``init`` has made, and its processes."""

    directory: Path
    home: Path
    processes: dict[str, Child]

    @property
    def operator(self) -> Path:
        return self.directory / "users" / "operator" / "cluster.json"

    @property
    def as_operator(self) -> dict[str, str]:
        return {"HELIOGRAPH_SERVER": str(self.operator)}

    async def start(self, name: str) -> Child:
        """Start the unit of a component, again if it runs; return once it is ready."""
        child = await self.begin(name)
        if not name.startswith("broker"):
            await child.wait_ready(HANGS)
        return child

    async def begin(self, name: str) -> Child:
        """Start the unit of a component, again if it runs."""
        await self.stop(name)
        argv, environment = command_of(self.directory / "systemd" / f"heliograph-{name}.service")
        child = self.processes[name] = Child(name, argv, environment, self.home, World(), lambda line: None)
        await child.start()
        return child

    async def stop(self, name: str) -> None:
        if (child := self.processes.pop(name, None)) is not None:
            await child.stop()

    async def kill(self, name: str) -> None:
        """Kill a component's process by SIGKILL, unless it does not run."""
        if (child := self.processes.pop(name, None)) is not None and child.process is not None:
            child.process.kill()
            await child.process.wait()

    async def init(self, *options: str) -> tuple[int, str]:
        return await typed("init", str(self.directory), *options, home=self.home)

    @contextlib.asynccontextmanager
    async def edge(self, name: str, state: Path, *code: Path, cloud_url: str = "") -> AsyncIterator[Child]:
        """Run the agent of a node that has enrolled, with a broker for its devices, until the block ends. It may run
        what lies below ``code``, and reaches the cloud where it has enrolled, or by ``cloud_url``."""
        broker = Broker(state / "broker", "node", (User("agent", "a", "agent"), User("worker", "w", "worker")))
        await broker.start()
        argv = [sys.executable, "-m", "heliograph.cli.main", "agent", "--name", name, "--state", str(state),
                *(word for root in code for word in ("--code", str(root)))]  # fmt: skip
        variables = {"HELIOGRAPH_NODE": broker.url("agent", "mqtt"),
                     "HELIOGRAPH_WORKER_NODE": broker.url("worker", "mqtt")}  # fmt: skip
        if cloud_url:
            variables |= {"HELIOGRAPH_CLOUD": cloud_url,
                          "HELIOGRAPH_COORDINATOR_KEYS": str(state / "identity" / "cloud-keys.pem")}  # fmt: skip
        child = Child(f"agent {name}", argv, variables, self.home, World(), lambda line: None)
        try:
            await child.start()
            await child.wait_ready(HANGS)
            yield child
        finally:
            await child.stop()
            await broker.stop()

    async def enrolled(self, name: str, state: Path) -> None:
        """Invite a node by the operator's login, and enrol it."""
        code, token = await typed("edge", "invite", name, home=self.home, variables=self.as_operator)
        assert code == 0, token
        word = next(line for line in token.splitlines() if line.startswith("heliograph-invitation."))
        code, said = await typed("enroll", "-", "--state", str(state), text=word, home=state)
        assert code == 0, said

    async def online(self, client: AsyncClient, edge: str, wanted: bool = True) -> None:
        """Wait until an edge is online, or not."""
        async with (
            asyncio.timeout(HANGS),
            client.bus.subscribe(STATUS.at(resource="edges", name=edge)) as changes,
        ):
            while True:
                found = {each["metadata"]["name"]: each["status"]["online"] for each in await client.edges.list()}
                if found.get(edge, False) == wanted:
                    return
                await anext(changes)


@contextlib.asynccontextmanager
async def started(tmp_path: Path, *options: str) -> AsyncIterator[Started]:
    """Make a cloud at free ports with TLS, and start all that it consists of."""
    cloud = Started(tmp_path / "my cloud", tmp_path, {})
    port, mqtt_port = free_ports(2)
    code, said = await cloud.init("--tls-name", "localhost", "--port", str(port), "--mqtt-port", str(mqtt_port),
                                  *options)  # fmt: skip
    assert code == 0, said
    try:
        for name in ("broker", "coordinator", "cloud"):
            await cloud.start(name)
        yield cloud
    finally:
        for name in ("cloud", "coordinator", "broker"):
            await cloud.stop(name)
