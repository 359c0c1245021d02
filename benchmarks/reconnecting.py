"""A broker that is killed and starts again, and a thousand agents' connections that come back to it at once.

The connections are the bus's own, in a few processes. Each publishes events all the while, and repeats what is not
acknowledged under the same id, as an agent's forwarder does.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.declaration import Samples
from benchmarks.processes import resident
from heliograph.bus.connect import connect
from heliograph.bus.contract.lanes import headers_of, lane_name
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.topics import TASK, TELEMETRY
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.transport import Bus
from heliograph.core.errors import Unreachable
from heliograph.core.tasks import RETRY_SECONDS, wait_for
from heliograph.core.world import World
from heliograph.local.nats_server import Broker, User

CLIENTS, PROCESSES, AWAY = 1000, 4, 8.0
"""Connections, processes that hold them, and seconds for which the broker is away."""
AT_ONCE = 50
"""Connections of a process that are opened at the same time, at first."""
EVERY = 3.0
"""Seconds between two events of a client."""
TENTH = 0.1
_DEVICE = "meter"
_TICKS = os.sysconf("SC_CLK_TCK")
_MB = 1e6


@dataclass
class Outcome:
    """What clients have seen. Times are in seconds of the machine's monotonic clock.

    Attributes:
        acknowledged: by edge, the events that the broker has acknowledged.
        back: when each came back, after the broker had gone.
        attempts: when each attempt to connect failed.
    """

    acknowledged: dict[str, int] = field(default_factory=dict)
    back: list[float] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)


def measured(clients: int = CLIENTS, processes: int = PROCESSES, away: float = AWAY) -> Samples:
    """Kill the broker once, and start it again ``away`` seconds later.

    Returns:
        ``seconds`` from its first answer to the last client's return, and ``median`` to that of the middle one; ``cpu``
        seconds of the broker's CPU until then; ``memory`` of the broker in MB; ``missing`` clients that did not come
        back; ``lost`` and ``doubled`` events; ``attempts`` of a client while the broker was away; ``busiest``: the
        largest share of the clients that tried in one tenth of a second, in the second half of that time.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return asyncio.run(_measured([f"edge-{number}" for number in range(clients)], processes, away))


async def _measured(edges: Sequence[str], processes: int, away: float) -> Samples:
    world = World()
    users = (User("coordinator", "", "coordinator"), *(User(f"agent-{each}", "", "agent", each) for each in edges))
    with tempfile.TemporaryDirectory(prefix="heliograph-reconnecting-") as directory:
        server = Broker(Path(directory), "cloud", users, ping_interval="60s")
        await server.start()
        try:
            async with connect(server.url("coordinator"), name="coordinator") as cloud:
                assert isinstance(cloud, NatsBus)
                await cloud.link.wait_up()
                await cloud.prepare()
                urls = [(each, server.url(f"agent-{each}")) for each in edges]
                shares = [urls[number::processes] for number in range(processes)]
                async with AsyncExitStack() as stack:
                    held = [await stack.enter_async_context(_Holding(share)) for share in shares]
                    for each in held:
                        await each.told()  # all are connected
                    await world.sleep(EVERY)
                    gone = world.monotonic()
                    await server.kill()
                    await world.sleep(away)
                    began = world.monotonic()
                    await server.start()
                    answers = world.monotonic()
                    assert server.process is not None
                    for each in held:
                        await each.told()  # all are back
                    cpu, memory = _cpu(server.process.pid), resident(server.process.pid) / _MB
                    for each in held:
                        each.tell("stop")
                    outcomes = [await each.outcome() for each in held]
                await cloud.link.wait_up()
                stored = await _stored(cloud)
        finally:
            await server.kill()
    return _samples(outcomes, stored, len(edges), (gone, began, answers)) | {"cpu": [cpu], "memory": [memory]}


def _samples(
    outcomes: Sequence[Outcome], stored: dict[str, int], clients: int, times: tuple[float, float, float]
) -> dict[str, list[float]]:
    gone, began, answers = times
    acknowledged = {edge: count for each in outcomes for edge, count in each.acknowledged.items()}
    back = sorted(max(0.0, at - answers) for each in outcomes for at in each.back)
    attempts = [at for each in outcomes for at in each.attempts if gone <= at < began]
    late = Counter(int((at - gone) / TENTH) for at in attempts if at >= (gone + began) / 2)
    return {
        "seconds": [back[-1]],
        "median": [back[len(back) // 2]],
        "missing": [clients - len(back)],
        "lost": [sum(max(0, count - stored.get(edge, 0)) for edge, count in acknowledged.items())],
        "doubled": [sum(max(0, stored.get(edge, 0) - count) for edge, count in acknowledged.items())],
        "attempts": [len(attempts) / clients],
        "busiest": [max(late.values(), default=0) / clients],
    }


async def _stored(cloud: NatsBus) -> dict[str, int]:
    """Return by edge how many of its events the stream has."""
    stream, subject = cloud.subjects.stream_of(TELEMETRY.filter()), cloud.subjects.subject(TELEMETRY.filter())
    found = await cloud.connection.counted_subjects(stream, subject)
    addresses = {cloud.subjects.address(each): count for each, count in found.items()}
    return {params["edge"]: count for address, count in addresses.items() if (params := TELEMETRY.match(address))}


class _Holding:
    """A process that holds a share of the connections; a context manager."""

    def __init__(self, share: Sequence[tuple[str, str]]) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_hold, args=(there, share), daemon=True)

    async def __aenter__(self) -> _Holding:
        self._process.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    async def told(self) -> None:
        await asyncio.to_thread(self._here.recv)

    def tell(self, word: str) -> None:
        self._here.send(word)

    async def outcome(self) -> Outcome:
        found = await asyncio.to_thread(self._here.recv)
        assert isinstance(found, Outcome)
        return found


def _hold(parent: Connection, share: Sequence[tuple[str, str]]) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    parent.send(asyncio.run(_held(parent, share)))
    parent.close()


async def _held(parent: Connection, share: Sequence[tuple[str, str]]) -> Outcome:
    world, outcome, stop = World(), Outcome(), asyncio.Event()
    gate, connected, back = asyncio.Semaphore(AT_ONCE), asyncio.Queue[str](), asyncio.Queue[str]()

    async def live(edge: str, url: str) -> None:
        bus = connect(url, name=f"agent-{edge}", inbox=inbox_of(edge))
        async with gate:
            await bus.open()
            await bus.link.wait_up()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(bus.close)
            await stack.enter_async_context(bus.subscribe(TASK.at(edge=edge)))
            connected.put_nowait(edge)
            been = False

            def changed(up: bool) -> None:
                nonlocal been
                if up and been:
                    outcome.back.append(world.monotonic())
                    back.put_nowait(edge)
                been = True

            bus.link.listen(changed)
            bus.link.on_failure(lambda error: outcome.attempts.append(world.monotonic()))
            outcome.acknowledged[edge] = await _publish(bus, edge, world, stop)

    async with asyncio.TaskGroup() as group:
        for edge, url in share:
            group.create_task(live(edge, url))
        for arrivals in (connected, back):
            for _ in share:
                await arrivals.get()
            parent.send("all")
        await asyncio.to_thread(parent.recv)
        stop.set()
    return outcome


async def _publish(bus: Bus, edge: str, world: World, stop: asyncio.Event) -> int:
    """Publish events until ``stop`` is set; return the number of acknowledged ones."""
    lane, number = lane_name(edge, "journal", 1), 0
    await world.sleep(world.rng.uniform(0, EVERY))
    while not stop.is_set():
        number += 1
        while True:
            try:
                await bus.link.wait_up()
                await bus.publish(TELEMETRY.at(edge=edge, device=_DEVICE), b"{}", headers=headers_of(lane, number))
                break
            except Unreachable:
                await world.sleep(RETRY_SECONDS)
        await wait_for(stop, EVERY)
    return number


def _cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
