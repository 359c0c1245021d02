"""A cluster of real processes on this machine: broker, coordinator, the agent ``cloud``, and edges with their own
brokers and agents. ``up``, ``run``, the demo, the tests and the benchmarks start it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from heliograph.bus.contract.permissions import agent_login
from heliograph.core.cores import usable_cores
from heliograph.core.errors import first_error
from heliograph.core.names import CLOUD, require_label
from heliograph.core.private_files import make_private
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.edge_agent.confinement.site_policy import CONFINED, SitePolicy
from heliograph.edge_agent.datasets.csv_look import Header
from heliograph.local import disk_room
from heliograph.local.broker_cluster import clustered
from heliograph.local.broker_tls import connected_host
from heliograph.local.child import Child
from heliograph.local.cluster_commands import ClusterCommands, heliograph, patience_for
from heliograph.local.cluster_log import ClusterLog
from heliograph.local.cluster_node import Node
from heliograph.local.cluster_tls import ClusterTls, Listening
from heliograph.local.cluster_users import COORDINATOR, OPERATOR, cloud_users
from heliograph.local.disk_watch import DiskWatch
from heliograph.local.mosquitto_door import MosquittoDoor
from heliograph.local.nats_server import PING_MILLISECONDS, Broker
from heliograph.local.own_edges import OwnEdges
from heliograph.local.relay import Relay
from heliograph.local.restarts import Supervision, process_of
from heliograph.local.roots import resolved_directory, resolved_root

READY_TIMEOUT = 120.0
HERE = Listening()
"""This machine alone."""


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
        listening: where the cloud's brokers listen; the nodes' own listen on loopback.
        renewed: called when certificates have been renewed, once the brokers read them.
        outputs: directory below which each node's agent keeps, under the node's name, what the scripts write; by
            default each agent keeps it in its state.
        log: file for the lines that the processes print, each preceded by time and component.
        supervise: called with a line about each process that ends by itself and is started again, and about a disk that
            runs full; without it such a process stays ended.
        node_memory, node_gpus: megabytes and GPUs that each edge has for workers that ask for some; by default each
            has all of this machine's.
        devices_map: file that says what further topics of the edges' devices stand for.
        site_policy: what workers may reach on each node; the cluster's own directory is private in any case.
        servers: nats-servers of the cloud; 3 or 5 are a cluster, and each stream has as many replicas.
        login_seconds: how long the login of an edge is good, here and where one enrols; its agent renews it.
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
        devices_map: Path | None = None,
        site_policy: SitePolicy = CONFINED,
        servers: int = 1,
        login_seconds: int = 86_400,
        program: Callable[[str], Sequence[str]] = heliograph,
        listening: Listening = HERE,
        renewed: Callable[[], None] = lambda: None,
    ) -> None:
        self.directory = directory.resolve()
        self.world = world or World()
        names = [CLOUD, *(require_label(name, "edge") for name in edges)]
        patience = patience_for(len(edges), usable_cores())
        ping_interval = f"{round(PING_MILLISECONDS * patience)}ms"
        self.tls = ClusterTls(self.directory / "tls", listening, self.world) if listening.tls else None
        tls = self.tls.broker if self.tls is not None else None
        self.broker = Broker(
            self.directory / "broker", "cloud",
            tuple(cloud_users([CLOUD, *guests], logins or {}, participants or {}, self._secret, names[1:])),
            name="cloud", world=self.world, websocket=websocket, websocket_origins=websocket_origins,
            ping_interval=ping_interval, host=listening.host, tls=tls,
        )  # fmt: skip
        self.cloud_brokers: list[Broker] = [self.broker]
        if servers > 1:
            self.cloud_brokers = [*clustered(self.broker, servers)]
            self.broker = self.cloud_brokers[0]
        self._commands = ClusterCommands(
            self.broker, self.directory, program, patience, len(edges), tuple(resolved_root(root) for root in code),
            tuple(resolved_directory(Path(root), "data") for root in data), headers or {}, outputs, node_memory,
            node_gpus, login_seconds, servers, devices_map.resolve() if devices_map is not None else None,
        )  # fmt: skip
        self._site_policy = site_policy
        self._files_made: asyncio.Future[None] | None = None
        self._doors = doors
        self._log = ClusterLog(log, self.world)
        self._relayed = relayed
        self.mosquitto = (
            MosquittoDoor(self.directory / "door", self.broker.users, self.world, listening.host, tls)
            if mosquitto else None
        )  # fmt: skip
        offered, external = datasets or {}, edge_brokers or {}
        self.nodes = {
            name: Node(name, self.directory / name, external_broker=external.get(name, ""),
                       datasets=offered.get(name, {})) for name in names
        }  # fmt: skip
        for node in self.nodes.values():
            node.give_broker(self._secret, self.world, ping_interval, devices_map)
        own = [node for node in self.nodes.values() if node.name != CLOUD]
        self._own_edges = OwnEdges(own, self.broker, self._commands.document_keys, login_seconds, self.world)
        self._coordinators: dict[str, Child] = {}
        self._supervision = Supervision(self.world, supervise) if supervise is not None else None
        self._watching: list[asyncio.Task[None]] = []
        self._renewed = renewed

    @property
    def allowed_packages(self) -> Path:
        """File of digests: the packages of code that every node of the cluster may run."""
        return self._commands.allowed_packages

    @property
    def coordinator_keys(self) -> Path:
        """File of the public key that signs what the nodes are to do."""
        return self._commands.document_keys.public

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

    @property
    def public_door(self) -> str:
        """The URL of the MQTT door for other machines too, without credentials."""
        return self.broker.public_url(scheme="mqtt") if self.mosquitto is None else self.mosquitto.public_url()

    def agent_url(self, edge: str) -> str:
        """Return the NATS URL with the credentials of an edge's agent."""
        if edge in self.edges:
            return self._own_edges.url(self.nodes[edge])
        return self.broker.url(agent_login(edge))

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
        self._log.open()
        make_private(self.directory)
        shutil.rmtree(self._commands.starts, ignore_errors=True)  # packages may have been installed since
        brokers = list(self.node_brokers.values())
        room = await self.world.in_thread(disk_room.measure, self.directory, len(brokers))
        for broker in self.cloud_brokers:
            broker.store_bytes = room.cloud // len(self.cloud_brokers)
        for broker in brokers:
            broker.store_bytes = room.node
        if self.tls is not None:
            await self.tls.start()
            self._watching.append(asyncio.create_task(self.tls.keep(self.reload_certificates)))
        await self.start_broker()
        if self.mosquitto is not None:
            await self.mosquitto.start()
        for name in self._relayed:
            host, others = connected_host(self.broker.host), [each.port for each in self.cloud_brokers[1:]]
            relay = self.nodes[name].relay = Relay(host, self.broker.port, self.world,
                                                   others=[(host, port) for port in others])  # fmt: skip
            await relay.start()
        await self.start_coordinator()
        await self._start_agents()
        await self.wait_ready()
        if self._supervision is not None:
            self._supervise(self._supervision, brokers)

    async def start_broker(self) -> None:
        """Start the cloud's broker alone, which lets the cluster's edges in; ``start`` does it too."""
        self._own_edges.find_reset()
        for node in self.nodes.values():
            make_private(node.directory)
        await self.world.in_thread(self._own_edges.enroll)
        for broker in self.cloud_brokers:
            await broker.start()
        self._own_edges.write_addresses()

    def _supervise(self, supervision: Supervision, brokers: Sequence[Broker]) -> None:
        """Start what ends by itself again from now on, and watch the disk."""
        for broker in (*self.cloud_brokers, *brokers):
            supervision.keep(f"broker {broker.name}", broker)
        if self.mosquitto is not None:
            supervision.keep("mosquitto", self.mosquitto.broker)
        for child in (*self._coordinators.values(), *(node.child for node in self.nodes.values())):
            if child is not None:
                supervision.keep(child.name, child)
        watch = DiskWatch(self.directory, (*self.cloud_brokers, *brokers), self.world, supervision.report)
        self._watching.append(asyncio.create_task(watch.run()))

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
            await self.nodes[name].bound_broker(self.world, READY_TIMEOUT)

    async def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Wait until a coordinator leads and all agents report that they are ready."""
        leading = [child for child in self._coordinators.values() if child.ready.is_set()]
        for child in (leading or [*self._coordinators.values()][:1]) + [node.child for node in self.nodes.values()]:
            if child is not None:
                await child.wait_ready(timeout)

    async def wait_for_line(self, name: str, words: str, timeout: float = READY_TIMEOUT, times: int = 1) -> str:
        """Wait until a coordinator or an agent has printed ``words`` in as many lines as ``times``; return the last."""
        return await self._child(name).wait_for_line(words, timeout, times)

    def reload_certificates(self) -> None:
        """Let the cloud's brokers read their certificates again; connections stay."""
        for broker in self.cloud_brokers:
            broker.reload()
        if self.mosquitto is not None:
            self.mosquitto.broker.reload()
        self._renewed()

    async def start_coordinator(self, name: str = COORDINATOR) -> None:
        """Start a coordinator; it stands by if another leads."""
        await self._make_files()
        own = () if self.mosquitto is None else (self.mosquitto.url(COORDINATOR),)
        argv, environment = self._commands.coordinator(name, (*self._doors, *own))
        self._coordinators[name] = self._new_child(name, argv, environment)
        await self._coordinators[name].start()

    async def start_agent(self, name: str) -> None:
        await self._make_files()
        node = self.nodes[name]
        cloud = node.reaching(self.agent_url(name), self.broker)
        argv, environment = self._commands.agent(node, cloud)
        node.child = self._new_child(f"agent {name}", argv, environment)
        await node.child.start()

    async def _make_files(self) -> None:
        """Write what the agents of this cluster read, once."""
        if self._files_made is None:
            writing = self.world.in_thread(self._commands.write_files, self.world, self._site_policy)
            self._files_made = asyncio.ensure_future(writing)
        await self._files_made

    async def kill(self, name: str) -> None:
        """Kill a coordinator or a node's agent by SIGKILL; the agent's workers die with it."""
        process = process_of(self._child(name))
        if process.returncode is None:
            process.kill()
            await process.wait()

    async def wait_ended(self, name: str) -> None:
        """Wait until a coordinator or an agent has ended by itself."""
        await process_of(self._child(name)).wait()

    def exit_code(self, name: str) -> int | None:
        """Return the exit code of a coordinator or a node's agent; None while it runs."""
        return process_of(self._child(name)).returncode

    def is_ready(self, name: str) -> bool:
        """Return whether a coordinator leads, or a node's agent has reported that it is ready, since its start."""
        return self._child(name).ready.is_set()

    def lines(self, name: str) -> list[str]:
        """Return the newest lines that a coordinator or an agent has printed."""
        return list(self._child(name).lines)

    def pid(self, name: str) -> int:
        return process_of(self._child(name)).pid

    async def stop(self) -> None:
        await cancel_and_wait(*self._watching)
        if self._supervision is not None:
            await self._supervision.stop()
        children = [*(node.child for node in self.nodes.values()), *self._coordinators.values()]
        await asyncio.gather(*(child.stop() for child in children if child is not None))
        await asyncio.gather(*(node.relay.stop() for node in self.nodes.values() if node.relay))
        brokers = [*self.node_brokers.values(), *self.cloud_brokers]
        await asyncio.gather(*(broker.stop() for broker in brokers))
        if self.mosquitto is not None:
            await self.mosquitto.stop()
        self._log.close()

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
        return Child(name, argv, environment, self.directory, self.world, partial(self._log.write, name))

    def _secret(self) -> str:
        return self.world.new_secret().hex()[:32]
