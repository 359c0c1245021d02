"""A cluster of real processes on this machine: broker, coordinator, the agent ``cloud``, and edges with their own
brokers and agents. ``up``, ``run``, the demo, the tests and the benchmarks start it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self, TextIO

from heliograph.bus.connect import connect
from heliograph.bus.contract.permissions import participant_login, participant_of
from heliograph.core.child_process import SAFE_PATH
from heliograph.core.cores import usable_cores
from heliograph.core.errors import Refused, first_error
from heliograph.core.names import CLOUD, require_label
from heliograph.core.private_files import make_private
from heliograph.core.signing import Signer
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import Process, World
from heliograph.edge_agent.datasets.csv_look import Header
from heliograph.local import disk_room
from heliograph.local.child import Child
from heliograph.local.disk_watch import DiskWatch
from heliograph.local.mosquitto import Mosquitto
from heliograph.local.mosquitto_door import MosquittoDoor
from heliograph.local.nats_server import PING_MILLISECONDS, SYSTEM_USER, Broker, User
from heliograph.local.relay import Relay
from heliograph.local.restarts import Supervision
from heliograph.local.roots import resolved_directory, resolved_root

COORDINATOR = "coordinator"
"""Name of the first coordinator."""
OPERATOR = "operator"
"""Login of whoever runs the cluster."""
_RESERVED = ("anonymous", COORDINATOR, SYSTEM_USER, "worker-cloud")
READY_TIMEOUT = 120.0
WORKER_NICE = 5
"""Niceness of the edges' workers: broker, coordinator and agents answer while all of them train."""


def _heliograph(name: str) -> Sequence[str]:
    return sys.executable, *SAFE_PATH, "-m", "heliograph.cli.main"


@dataclass
class Node:
    """The node of one agent: its directory, its broker (the cloud's agent uses the cloud's) and its data sets."""

    name: str
    directory: Path
    broker: Broker | None = None
    external_broker: str = ""
    datasets: Mapping[str, Path] = field(default_factory=dict)
    relay: Relay | None = None
    """The relay on the node's link to the cloud, if the link can be cut."""
    child: Child | None = None


class LocalCluster:
    """An async context manager that starts the cluster's processes, and stops them all on exit.

    Args:
        directory: directory of every component's state, kept from one start to the next.
        edges: names of the edges.
        datasets: data sets that each node's agent offers, by the node's name (``cloud`` among them): name to path.
        headers: by the name of a data set, whether the first line of its csv names the columns; else its cells decide.
        code: roots of the scripts that tasks may run, each ``DIR`` or ``PREFIX=DIR``; relative ones lie below this
            process's working directory.
        data: roots of the files that data sets may name, likewise.
        edge_brokers: MQTT URLs of existing brokers, by the edge's name.
        relayed: edges whose links to the cloud go through a relay, ``nodes[name].relay``.
        guests: names of edges whose agents run elsewhere; they connect to ``agent_url``.
        doors: URLs of external MQTT brokers in front of the coordinator.
        mosquitto: whether to start a mosquitto as another door, for MQTT 5; see ``MosquittoDoor``.
        logins: tokens by name: those of users who may log in beside ``operator``, and the operator's if it is given.
        participants: tokens by name of those who train by themselves; each logs in as ``participant-<name>``.
        websocket, websocket_origins: see ``Broker``; for the cloud's broker alone.
        outputs: directory below which each node's agent keeps, under the node's name, what the scripts write; by
            default each agent keeps it in its state.
        log: file for the lines that the processes print, each preceded by time and component.
        supervise: called with a line about each process that ends by itself and is started again, and about a disk that
            runs full; without it such a process stays ended.
        node_memory, node_gpus: megabytes and GPUs that each edge has for workers that ask for some; by default each
            has all of this machine's.
        program: function from a node's name, or ``coordinator``, to the command that runs ``heliograph`` there.
    """

    def __init__(
        self,
        directory: Path,
        edges: list[str],
        *,
        datasets: Mapping[str, Mapping[str, Path]] | None = None,
        headers: Mapping[str, Header] | None = None,
        code: tuple[Path | str, ...] = (),
        data: tuple[Path, ...] = (),
        edge_brokers: Mapping[str, str] | None = None,
        relayed: tuple[str, ...] = (),
        guests: Sequence[str] = (),
        doors: tuple[str, ...] = (),
        mosquitto: bool = False,
        logins: Mapping[str, str] | None = None,
        participants: Mapping[str, str] | None = None,
        websocket: bool = False,
        websocket_origins: tuple[str, ...] = (),
        world: World | None = None,
        outputs: Path | None = None,
        log: Path | None = None,
        supervise: Callable[[str], None] | None = None,
        node_memory: int | None = None,
        node_gpus: int | None = None,
        program: Callable[[str], Sequence[str]] = _heliograph,
    ) -> None:
        self.directory = directory.resolve()
        self.world = world or World()
        self._starts = self.directory / "starts"
        self.allowed_packages = self.directory / "allowed-packages"
        """File of digests: the packages of code that every node of the cluster may run."""
        self._signing_key, self._model_keys = self.directory / "signing-key.pem", self.directory / "model-keys.pem"
        self._model_keys_made: asyncio.Future[None] | None = None
        self._patience = patience_for(len(edges), usable_cores())
        self._ping_interval = f"{round(PING_MILLISECONDS * self._patience)}ms"
        self._code = tuple(resolved_root(root) for root in code)
        self._headers = headers or {}
        self._data = tuple(resolved_directory(Path(root), "data") for root in data)
        self._doors = doors
        self._outputs = outputs
        self._log_path = log
        self._log: TextIO | None = None
        self._relayed = relayed
        has = (("--memory-mb", node_memory), ("--gpus", node_gpus))
        self._node_has = [word for option, number in has if number is not None for word in (option, str(number))]
        self._program = program
        names = [CLOUD, *(require_label(name, "edge") for name in edges)]
        tokens = {OPERATOR: self._secret(), **(logins or {})}
        for name in tokens:
            check_user(name, (*names, *guests))
        users = [User("coordinator", self._secret(), "coordinator"), User(OPERATOR, tokens.pop(OPERATOR), "operator"),
                 User("worker-cloud", self._secret(), "cloud-worker")]  # fmt: skip
        users += [User(name, token, "user") for name, token in tokens.items()]
        for name, token in (participants or {}).items():
            check_participant(name, (*names, *guests))
            users.append(User(participant_login(name), token, "participant", name))
        users += [User(f"agent-{name}", self._secret(), "agent", name) for name in (*names, *guests)]
        self.broker = Broker(
            self.directory / "broker", "cloud", tuple(users), name="cloud", world=self.world, websocket=websocket,
            websocket_origins=websocket_origins, ping_interval=self._ping_interval,
        )  # fmt: skip
        self.mosquitto = MosquittoDoor(self.directory / "door", users, self.world) if mosquitto else None
        self.nodes = {name: self._node(name, dict(datasets or {}), dict(edge_brokers or {})) for name in names}
        self._coordinators: dict[str, Child] = {}
        self._supervision = Supervision(self.world, supervise) if supervise is not None else None
        self._watching_disk: asyncio.Task[None] | None = None

    @property
    def server(self) -> str:
        """The NATS URL with the operator's credentials."""
        return self.broker.url(OPERATOR)

    @property
    def door(self) -> str:
        """The URL of the MQTT door with the operator's credentials."""
        return self.door_of(OPERATOR)

    def door_of(self, user: str = "") -> str:
        """Return the URL of the MQTT door with a user's credentials: mosquitto's, if it is started."""
        return self.broker.url(user, "mqtt") if self.mosquitto is None else self.mosquitto.url(user)

    def agent_url(self, edge: str) -> str:
        """Return the NATS URL with the credentials of an edge's agent."""
        return self.broker.url(f"agent-{edge}")

    @property
    def edges(self) -> list[str]:
        return [name for name in self.nodes if name != CLOUD]

    @property
    def node_brokers(self) -> dict[str, Broker]:
        """The brokers of the edges' nodes by name, without existing ones that the cluster only uses."""
        return {name: node.broker for name, node in self.nodes.items() if node.broker is not None}

    async def start(self) -> None:
        """Start all processes and return when they are ready.

        Raise HeliographError with the last lines of a process that is not.
        """
        if self._log_path is not None and self._log is None:
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            self._log_path.touch(mode=0o600)
            self._log_path.chmod(0o600)  # one that an earlier release has left
            self._log = self._log_path.open("w", buffering=1)
        for node in self.nodes.values():
            make_private(node.directory)
        shutil.rmtree(self._starts, ignore_errors=True)  # packages may have been installed since
        self.allowed_packages.touch(mode=0o600)
        brokers = list(self.node_brokers.values())
        room = await self.world.in_thread(disk_room.measure, self.directory, len(brokers))
        self.broker.store_bytes = room.cloud
        for broker in brokers:
            broker.store_bytes = room.node
        await self.broker.start()
        if self.mosquitto is not None:
            await self.mosquitto.start()
        for name in self._relayed:
            relay = self.nodes[name].relay = Relay(self.broker.host, self.broker.port, self.world)
            await relay.start()
        await self.start_coordinator()
        await self._start_agents()
        await self.wait_ready()
        if self._supervision is not None:
            for broker in (self.broker, *brokers):
                self._supervision.watch(f"broker {broker.name}", partial(_process_of, broker), broker.start)
            if self.mosquitto is not None:
                door = self.mosquitto.broker
                self._supervision.watch("mosquitto", partial(_process_of, door), door.start)
            for child in (*self._coordinators.values(), *(node.child for node in self.nodes.values())):
                if child is not None:
                    self._supervision.watch(child.name, partial(_process_of, child), child.start)
            self._watching_disk = asyncio.create_task(
                DiskWatch(self.directory, (self.broker, *brokers), self.world, self._supervision.report).run()
            )

    async def _start_agents(self) -> None:
        """Start the nodes, some at once: the coordinator needs a core too, for those that have started."""
        gate = asyncio.Semaphore(max(6, 2 * usable_cores()))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._coordinators[COORDINATOR].wait_ready(READY_TIMEOUT))
                for name in self.nodes:
                    group.create_task(self._start_agent_within(gate, name))
        except* Exception as errors:
            raise first_error(errors) from None

    async def _start_agent_within(self, gate: asyncio.Semaphore, name: str) -> None:
        async with gate:
            if (broker := self.nodes[name].broker) is not None:
                await broker.start()
            await self.start_agent(name)
            await self._child(name).wait_ready(READY_TIMEOUT)
            if broker is not None:
                await self._bound(broker)

    async def _bound(self, broker: Broker) -> None:
        """Bound what devices can make a node's broker keep; it has made its streams for its agent."""
        async with connect(broker.url("agent"), world=self.world, name="bounds") as bus:
            await bus.link.wait_up(READY_TIMEOUT)
            await bus.bound_mqtt()

    async def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Wait until a coordinator leads and all agents report that they are ready."""
        leading = [child for child in self._coordinators.values() if child.ready.is_set()]
        for child in (leading or [*self._coordinators.values()][:1]) + [node.child for node in self.nodes.values()]:
            if child is not None:
                await child.wait_ready(timeout)

    async def wait_for_line(self, name: str, words: str, timeout: float = READY_TIMEOUT, times: int = 1) -> str:
        """Wait until a coordinator or an agent has printed ``words`` in as many lines as ``times``; return the last."""
        return await self._child(name).wait_for_line(words, timeout, times)

    async def start_coordinator(self, name: str = COORDINATOR) -> None:
        """Start a coordinator; it stands by if another leads."""
        await self._make_model_keys()
        own = () if self.mosquitto is None else (self.mosquitto.url(COORDINATOR),)
        environment = {
            "HELIOGRAPH_SIGNING_KEY": str(self._signing_key),
            "HELIOGRAPH_NAME": name,
            "HELIOGRAPH_NATS": self.broker.url("coordinator"),
            "HELIOGRAPH_SYSTEM": self.broker.url(SYSTEM_USER),
            "HELIOGRAPH_STATUS": self.broker.url("coordinator", "mqtt"),
            "HELIOGRAPH_DOORS": " ".join((*self._doors, *own)),
            "HELIOGRAPH_PATIENCE": f"{self._patience:g}",
        }
        argv = [*self._program("coordinator"), "coordinator"]
        self._coordinators[name] = self._new_child(name, argv, environment)
        await self._coordinators[name].start()

    async def start_agent(self, name: str) -> None:
        await self._make_model_keys()
        node = self.nodes[name]
        cloud = self.broker.url(f"agent-{name}")
        if node.relay is not None:
            cloud = cloud.replace(f"{self.broker.host}:{self.broker.port}", f"{node.relay.host}:{node.relay.port}")
        threads = max(1, usable_cores() // max(1, len(self.edges)))
        environment = {
            "HELIOGRAPH_CLOUD": cloud,
            "HELIOGRAPH_STARTS": str(self._starts),
            "HELIOGRAPH_ALLOWED_PACKAGES": str(self.allowed_packages),
            "HELIOGRAPH_MODEL_KEYS": str(self._model_keys),
        }
        if "OMP_NUM_THREADS" not in os.environ:  # share the cores among the edges; by default each would use all
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
        if name != CLOUD:  # the coordinator and the aggregation come first
            argv += ["--worker-nice", str(WORKER_NICE), *self._node_has]
        for root in self._code:
            argv += ["--code", root]
        for directory in self._data:
            argv += ["--data", str(directory)]
        if self._outputs is not None:
            argv += ["--outputs", str(self._outputs.resolve() / name)]
        for dataset, path in node.datasets.items():
            argv += ["--dataset", f"{dataset}={path.resolve()}"]
            if dataset in self._headers:
                argv += ["--header", f"{dataset}={self._headers[dataset]}"]
        node.child = self._new_child(f"agent {name}", argv, environment)
        await node.child.start()

    async def _make_model_keys(self) -> None:
        """Write the public key of this cluster's signing key, which its agents trust, once."""
        if self._model_keys_made is None:
            self._model_keys_made = asyncio.ensure_future(self.world.in_thread(self._write_model_keys))
        await self._model_keys_made

    def _write_model_keys(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._model_keys.write_text(Signer.kept(self._signing_key, self.world).public_key)

    async def kill(self, name: str) -> None:
        """Kill a coordinator or a node's agent by SIGKILL; the agent's workers die with it."""
        process = _process_of(self._child(name))
        if process.returncode is None:
            process.kill()
            await process.wait()

    async def wait_ended(self, name: str) -> None:
        """Wait until a coordinator or an agent has ended by itself."""
        await _process_of(self._child(name)).wait()

    def exit_code(self, name: str) -> int | None:
        """Return the exit code of a coordinator or a node's agent; None while it runs."""
        return _process_of(self._child(name)).returncode

    def lines(self, name: str) -> list[str]:
        """Return the newest lines that a coordinator or an agent has printed."""
        return list(self._child(name).lines)

    def pid(self, name: str) -> int:
        return _process_of(self._child(name)).pid

    async def stop(self) -> None:
        if self._watching_disk is not None:
            await cancel_and_wait(self._watching_disk)
        if self._supervision is not None:
            await self._supervision.stop()
        children = [*(node.child for node in self.nodes.values()), *self._coordinators.values()]
        await asyncio.gather(*(child.stop() for child in children if child is not None))
        await asyncio.gather(*(node.relay.stop() for node in self.nodes.values() if node.relay))
        await asyncio.gather(*(node.broker.stop() for node in self.nodes.values() if node.broker), self.broker.stop())
        if self.mosquitto is not None:
            await self.mosquitto.stop()
        if self._log is not None:
            with contextlib.suppress(OSError):  # the disk is full
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

    def _new_child(self, name: str, argv: list[str], environment: dict[str, str]) -> Child:
        return Child(name, argv, environment, self.directory, self.world, partial(self._write_log, name))

    def _write_log(self, name: str, line: str) -> None:
        if self._log is not None:
            with contextlib.suppress(OSError):  # a full disk: a child whose lines nobody reads would stand still
                print(f"{self.world.timestamp()} {name}: {line}", file=self._log)

    def _node(self, name: str, datasets: Mapping[str, Mapping[str, Path]], external: Mapping[str, str]) -> Node:
        directory = self.directory / name
        node = Node(name, directory, external_broker=external.get(name, ""), datasets=datasets.get(name, {}))
        if name != CLOUD and not node.external_broker:
            users = (User("agent", self._secret(), "agent"), User("worker", self._secret(), "worker"))
            node.broker = Broker(directory / "broker", "node", users, name=name, world=self.world,
                                 ping_interval=self._ping_interval)  # fmt: skip
        return node

    def _secret(self) -> str:
        return self.world.new_secret().hex()[:32]


def patience_for(edges: int, cores: int) -> float:
    """Return the factor for the times of the coordinator's lease and of the brokers' pings: with many edges for each
    core a process may wait for one longer than they last."""
    return max(1.0, edges / (5 * cores))


def check_user(name: str, edges: Sequence[str] = ()) -> None:
    """Raise Refused where a user's name is no label, or another login or an edge has it: replies to one would reach
    the other."""
    require_label(name, "user")
    if name in _RESERVED or name in edges or name.startswith("agent-") or participant_of(name):
        raise Refused("invalid", field="user", expected="a name that no component and no edge has", got=name)


def check_participant(name: str, edges: Sequence[str] = ()) -> None:
    """Raise Refused where a participant's name or its login is no label, or an edge has it: both are placed alike."""
    require_label(participant_login(require_label(name, "participant")), "login of participant")
    if name in edges:
        raise Refused("invalid", field="participant", expected="a name that no edge has", got=name)


def _process_of(started: Child | Broker | Mosquitto) -> Process:
    assert started.process is not None
    return started.process
