"""A whole cluster in one process and in virtual time: the shipped coordinator and agents, with simulated links, disks,
clocks and workers."""

from __future__ import annotations

import itertools
import json
import sqlite3
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from heliograph.bus.contract import registry, topics
from heliograph.bus.contract.event import with_blank_signature
from heliograph.bus.contract.lanes import LANE, NUMBER
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.memory.bus import MemoryBus
from heliograph.bus.memory.hub import Hub
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.transport import Bus, Message
from heliograph.coordinator.coordinator import Coordinator, CoordinatorConfig
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import HeliographError
from heliograph.core.names import CLOUD, require_label
from heliograph.core.telemetry import NO_TELEMETRY, Telemetry
from heliograph.core.world import World
from heliograph.edge_agent.admission import UNKNOWN, Capacity
from heliograph.edge_agent.agent import Agent
from heliograph.edge_agent.agent_config import AgentConfig
from heliograph.edge_agent.code_roots import CodeRoot
from heliograph.edge_agent.launcher import Launcher
from heliograph.edge_agent.pinned_keys import PinnedKeys
from heliograph.simulations.virtual.learning_workload import LearningWorkload
from heliograph.simulations.virtual.loop import Process, VirtualLoop
from heliograph.simulations.virtual.network import Link, LinkedBus
from heliograph.simulations.virtual.virtual_launcher import Offers, VirtualLauncher
from heliograph.simulations.virtual.worker_programs import worker_programs
from heliograph.simulations.virtual.workload import Workload
from heliograph.simulations.virtual.worlds import EPOCH, Child, Worlds
from heliograph.workers.offers import offers

COORDINATOR = "coordinator"
CLOUD_URL = "memory://cloud"
NODE_URL = "memory://node"
SCRIPT = "simulated.py"
"""Script named by jobs; the workload runs in its place."""
ROWS = 100
"""Samples of a node's own data sets, more than any simulated training claims."""
STREAM_BYTES = 64 << 20
"""Largest size of each stream in the simulated broker's memory, in bytes."""


_NAMING_FILES = (topics.ASSIGNMENT, topics.REPORT, topics.LOG)
"""Topics whose messages name files. The directory differs in each run; traces replace it by a fixed name of the same
length."""


@dataclass(frozen=True)
class EdgeSpec:
    """One simulated edge.

    Attributes:
        speed: factor on the speed of computing.
        latency: seconds to the cloud, one way.
        bandwidth: bytes per second; 0 for no limit.
        loss: share of packets that are lost.
        capacity: what the node has for workers that ask for memory or GPUs.
    """

    name: str
    speed: float = 1.0
    latency: float = 0.02
    bandwidth: float = 0.0
    loss: float = 0.0
    capacity: Capacity = UNKNOWN


class VirtualCluster:
    """A cluster in virtual time, for use inside ``loop.run``.

    Args:
        tap: function called with each message of the cloud's broker, in order.
        say: function called with the name of a process and a line that it prints.
        patience: factor on the coordinator's lease; a simulated week need not renew it every second.
        telemetry: receiver of all processes' measurements.
        held_out: name of the cloud's data set for evaluation; the workload has its content.
        launcher: function that returns an agent's launcher, given the worlds, the agent's process, a directory for its
            workers and their offers.
        learning: the computing of learning jobs' workers and of inference workers.
        datasets: names of the nodes' own data sets, by node.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        edges: Sequence[EdgeSpec],
        workload: Workload,
        seed: int,
        tap: Callable[[Recorded], None] = lambda recorded: None,
        say: Callable[[str, str], None] = lambda process, line: None,
        patience: float = 1.0,
        held_out: str = "",
        launcher: Callable[[Worlds, Process, Path, Offers], Launcher] = VirtualLauncher,
        telemetry: Telemetry = NO_TELEMETRY,
        learning: LearningWorkload | None = None,
        datasets: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self.edges = {require_label(each.name, "edge"): each for each in edges}
        self.hub = Hub(loop.time, STREAM_BYTES)
        self.nodes: dict[str, Hub] = {}
        self._node_links: dict[str, Link] = {}
        self._loop = loop
        self._say = say
        self._patience = patience
        self._datasets = datasets
        self._held_out = held_out
        self._launcher = launcher
        self._tap = tap
        self._directory = tempfile.TemporaryDirectory(prefix="heliograph-virtual-", dir=_memory_directory())
        self._code = Path(self._directory.name).resolve()
        self._directory_names = str(self._code).encode(), b"/simulated".ljust(len(str(self._code)), b"-")
        speeds = {name: each.speed for name, each in self.edges.items()}
        workers = worker_programs(workload, lambda edge: speeds.get(edge, 1.0), learning)
        self._worlds = Worlds(loop, str(seed), workers, self._connect, telemetry)
        self._document_signer = Ed25519Signer.made(self._worlds.world(Process("document-key")))
        self.links = {
            name: Link(loop, self._worlds.world(Process(f"link-{name}")), each.latency, each.bandwidth, each.loss)
            for name, each in self.edges.items()
        }
        self.links[CLOUD] = Link(loop, self._worlds.world(Process("link-cloud")))
        self.processes: dict[str, Process] = {}
        self._operators = itertools.count(1)
        self.world = self._worlds.world(Process("driver"))

    async def start(self) -> None:
        """Start the processes; they come up in virtual time."""
        (self._code / SCRIPT).write_text("")
        self.hub.taps.append(self._record)
        self.start_process(COORDINATOR)
        for name in (CLOUD, *self.edges):
            self.start_process(name)

    async def stop(self) -> None:
        """Kill all processes and delete the disks."""
        for name in list(self.processes):
            self.kill(name)
        self._directory.cleanup()

    def client(self) -> Bus:
        """Return an operator's connection in the cloud; open it with ``async with``."""
        return MemoryBus(CLOUD_URL, DEFAULT_ROOT, self.world, f"operator-{next(self._operators)}", self.hub)

    def node(self, edge: str) -> Hub:
        """Return an edge's own broker."""
        if edge not in self.nodes:
            self.nodes[edge] = Hub(self._loop.time, keeps_streams=False)
            self._node_links[edge] = Link(self._loop, self._worlds.world(Process(f"broker-{edge}")))
        return self.nodes[edge]

    def node_link(self, edge: str) -> Link:
        """Return the link to an edge's own broker."""
        self.node(edge)
        return self._node_links[edge]

    def new_process(self, edge: str, name: str) -> tuple[Process, World]:
        """Create another process on an edge, such as a device; create its tasks in its context."""
        process = Process(f"{edge}/{name}")
        return process, self._worlds.world(process)

    def start_process(self, name: str) -> None:
        """Start the coordinator, or an agent on the disk of its last run, unless it is running."""
        before = self.processes.get(name)
        if before is not None and not before.dead:
            return
        process = self.processes[name] = Process(name if name == COORDINATOR else f"agent-{name}")
        process.ahead = before.ahead if before is not None else 0.0
        process.context.run(self._loop.create_task, self._run(name, process))

    def kill(self, name: str) -> None:
        """Kill a process as by SIGKILL; an agent's workers die with it."""
        if name in self.processes:
            self._loop.kill(self.processes[name])

    def kill_after(self, name: str, steps: int) -> None:
        """Kill a process ``steps`` of its steps from now, which may be between any two of its awaits."""
        process = self.processes[name]
        process.dies_at = process.steps + max(1, steps)

    def workers(self, node: str) -> list[Child]:
        """Return the running workers of a node's agent, oldest first."""
        return [each for each in self._worlds.children if each.process.name.startswith(f"agent-{node}/")]

    @staticmethod
    def kill_worker_after(worker: Child, steps: int) -> None:
        """Kill one of a node's workers like ``kill_after``; its agent starts it again."""
        worker.process.dies_at = worker.process.steps + max(1, steps)

    @property
    def worker_failures(self) -> list[str]:
        """Workers that ended by an unexpected exception, with its traceback."""
        return self._worlds.worker_failures

    @property
    def directory(self) -> Path:
        """Directory of all nodes' files; a new one in each run."""
        return Path(self._directory.name)

    def fill_disk(self, edge: str, full: bool) -> None:
        """Fill an edge's disk, or free it again."""
        self._worlds.disk(f"agent-{edge}").fill(full)

    def journal(self, edge: str) -> sqlite3.Connection | None:
        """Return the present journal on an edge's disk, for reading; None if the edge never had one."""
        return self._worlds.disk(f"agent-{edge}").file("journal.db")

    def set_clock(self, name: str, ahead: float) -> None:
        """Set the clock of a process and its workers ahead by so many seconds."""
        self.processes[name].ahead = ahead
        for each in self.workers(name):
            each.process.ahead = ahead

    async def _run(self, name: str, process: Process) -> None:
        world = self._worlds.world(process)
        say = partial(self._say, process.name)

        try:
            if name == COORDINATOR:
                await self._coordinator(world, say).run()
            else:
                await self._agent(name, process, world, say).run()
        except* HeliographError as errors:
            for error in errors.exceptions:
                say(f"ended: {error}")
        except* Exception as errors:  # a defect, reported to the caller
            if not process.dead:
                say(f"failed: {''.join(traceback.format_exception(errors))}")
        finally:
            self._loop.kill(process)

    def _coordinator(self, world: World, say: Callable[[str], None]) -> Coordinator:
        config = CoordinatorConfig(CLOUD_URL, CLOUD_URL, CLOUD_URL, patience=self._patience,
                                   document_signer=self._document_signer)  # fmt: skip
        return Coordinator(config, world, say)

    def _agent(self, name: str, process: Process, world: World, say: Callable[[str], None]) -> Agent:
        node = CLOUD_URL if name == CLOUD else NODE_URL
        state = Path(self._directory.name) / name
        code = (CodeRoot(self._code, self._code),)
        rows = dict.fromkeys(self._datasets.get(name, ()), ROWS) | ({self._held_out: 1} if name == CLOUD else {})
        datasets = {each: Path(self._directory.name) / f"{each}.csv" for each in rows if each}
        for each, file in datasets.items():
            file.write_text("x\n" + "0\n" * rows[each])

        async def offering() -> bytes:
            """Return all algorithms for the cloud; ten thousand edges' reports need not repeat them."""
            return json.dumps(offers() if name == CLOUD else {}).encode()

        launcher = self._launcher(self._worlds, process, state / "workers", offering)
        capacity = self.edges[name].capacity if name in self.edges else UNKNOWN
        config = AgentConfig(name, CLOUD_URL, node, node, state, code, datasets=datasets, capacity=capacity,
                             coordinator_keys=PinnedKeys(keys=frozenset((self._document_signer.public,))),
                             edge_signer=Ed25519Signer(self._document_signer.derived_secret(name)))  # fmt: skip
        return Agent(config, launcher, world, say)

    def _connect(self, process: Process, url: str, root: str, world: World, name: str) -> Bus:
        node = process.name.partition("/")[0].removeprefix("agent-")
        node = node if node in self.edges else CLOUD
        if url == NODE_URL:
            hub = self.node(node)
            bus = LinkedBus(url, root, world, name, hub, self.node_link(node), process, durable=False)
        else:
            bus = LinkedBus(url, root, world, name, self.hub, self.links[node], process)
        process.on_death.append(bus.drop)
        return bus

    def _record(self, message: Message) -> None:
        if message.topic.startswith("_INBOX"):
            return  # a reply to one client, on no topic
        declared, _ = registry.lookup(message.topic)
        if declared is not None and declared.delivery == "blob":
            return
        now = int((EPOCH + self._loop.time()) * 1e9)
        headers: Mapping[str, str] = {key: value for key, value in message.headers.items() if key in (LANE, NUMBER)}
        body = message.body
        if registry.lookup(message.topic)[0] in _NAMING_FILES:
            body = with_blank_signature(body.replace(*self._directory_names))  # the signature covers the directory
        self._tap(Recorded(message.topic, body, now, now, headers))


def _memory_directory() -> str | None:
    """Return a directory in memory, if there is one: a simulation's files need not reach a disk."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() else None
