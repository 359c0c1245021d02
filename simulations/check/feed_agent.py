"""An edge's agent under test: its desired documents, its workers' and devices' events and its link in; reports and
forwarded events out."""

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

from heliograph.bus.contract import registry, topics
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.memory.bus import MemoryBus
from heliograph.bus.memory.hub import Hub
from heliograph.bus.transport import BlobStore, Bus, Message
from heliograph.core.errors import Refused
from heliograph.core.names import CLOUD
from heliograph.core.world import World
from heliograph.edge_agent.agent import Agent, AgentConfig
from heliograph.edge_agent.datasets import index
from heliograph.simulations.check.compare import Said
from heliograph.simulations.check.fed_stage import CLOUD_URL, NODE_URL, Action, Stage
from heliograph.simulations.check.findings import Run, compared, nothing_to_feed, recorded_of
from heliograph.simulations.check.material import Heard, Material
from heliograph.simulations.check.played_worker import Script, play
from heliograph.simulations.check.recorded_node import SOON, Node
from heliograph.simulations.check.recorded_presence import Change, changes
from heliograph.simulations.virtual.loop import Process, VirtualLoop
from heliograph.simulations.virtual.loop import run as run_virtually
from heliograph.simulations.virtual.network import NOTICED_AFTER, RECONNECTED_AFTER, Link, LinkedBus
from heliograph.simulations.virtual.virtual_launcher import VirtualLauncher
from heliograph.simulations.virtual.worlds import Program

FORWARDED = tuple(each for each in registry.declared().topics if each.delivery == "event" and each.bridged == "up")
ROLES = ("train", "evaluate", "aggregate", "infer", "big-model")


def check_agents(material: Material, edge: str | None, job: str = "") -> Run:
    """One edge's agent, or each in turn. Raises Refused where the trace holds no desired document for it."""
    told = sorted({each.params["edge"] for each in material.of(topics.TASK)})
    if not told:
        raise nothing_to_feed(material, "agent", topics.TASK.pattern)
    if edge is not None and edge not in told:
        raise Refused("unknown-edge", topic=str(material.path), field="edge", expected=f"one of {', '.join(told)}",
                      got=edge)  # fmt: skip
    found = Run("agent")
    for name in told if edge is None else [edge]:
        found.add(_check(material, name, job))
    return found


def _check(material: Material, edge: str, job: str) -> Run:
    events = _forwarded(material, edge)
    tasks = material.of(topics.TASK, edge=edge)
    script = Script(Node(material, edge), [each for each in events if each.topic is not topics.TELEMETRY],
                    material.weights)  # fmt: skip
    said, ended = run_virtually(lambda loop: _play(loop, material, edge, script, events, job))
    found = compared("agent", recorded_of([*material.of(topics.REPORT, edge=edge), *events], job), said, material.end)
    found.inputs = len(tasks) + len(events)
    found.fed = found.inputs - script.unsent
    if script.unsent:
        found.missing.append(f"{script.unsent} events of edge {edge} belong to rounds that its agent gave to no worker")
    found.missing += ended
    return found


async def _play(
    loop: VirtualLoop, material: Material, edge: str, script: Script, events: list[Heard], job: str
) -> tuple[list[Said], list[str]]:
    with TemporaryDirectory(prefix="heliograph-check-") as directory:
        node = _PlayedNode(loop, material, edge, script, Path(directory), job)
        went = changes(material, edge)
        actions = node.comings(went)
        actions += [Action(node.reached(each), each.number if not each.retained else -2,
                           partial(node.stage.publish, each))
                    for each in (*material.of(topics.TASK, edge=edge), *material.of(topics.AGGREGATION))]  # fmt: skip
        if edge != CLOUD:
            actions += [Action(each.told, each.number, partial(node.device, each))
                        for each in events if each.topic is topics.TELEMETRY]  # fmt: skip
        await node.stage.play(actions, material.end)
        return node.stage.outcome()


class _PlayedNode:
    """The agent, and around it the node's broker, its workers, its files and its link."""

    def __init__(
        self, loop: VirtualLoop, material: Material, edge: str, script: Script, directory: Path, job: str
    ) -> None:
        self._loop = loop
        self._edge = edge
        self._script = script
        self._material = material
        self._directory = directory
        self._broker = Hub(loop.time, keeps_streams=False)
        self.stage = Stage(loop, self._programs(), self._connect, job)
        self._link = Link(loop, self.stage.worlds.world(Process("link")))
        self._process: Process | None = None
        self._cuts: list[tuple[float, float]] = []
        """When the link was cut, and when that was noticed."""
        self.stage.write_down(topics.REPORT.at(edge=edge), *(each.filter() for each in FORWARDED))
        self._code = script.node.code_roots(directory / "code")

    def comings(self, went: list[Change]) -> list[Action]:
        """Its starts and ends, and the cuts of its link."""
        own = [each.at for each in self._material.messages
               if each.source.startswith(f"{self._edge}/") and not each.retained]  # fmt: skip
        if not went or not went[0].online:
            went = [Change(0.0, True), *went]
        found = [Action(went[0].at, -1, self._start)]
        for before, each in pairwise(went):
            if each.online and each.process:
                found.append(Action(each.at, -1, self._start))
            elif each.online and each.at - before.at < 2 * RECONNECTED_AFTER:
                found.append(Action(each.at - RECONNECTED_AFTER, -1, self._link.reset))
            elif each.online:
                found.append(Action(each.at - RECONNECTED_AFTER, -1, self._link.restore))
        for each, back in zip(went, [*went[1:], None], strict=True):
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

    def reached(self, heard: Heard) -> float:
        """When a document is to lie with the broker: one that had not reached the agent before its link was cut was
        still on its way, and is there when it is back."""
        if heard.topic is topics.TASK:
            for cut, gone in self._cuts:
                if heard.at <= cut and not self._script.node.heard(heard, gone):
                    return cut + SOON
        return heard.at

    def device(self, heard: Heard) -> None:
        """What a device says on the node's broker: a bare document."""
        self._broker.publish(heard.address, Message(heard.address, msgpack.packb(heard.data)))

    def _start(self) -> None:
        if self._process is not None:
            self._loop.kill(self._process)
        self._script.begun = self._loop.time()
        process = self._process = Process(f"agent-{self._edge}")
        world = replace(self.stage.worlds.world(process), in_thread=self._in_thread)
        node = CLOUD_URL if self._edge == CLOUD else NODE_URL
        datasets = {name: self._directory / name for name in self._script.node.own}
        config = AgentConfig(
            self._edge, CLOUD_URL, node, node, self._directory / "state", self._code, (Path("/"),), datasets,
            self._script.node.labels,
        )  # fmt: skip
        launcher = VirtualLauncher(self.stage.worlds, process, config.state / "workers", self._offering)

        async def run() -> None:
            await Agent(config, launcher, world, lambda line: None).run()

        self.stage.run(process, run())

    def _kill(self) -> None:
        if self._process is not None:
            self._loop.kill(self._process)

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """A data set's file is not here: what was reported of it is its index, when it was."""
        if function is not index:
            return await asyncio.get_running_loop().run_in_executor(None, function, *args)
        found = self._script.node.dataset(args[0], self._loop.time())
        if found is None:  # its index was not ready when the recording ended
            await asyncio.Event().wait()
            return None
        await self.stage.until(found[0])
        return found[1]

    def _programs(self) -> dict[str, Program]:
        async def work(environment: dict[str, str], world: World) -> int:
            return await play(environment, world, self._script, self.stage.until, self._loop.time)

        return dict.fromkeys(ROLES, work)

    async def _offering(self) -> bytes:
        at, offers = self._script.node.offers()
        await self.stage.until(at)
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
        """A model's bytes when it had come to the node; nobody reads them there but the workers, which are played."""
        at = self._script.node.model_at(digest)
        if at is None:
            await asyncio.Event().wait()
            raise AssertionError
        await self.stage.until(at)
        return self._material.weights.get(digest, b"")


class _CloudBus(LinkedBus):
    """The agent's connection to the cloud, whose blobs are those of the trace."""

    models: Callable[[str], Any]

    async def blobs(self, bucket: str) -> BlobStore:
        return _Blobs(self, bucket)


class _Blobs:
    """What is not in the trace is taken for fetched, and for uploaded before."""

    def __init__(self, bus: _CloudBus, bucket: str) -> None:
        self.bucket = bucket
        self._bus = bus

    async def has(self, digest: str) -> bool:
        return True

    async def put(self, path: Path, ref: WeightsRef) -> WeightsRef:
        return ref.model_copy(update={"bucket": self.bucket, "inline": None})

    async def fetch(self, ref: WeightsRef, target: Path) -> Path:
        data: bytes = await self._bus.models(ref.digest)
        target.write_bytes(data)
        return target

    async def delete(self, digest: str) -> None:
        return None

    async def digests(self) -> list[str]:
        return []


def _forwarded(material: Material, edge: str) -> list[Heard]:
    """The events that the edge's agent has carried to the cloud, each once; what the cloud's own workers say no agent
    carries."""
    if edge == CLOUD:
        return []
    found: dict[tuple[str, bytes], Heard] = {}
    for each in material.of(*FORWARDED):
        if each.source.startswith(f"{edge}/") and len(each.source.split("/")) == 3:
            found.setdefault((each.address, each.body), each)
    return list(found.values())
