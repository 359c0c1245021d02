"""The check of an edge's agent: its inputs are desired documents, events of workers and devices, and its link; its
outputs are reports and forwarded events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgpack

from heliograph.bus.arriving_blob import Check
from heliograph.bus.blob_store import BlobHolder
from heliograph.bus.contract import registry, topics
from heliograph.bus.contract.event import Event, encode, parse
from heliograph.bus.contract.payloads.worker_tasks import ROLES
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_header import check_file
from heliograph.bus.memory.bus import MemoryBus
from heliograph.bus.memory.hub import Hub
from heliograph.bus.transport import Bus, Message
from heliograph.core.errors import Refused
from heliograph.core.names import CLOUD
from heliograph.core.world import World
from heliograph.edge_agent.agent import Agent
from heliograph.edge_agent.agent_config import AgentConfig
from heliograph.edge_agent.dataset_contents import DatasetContents
from heliograph.edge_agent.inventory import index_file
from heliograph.simulations.check.compare import TimedMessage
from heliograph.simulations.check.findings import ReplayRun, compare_messages, nothing_to_feed, recorded_of
from heliograph.simulations.check.loaded_trace import LoadedTrace, RecordedMessage
from heliograph.simulations.check.recorded_node import SOON, RecordedNode
from heliograph.simulations.check.recorded_presence import PresenceChange, presence_changes
from heliograph.simulations.check.replay_stage import CLOUD_URL, NODE_URL, Action, ReplayStage
from heliograph.simulations.check.replayed_worker import PendingEvents, play_worker
from heliograph.simulations.virtual.loop import Process, VirtualLoop
from heliograph.simulations.virtual.loop import run as run_virtually
from heliograph.simulations.virtual.network import NOTICED_AFTER, RECONNECTED_AFTER, Link, LinkedBus
from heliograph.simulations.virtual.virtual_launcher import VirtualLauncher
from heliograph.simulations.virtual.worlds import Program
from heliograph.workers.runtime import WorkerEnvironment

FORWARDED = tuple(each for each in registry.declared().topics if each.delivery == "event" and each.bridged == "up")


def check_agents(trace: LoadedTrace, edge: str | None, job: str = "") -> ReplayRun:
    """Check one edge's agent, or each in turn. Raises Refused if the trace has no desired document for it."""
    known = sorted({each.params["edge"] for each in trace.of(topics.TASK)})
    if not known:
        raise nothing_to_feed(trace, "agent", topics.TASK.pattern)
    if edge is not None and edge not in known:
        raise Refused("unknown-edge", topic=str(trace.path), field="edge", expected=f"one of {', '.join(known)}",
                      got=edge)  # fmt: skip
    found = ReplayRun("agent")
    for name in known if edge is None else [edge]:
        found.add(_check(trace, name, job))
    return found


def _check(trace: LoadedTrace, edge: str, job: str) -> ReplayRun:
    events = _forwarded(trace, edge)
    tasks = trace.of(topics.TASK, edge=edge)
    pending = PendingEvents(RecordedNode(trace, edge), [each for each in events if each.topic is not topics.TELEMETRY],
                    trace.weights)  # fmt: skip
    published, failures = run_virtually(lambda loop: _play(loop, trace, edge, pending, events, job))
    recorded = recorded_of([*trace.of(topics.REPORT, edge=edge), *events], job)
    found = compare_messages("agent", recorded, published, trace.end)
    found.inputs = len(tasks) + len(events)
    found.fed = found.inputs - pending.unsent
    if pending.unsent:
        found.missing.append(f"{pending.unsent} events of edge {edge} belong to rounds that its agent assigned to no "
                             "worker")  # fmt: skip
    found.missing += failures
    return found


async def _play(
    loop: VirtualLoop, trace: LoadedTrace, edge: str, pending: PendingEvents, events: list[RecordedMessage], job: str
) -> tuple[list[TimedMessage], list[str]]:
    with TemporaryDirectory(prefix="heliograph-check-") as directory:
        node = _PlayedNode(loop, trace, edge, pending, Path(directory), job)
        presence = presence_changes(trace, edge)
        actions = node.link_actions(presence)
        actions += [Action(node.arrival(each), each.number if not each.retained else -2,
                           partial(node.stage.publish, each))
                    for each in trace.of(topics.TASK, edge=edge)]  # fmt: skip
        if edge != CLOUD:
            actions += [Action(each.emitted, each.number, partial(node.device, each))
                        for each in events if each.topic is topics.TELEMETRY]  # fmt: skip
        await node.stage.play(actions, trace.end)
        return node.stage.outcome()


class _PlayedNode:
    """The agent with its node's broker, its workers, its files and its link."""

    def __init__(
        self, loop: VirtualLoop, trace: LoadedTrace, edge: str, pending: PendingEvents, directory: Path, job: str
    ) -> None:
        self._loop = loop
        self._edge = edge
        self._pending = pending
        self._trace = trace
        self._directory = directory
        self._broker = Hub(loop.time, keeps_streams=False)
        self.stage = ReplayStage(loop, self._programs(), self._connect, job)
        self._link = Link(loop, self.stage.worlds.world(Process("link")))
        self._process: Process | None = None
        self._cuts: list[tuple[float, float]] = []
        """Times of the link's cuts, and of their notice."""
        self.stage.hub.receivers.add(topics.UPLOAD_OFFER.at(edge=edge), "", self._settle)
        self.stage.record(topics.REPORT.at(edge=edge), *(each.filter() for each in FORWARDED))
        self._code = pending.node.code_roots(directory / "code")

    def link_actions(self, presence: list[PresenceChange]) -> list[Action]:
        """Return the starts and ends of the agent, and the cuts of its link."""
        own = [each.at for each in self._trace.messages
               if each.source.startswith(f"{self._edge}/") and not each.retained]  # fmt: skip
        if not presence or not presence[0].online:
            presence = [PresenceChange(0.0, True), *presence]
        found = [Action(presence[0].at, -1, self._start)]
        for before, each in pairwise(presence):
            if each.online and each.process:
                found.append(Action(each.at, -1, self._start))
            elif each.online and each.at - before.at < 2 * RECONNECTED_AFTER:
                found.append(Action(each.at - RECONNECTED_AFTER, -1, self._link.reset))
            elif each.online:
                found.append(Action(each.at - RECONNECTED_AFTER, -1, self._link.restore))
        for each, back in zip(presence, [*presence[1:], None], strict=True):
            if each.online:
                continue
            if back is not None and back.process:
                found.append(Action(each.at, -1, self._kill))
            elif back is None or back.at - each.at >= 2 * RECONNECTED_AFTER:
                last = max((at for at in own if at < each.at), default=0.0)
                cut = max(last, each.at - NOTICED_AFTER)
                self._cuts.append((cut, each.at))
                found.append(Action(cut, 1 << 60, self._link.cut))
        return found

    def arrival(self, message: RecordedMessage) -> float:
        """Return the time of a document's arrival at the broker. A document that had not reached the agent before a
        cut of its link arrives after the cut."""
        if message.topic is topics.TASK:
            for cut, gone in self._cuts:
                if message.at <= cut and not self._pending.node.has_received(message, gone):
                    return cut + SOON
        return message.at

    def device(self, message: RecordedMessage) -> None:
        """Publish a device's event on the node's broker, as a bare document."""
        self._broker.publish(message.address, Message(message.address, msgpack.packb(message.data)))

    def _settle(self, offer: Message) -> None:
        """Take what the agent offers the cloud: the trace has it already, or lacks it."""
        digest = parse(offer.body)["data"]["digest"]
        topic, address = topics.UPLOAD_SETTLED, topics.UPLOAD_SETTLED.at(edge=self._edge)
        body = encode(Event(digest, f"{CLOUD}/coordinator/1", topic.type, {"digests": [digest]}, "", address))
        self._loop.call_soon(self.stage.hub.publish, address, Message(address, body))

    def _start(self) -> None:
        if self._process is not None:
            self._loop.kill(self._process)
        self._pending.begun = self._loop.time()
        process = self._process = Process(f"agent-{self._edge}")
        world = replace(self.stage.worlds.world(process), in_thread=self._in_thread)
        node = CLOUD_URL if self._edge == CLOUD else NODE_URL
        datasets = {name: self._directory / name for name in self._pending.node.own}
        config = AgentConfig(
            self._edge, CLOUD_URL, node, node, self._directory / "state", self._code, (Path("/"),), datasets,
            self._pending.node.labels, capacity=self._pending.node.capacity,
        )  # fmt: skip
        launcher = _Launcher(self.stage.worlds, process, config.state / "workers", self._offering)

        async def run() -> None:
            await Agent(config, launcher, world, self.stage.observe_output).run()

        self.stage.run(process, run())

    def _kill(self) -> None:
        if self._process is not None:
            self._loop.kill(self._process)

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function in a thread. The index of a data set comes from the reports, because its file is missing, also
        where it was fetched."""
        if getattr(function, "__func__", None) is DatasetContents.is_here:
            return True
        if function is check_file and args[0].parent.name == "staged" and not args[0].stat().st_size:
            return None
        if function is not index_file:
            return await asyncio.get_running_loop().run_in_executor(None, function, *args)
        found = self._pending.node.dataset(args[0], self._loop.time())
        if found is None:  # its index was still unfinished at the end of the recording
            await asyncio.Event().wait()
            return None
        await self.stage.wait_until(found[0])
        return found[1]

    def _programs(self) -> dict[str, Program]:
        async def work(launch: WorkerEnvironment, world: World) -> int:
            return await play_worker(launch, world, self._pending, self.stage.wait_until, self._loop.time)

        return dict.fromkeys(ROLES, work)

    async def _offering(self) -> bytes:
        at, offers = self._pending.node.offers()
        await self.stage.wait_until(at)
        return json.dumps(offers).encode()

    def _connect(self, process: Process, url: str, root: str, world: World, name: str) -> Bus:
        bus: MemoryBus
        if url == NODE_URL:
            bus = MemoryBus(url, root, world, name, self._broker)
            bus.durable = False
        else:
            bus = _CloudBus(url, root, world, name, self.stage.hub, self._link, process)
            bus.models = self._model
        process.on_death.append(bus.drop)
        return bus

    async def _model(self, digest: str) -> bytes:
        """Return a model's bytes, once it has arrived at the node in the trace; only the played workers read them."""
        at = self._pending.node.model_at(digest)
        if at is None:
            await asyncio.Event().wait()
            raise AssertionError
        await self.stage.wait_until(at)
        return self._trace.weights.get(digest, b"")


class _CloudBus(LinkedBus):
    """The agent's connection to the cloud, with the trace's blobs; one that the trace lacks is fetched as an empty
    one."""

    models: Callable[[str], Any]

    async def fetch_from(
        self, holder: BlobHolder, ref: WeightsRef, target: Path, check: Check | None = None
    ) -> Path:
        data: bytes = await self.models(ref.digest)
        part = target.with_name(f"{target.name}.part")
        part.write_bytes(data)
        if check is not None:
            check(part, ref)
        return part.replace(target)


class _Launcher(VirtualLauncher):
    """A launcher whose workers have staged all that their events name, also what the trace lacks."""

    async def staged(self, worker: str, digest: str) -> Path | None:
        file = self._staged(worker, digest)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return file


def _forwarded(trace: LoadedTrace, edge: str) -> list[RecordedMessage]:
    """Return the events forwarded by the edge's agent, without repeats; no agent forwards events of the cloud's own
    workers."""
    if edge == CLOUD:
        return []
    found: dict[tuple[str, bytes], RecordedMessage] = {}
    for each in trace.of(*FORWARDED):
        if each.source.startswith(f"{edge}/") and len(each.source.split("/")) == 3:
            found.setdefault((each.address, each.body), each)
    return list(found.values())
