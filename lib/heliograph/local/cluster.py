"""A whole cluster as real processes on this machine: broker, coordinator, the agent ``cloud``, and edges, each with its
own broker and agent. ``up``, ``run``, the demo, the tests and the benchmarks all start this one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self, TextIO

from heliograph.core.child_process import die_with_parent
from heliograph.core.errors import HeliographError
from heliograph.core.names import CLOUD, require_label
from heliograph.core.world import Process, World
from heliograph.local.nats_server import SYSTEM_USER, Broker, User
from heliograph.local.relay import Relay
from heliograph.local.restarts import Supervision

COORDINATOR = "coordinator"
"""The name of the first coordinator."""
READY_TIMEOUT = 30.0
STOP_GRACE = 6.0


def _heliograph(name: str) -> Sequence[str]:
    return sys.executable, "-m", "heliograph.cli.main"


@dataclass
class Node:
    """One agent's place: its directory, its broker (the cloud's agent uses the cloud's), what it offers."""

    name: str
    directory: Path
    broker: Broker | None = None
    external_broker: str = ""
    datasets: Mapping[str, Path] = field(default_factory=dict)
    relay: Relay | None = None
    """What stands for its link to the cloud, where that can be cut."""
    child: Child | None = None


@dataclass
class Child:
    """A started process of ours and the lines it has printed.

    Attributes:
        ready: set once it has said that it is ready; not by a coordinator that stands by.
        said: set at each line; whoever waits for one clears it.
    """

    name: str
    argv: list[str]
    environment: dict[str, str]
    process: Process | None = None
    lines: list[str] = field(default_factory=list)
    reading: asyncio.Task[None] | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    said: asyncio.Event = field(default_factory=asyncio.Event)


class LocalCluster:
    """Starts and stops all of it. An async context manager; leaving it leaves no process.

    Args:
        directory: state of every component, kept from one start to the next.
        edges: names of the edges.
        datasets: for each node, the cloud's among them, what its agent offers.
        code: roots under which tasks' scripts may lie, each ``DIR`` or ``PREFIX=DIR``.
        edge_brokers: MQTT URLs of brokers that edges already have.
        relayed: edges whose links to the cloud go through a relay, ``nodes[name].relay``.
        guests: names of edges whose agents somebody else runs; ``agent_url`` is what they connect to.
        doors: external MQTT brokers in front of the coordinator.
        log: a file that gets what the processes print, a line each, with time and component before it.
        supervise: what ends by itself is started again, and a line about it is handed to this; without it, it stays
            ended.
        program: for a node's name or ``coordinator`` the words that run ``heliograph`` there.
    """

    def __init__(
        self,
        directory: Path,
        edges: list[str],
        *,
        datasets: Mapping[str, Mapping[str, Path]] | None = None,
        code: tuple[Path | str, ...] = (),
        data: tuple[Path, ...] = (),
        edge_brokers: Mapping[str, str] | None = None,
        relayed: tuple[str, ...] = (),
        guests: Sequence[str] = (),
        doors: tuple[str, ...] = (),
        world: World | None = None,
        log: Path | None = None,
        supervise: Callable[[str], None] | None = None,
        program: Callable[[str], Sequence[str]] = _heliograph,
    ) -> None:
        self.directory = directory.resolve()
        self.world = world or World()
        self._code = code
        self._data = data
        self._doors = doors
        self._log_path = log
        self._log: TextIO | None = None
        self._relayed = relayed
        self._program = program
        names = [CLOUD, *(require_label(name, "edge") for name in edges)]
        users = [User("coordinator", self._secret(), "coordinator"), User("operator", self._secret(), "operator"),
                 User("worker-cloud", self._secret(), "cloud-worker")]  # fmt: skip
        users += [User(f"agent-{name}", self._secret(), "agent", name) for name in (*names, *guests)]
        self.broker = Broker(self.directory / "broker", "cloud", tuple(users), name="cloud", world=self.world)
        self.nodes = {name: self._node(name, dict(datasets or {}), dict(edge_brokers or {})) for name in names}
        self._coordinators: dict[str, Child] = {}
        self._supervision = Supervision(self.world, supervise) if supervise is not None else None

    @property
    def server(self) -> str:
        """The NATS address with the operator's credentials."""
        return self.broker.url("operator")

    @property
    def door(self) -> str:
        """The MQTT door, for anyone."""
        return self.broker.url(scheme="mqtt")

    def agent_url(self, edge: str) -> str:
        """The NATS address with the credentials of an edge's agent."""
        return self.broker.url(f"agent-{edge}")

    @property
    def edges(self) -> list[str]:
        return [name for name in self.nodes if name != CLOUD]

    async def start(self) -> None:
        """Starts everything and returns when it is ready. Raises HeliographError with the last lines of what is not."""
        if self._log_path is not None and self._log is None:
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            self._log = self._log_path.open("w", buffering=1)
        await asyncio.gather(self.broker.start(), *(node.broker.start() for node in self.nodes.values() if node.broker))
        for name in self._relayed:
            relay = self.nodes[name].relay = Relay(self.broker.host, self.broker.port, self.world)
            await relay.start()
        await self.start_coordinator()
        await asyncio.gather(*(self.start_agent(name) for name in self.nodes))
        await self.wait_ready()
        if self._supervision is not None:
            for broker in (self.broker, *(node.broker for node in self.nodes.values())):
                if broker is not None:
                    self._supervision.watch(f"broker {broker.name}", partial(_process_of, broker), broker.start)
            for child in (*self._coordinators.values(), *(node.child for node in self.nodes.values())):
                if child is not None:
                    self._supervision.watch(child.name, partial(_process_of, child), partial(self._spawn, child))

    async def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Returns when a coordinator leads and the agents have said that they are ready."""
        leading = [child for child in self._coordinators.values() if child.ready.is_set()]
        for child in (leading or [*self._coordinators.values()][:1]) + [node.child for node in self.nodes.values()]:
            if child is None:
                continue
            try:
                async with asyncio.timeout(timeout):
                    await child.ready.wait()
            except TimeoutError:
                tail = "\n".join(child.lines[-8:])
                raise HeliographError(f"{child.name} was not ready after {timeout:g} s:\n{tail}") from None

    async def wait_said(self, name: str, words: str, timeout: float = READY_TIMEOUT, times: int = 1) -> str:
        """The first line that holds ``words``, or the one that does so for the given time, of what a coordinator or an
        agent has printed since it was started."""
        child = self._child(name)
        try:
            async with asyncio.timeout(timeout):
                while len(found := [line for line in child.lines if words in line]) < times:
                    child.said.clear()
                    await child.said.wait()
        except TimeoutError:
            tail = "\n".join(child.lines[-8:])
            raise HeliographError(f"{child.name} did not say {words!r} in {timeout:g} s:\n{tail}") from None
        return found[times - 1]

    async def start_coordinator(self, name: str = COORDINATOR) -> None:
        """Starts a coordinator; where another leads it stands by."""
        environment = {
            "HELIOGRAPH_NAME": name,
            "HELIOGRAPH_NATS": self.broker.url("coordinator"),
            "HELIOGRAPH_SYSTEM": self.broker.url(SYSTEM_USER),
            "HELIOGRAPH_STATUS": self.broker.url("coordinator", "mqtt"),
            "HELIOGRAPH_DOORS": " ".join(self._doors),
        }
        argv = [*self._program("coordinator"), "coordinator"]
        self._coordinators[name] = Child(name, argv, environment)
        await self._spawn(self._coordinators[name])

    async def start_agent(self, name: str) -> None:
        node = self.nodes[name]
        cloud = self.broker.url(f"agent-{name}")
        if node.relay is not None:
            cloud = cloud.replace(f"{self.broker.host}:{self.broker.port}", f"{node.relay.host}:{node.relay.port}")
        threads = max(1, (os.cpu_count() or 1) // max(1, len(self.edges)))
        environment = {"HELIOGRAPH_CLOUD": cloud}
        if "OMP_NUM_THREADS" not in os.environ:  # the edges share this machine's cores; each would take them all
            environment["OMP_NUM_THREADS"] = str(threads)
        if name == CLOUD:
            environment |= {"HELIOGRAPH_NODE": cloud, "HELIOGRAPH_WORKER_NODE": self.broker.url("worker-cloud")}
        elif node.broker is not None:
            environment |= {
                "HELIOGRAPH_NODE": node.broker.url("agent", "mqtt"),
                "HELIOGRAPH_WORKER_NODE": node.broker.url("worker", "mqtt"),
            }
        else:
            environment |= {"HELIOGRAPH_NODE": node.external_broker}
        argv = [*self._program(name), "agent", "--name", name, "--state", str(node.directory / "state")]
        for root in self._code:
            argv += ["--code", str(root)]
        for root in self._data:
            argv += ["--data", str(root)]
        for dataset, path in node.datasets.items():
            argv += ["--dataset", f"{dataset}={path}"]
        node.child = Child(f"agent {name}", argv, environment)
        await self._spawn(node.child)

    async def kill(self, name: str) -> None:
        """SIGKILL to a coordinator or to a node's agent; the agent's workers die with it."""
        process = _process_of(self._child(name))
        if process.returncode is None:
            process.kill()
            await process.wait()

    async def ended(self, name: str) -> None:
        """Returns when a coordinator or an agent has ended by itself."""
        await _process_of(self._child(name)).wait()

    def exit_code(self, name: str) -> int | None:
        """With what a coordinator or a node's agent ended; None while it runs."""
        return _process_of(self._child(name)).returncode

    def pid(self, name: str) -> int:
        return _process_of(self._child(name)).pid

    async def stop(self) -> None:
        if self._supervision is not None:
            await self._supervision.end()
        children = [*(node.child for node in self.nodes.values()), *self._coordinators.values()]
        await asyncio.gather(*(_end(child) for child in children if child is not None))
        await asyncio.gather(*(node.relay.stop() for node in self.nodes.values() if node.relay))
        await asyncio.gather(*(node.broker.stop() for node in self.nodes.values() if node.broker), self.broker.stop())
        if self._log is not None:
            self._log.close()
            self._log = None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _child(self, name: str) -> Child:
        child = self._coordinators[name] if name in self._coordinators else self.nodes[name].child
        assert child is not None
        return child

    async def _spawn(self, child: Child) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HELIOGRAPH_")}
        child.ready.clear()
        child.process = await self.world.spawn(
            child.argv,
            env=environment | child.environment | {"PYTHONUNBUFFERED": "1"},
            cwd=str(self.directory),
            before=die_with_parent,
        )
        child.reading = asyncio.create_task(self._read(child))

    async def _read(self, child: Child) -> None:
        assert child.process is not None and child.process.stdout is not None
        async for raw in child.process.stdout:
            line = raw.decode(errors="replace").rstrip()
            child.lines.append(line)
            del child.lines[:-500]
            if line.endswith("is ready"):
                child.ready.set()
            elif line.startswith("coordinator stands by"):
                child.ready.clear()
            child.said.set()
            if self._log is not None:
                print(f"{self.world.timestamp()} {child.name}: {line}", file=self._log)

    def _node(self, name: str, datasets: Mapping[str, Mapping[str, Path]], external: Mapping[str, str]) -> Node:
        directory = self.directory / name
        node = Node(name, directory, external_broker=external.get(name, ""), datasets=datasets.get(name, {}))
        if name != CLOUD and not node.external_broker:
            users = (User("agent", self._secret(), "agent"), User("worker", self._secret(), "worker"))
            node.broker = Broker(directory / "broker", "node", users, name=name, world=self.world)
        return node

    def _secret(self) -> str:
        return self.world.new_secret().hex()[:32]


def _process_of(started: Child | Broker) -> Process:
    assert started.process is not None
    return started.process


async def _end(child: Child) -> None:
    if child.process is None:
        return
    if child.process.returncode is None:
        child.process.terminate()
        try:
            await asyncio.wait_for(child.process.wait(), STOP_GRACE)
        except TimeoutError:
            os.killpg(child.process.pid, signal.SIGKILL)
            await child.process.wait()
    if child.reading is not None:
        await child.reading
