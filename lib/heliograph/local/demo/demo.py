"""The demo: digits learned on edges of which one loses its link, a device on it that goes on talking, and the count."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract.resources import FederatedTask
from heliograph.bus.contract.topics import DEFAULT_ROOT, REPLY, REQUEST, TELEMETRY
from heliograph.client import AsyncClient
from heliograph.core.child_process import die_with_parent
from heliograph.core.errors import HeliographError
from heliograph.core.world import World
from heliograph.edge_agent.journal_file import events_in
from heliograph.local.cluster import LocalCluster
from heliograph.local.demo import digits
from heliograph.local.demo.tally import Tally
from heliograph.local.display import Display
from heliograph.local.follow_job import failure, follow_job, wait_for_offers

GOAL = 0.93
CUT, RESTORE = 3, 6
"""The rounds in which the link is cut and mended."""
SHOW_EVERY = 0.25
REPLY_TIMEOUT = 10.0


@dataclass(frozen=True)
class Options:
    """What was asked for; ``edge_brokers`` maps edges to the MQTT brokers that their nodes already have."""

    directory: Path
    framework: str = "numpy"
    edges: int = 3
    rounds: int = 10
    outage: bool = True
    seed: int = 1
    edge_brokers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """What came of it. ``edge`` is the one with the device; ``updates`` says in words what became of its updates."""

    edge: str
    accuracies: list[float] = field(default_factory=list)
    model: Path | None = None
    sent: int = 0
    received: int = 0
    lost: int = 0
    twice: int = 0
    updates: str = ""
    shortcomings: list[str] = field(default_factory=list)


async def run(options: Options, display: Display, world: World) -> Outcome:
    """The whole demo; its processes are gone when it returns. Raises HeliographError where it cannot be run."""
    edges = [f"edge-{number + 1}" for number in range(options.edges)]
    where = edges[min(1, len(edges) - 1)]  # the device's edge, and the one whose link is cut
    outage = options.outage and len(edges) > 1 and options.rounds >= CUT
    script = digits.SCRIPTS[options.framework]

    display.doing("splitting 1,797 handwritten digits over the edges")
    parts = await world.in_thread(digits.write_digits, options.directory / "data", edges, options.seed)
    datasets = digits.datasets(parts)
    cluster = LocalCluster(
        options.directory / "cluster", edges, datasets=datasets, code=(script.parent,),
        edge_brokers=options.edge_brokers, relayed=(where,) if outage else (), world=world,
        log=options.directory / "log.txt", supervise=lambda line: display.note(line, good=False),
    )  # fmt: skip
    display.doing(f"starting broker, coordinator and {len(edges) + 1} agents")
    async with cluster, AsyncClient(cluster.server) as client:
        outcome, tally = Outcome(where), Tally()
        async with _device(cluster, where, world) as device:
            counting = asyncio.create_task(tally.follow(client.bus, where))
            await client.models.apply(digits.model())
            await wait_for_offers(client, datasets)
            display.began(f"digits · {options.framework} · FedAvg", parts.samples)
            await world.in_thread(publish_task, cluster.door, digits.task(options.framework, options.rounds), world)
            if outage:
                cut = Outage(cluster, where, options.rounds, tally, display, world)
                showing = asyncio.create_task(cut.run())
                document = await follow_job(client, "digits", display, cut.document)
                cut.end()
                await showing
            else:
                document = await follow_job(client, "digits", display)
            outcome.sent = await device.end()
            await tally.reach(outcome.sent)
            counting.cancel()
        outcome.received, outcome.lost, outcome.twice = tally.received, tally.lost(outcome.sent), tally.twice
        outcome.accuracies = _accuracies(document)
        outcome.updates = became_of_updates(document, where)
        if why := failure(document):
            outcome.shortcomings.append(why)
        else:
            outcome.model = await client.download(digits.MODEL, options.directory / "digits.safetensors")
    outcome.shortcomings += _shortcomings(outcome)
    return outcome


class Outage:
    """Cuts an edge's link in one round and mends it in a later one, as the job's documents tell of them."""

    def __init__(
        self, cluster: LocalCluster, edge: str, rounds: int, tally: Tally, display: Display, world: World
    ) -> None:
        relay = cluster.nodes[edge].relay
        assert relay is not None
        self._relay = relay
        self._journal = cluster.nodes[edge].directory / "state" / "journal.db"
        self._edge = edge
        self._restore = min(RESTORE, rounds)
        self._tally = tally
        self._display = display
        self._world = world
        self._cut = asyncio.Event()
        self._mended = asyncio.Event()

    def document(self, document: Mapping[str, Any]) -> None:
        """A newer document of the job."""
        round = document["status"]["round"]
        if round >= CUT and not self._cut.is_set():
            self._relay.cut()
            self._cut.set()
            self._display.note(f"round {round}: the link of {self._edge} is cut", good=False)
        if round >= self._restore and self._relay.state != "up":
            self.end()

    def end(self) -> None:
        """The link is mended, unless it is already."""
        self._relay.restore()
        self._mended.set()

    async def run(self) -> None:
        """Shows the outage as its node sees it, which the cloud cannot, and then the replay as the cloud sees it."""
        await self._cut.wait()
        began = self._world.monotonic()
        while not self._mended.is_set():
            self._display.link(self._edge, "cut", events_in(self._journal, TELEMETRY.lane))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._mended.wait(), SHOW_EVERY)
        mended = self._world.monotonic()
        waiting, before = events_in(self._journal, TELEMETRY.lane), self._tally.received
        self._display.note(f"the link of {self._edge} is mended after {mended - began:.1f} s, {waiting} events waiting")
        await self._tally.reach(before + waiting)
        took = self._world.monotonic() - mended
        self._display.note(
            f"{self._edge} back: {waiting} events replayed within {took:.1f} s, {self._tally.gaps} lost, "
            f"{self._tally.twice} twice"
        )


@dataclass
class Device:
    process: Any

    async def end(self) -> int:
        """Tells the device to end. Returns how many events it says it has sent."""
        if self.process.returncode is None:
            self.process.terminate()
        output: bytes = await self.process.stdout.read()
        await self.process.wait()
        try:
            return int(output)
        except ValueError:
            raise HeliographError(f"the device failed: {output.decode(errors='replace').strip()}") from None


@asynccontextmanager
async def _device(cluster: LocalCluster, edge: str, world: World) -> AsyncIterator[Device]:
    node = cluster.nodes[edge]
    url = ConnectionUrl.parse(node.broker.url(scheme="mqtt") if node.broker is not None else node.external_broker)
    topic = f"{DEFAULT_ROOT}/{TELEMETRY.at(edge=edge, device='thermometer')}"
    argv = [sys.executable, "-m", "heliograph.local.demo.device", url.host, str(url.port), topic]
    process = await world.spawn(argv, env=dict(os.environ), cwd=str(cluster.directory), before=die_with_parent)
    try:
        yield Device(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def publish_task(door: str, task: Mapping[str, Any], world: World) -> None:
    """Publishes a task at the MQTT door as any MQTT 3.1.1 client would: plain JSON and a reply topic of its own.

    Raises HeliographError with the coordinator's words where it refuses, or where no reply comes.
    """
    import queue
    import threading

    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    url = ConnectionUrl.parse(door)
    answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    reply_to = f"{DEFAULT_ROOT}/{REPLY.at(client='demo', id=world.new_id()[:12])}"
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _, __, message: answers.put(bytes(message.payload))
    request = f"{DEFAULT_ROOT}/{REQUEST.at(resource='jobs', verb='create')}"
    body = json.dumps({**task, "reply_to": reply_to})
    client.connect(url.host, url.port)
    client.loop_start()
    try:
        client.subscribe(reply_to, qos=1)
        subscribed.wait(REPLY_TIMEOUT)
        client.publish(request, body, qos=1)
        answer = json.loads(answers.get(timeout=REPLY_TIMEOUT))
    except queue.Empty:
        raise HeliographError(f"no reply on {reply_to} within {REPLY_TIMEOUT:g} s") from None
    finally:
        client.disconnect()
        client.loop_stop()
    if not answer["ok"]:
        raise HeliographError(f"the task was refused: {answer['error'].get('message', answer['error'])}")


def became_of_updates(document: Mapping[str, Any], edge: str) -> str:
    """What became of an edge's updates, round by round, in words."""
    status = FederatedTask.model_validate(document).status
    counted = [each.round for each in status.rounds if edge in each.edges]
    missed = [each.round for each in status.rounds if edge not in each.edges]
    late = [each.round for each in status.late if each.edge == edge]
    refused = [each for each in status.refused if each.edge == edge]
    told = [f"counted in {_rounds(counted)}"] if counted else ["never counted"]
    if late:
        told.append(f"came too late for {_rounds(late)} and was left out")
    if asked := [round for round in missed if round not in late]:
        told.append(f"not there in {_rounds(asked)}")
    told += [f"refused in round {each.round}: {each.reason}" for each in refused]
    return "; ".join(told)


def _rounds(numbers: list[int]) -> str:
    """``rounds 1-3, 7-10``."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    text = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
    return f"round{'s' if len(set(numbers)) > 1 else ''} {text}"


def _accuracies(document: Mapping[str, Any]) -> list[float]:
    measured = [each.get("evaluation") for each in document["status"].get("rounds", ())]
    return [each["accuracy"] for each in measured if each and "accuracy" in each]


def _shortcomings(outcome: Outcome) -> list[str]:
    found = []
    if outcome.model is not None and (not outcome.accuracies or outcome.accuracies[-1] < GOAL):
        last = f"{outcome.accuracies[-1]:.3f}" if outcome.accuracies else "unknown"
        found.append(f"the test accuracy is {last}; {GOAL} was to be reached. More --rounds may get there")
    if outcome.lost or outcome.twice:
        found.append(f"of {outcome.sent} telemetry events {outcome.lost} were lost and {outcome.twice} came twice")
    return found
