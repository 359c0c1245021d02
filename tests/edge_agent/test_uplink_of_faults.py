"""What an edge sends to the cloud about bad messages of its devices: counted in messages and bytes, in virtual time,
with the whole agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import LOG, MODEL_UPDATE, REPORT, TELEMETRY
from heliograph.bus.transport import Message
from heliograph.edge_agent.launcher import Launcher
from heliograph.edge_agent.report_pace import LONGEST
from heliograph.simulations.fleet.echo_workload import Echo
from heliograph.simulations.virtual.loop import Process, VirtualLoop, run
from heliograph.simulations.virtual.virtual_cluster import EdgeSpec, VirtualCluster
from heliograph.simulations.virtual.virtual_launcher import Offers, VirtualLauncher
from heliograph.simulations.virtual.worlds import Worlds
from heliograph.workers.offers import offers

EDGE = "edge-1"
FORGED = MODEL_UPDATE.at(edge=EDGE, job="job")
UNPLACED = f"{TELEMETRY.at(edge=EDGE, device='hall')}/state"


def _launcher(worlds: Worlds, process: Process, directory: Path, offering: Offers) -> Launcher:
    """Return a launcher whose workers offer all that there is, as on a real edge."""

    async def all_offers() -> bytes:
        return json.dumps(offers()).encode()

    return VirtualLauncher(worlds, process, directory, all_offers)


class Uplink:
    """An edge, and what its agent has sent to the cloud."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.cluster = VirtualCluster(loop, [EdgeSpec(EDGE)], Echo(elements=10), 1, launcher=_launcher)
        self.sent: list[Message] = []
        self.cluster.hub.taps.append(self._heard)

    @property
    def bytes(self) -> int:
        return sum(len(each.body) for each in self.sent)

    def reports(self) -> list[dict[str, Any]]:
        return [decode(each.body).data for each in self.sent if REPORT.match(each.topic)]

    async def start(self) -> None:
        self.cluster.start_process(EDGE)
        await asyncio.sleep(30)

    async def bad_messages(self, seconds: int, *topics: str) -> None:
        for n in range(seconds):
            topic = topics[n % len(topics)]
            self.cluster.node(EDGE).publish(topic, Message(topic, b"{"))
            await asyncio.sleep(1)

    def _heard(self, message: Message) -> None:
        if REPORT.match(message.topic) or LOG.match(message.topic):
            self.sent.append(message)


def _on_uplink(test: Callable[[Uplink], Coroutine[Any, Any, None]]) -> None:
    def main(loop: VirtualLoop) -> Coroutine[Any, Any, None]:
        async def body() -> None:
            it = Uplink(loop)
            try:
                await it.start()
                await test(it)
            finally:
                await it.cluster.stop()

        return body()

    run(main)


def _send(seconds: int, most_reports: int, most_bytes: int) -> None:
    async def test(it: Uplink) -> None:
        it.sent.clear()
        await it.bad_messages(seconds, FORGED, UNPLACED)
        await asyncio.sleep(LONGEST)
        last = it.reports()[-1]
        assert (last["refused_events"], last["unplaced_events"]) == (seconds // 2, seconds // 2)
        assert len(it.reports()) <= most_reports
        assert it.bytes <= most_bytes

    _on_uplink(test)


def test_an_hour_of_one_bad_message_a_second() -> None:
    _send(3600, 25, 16_000)


@pytest.mark.long
def test_a_day_of_one_bad_message_a_second() -> None:
    _send(86_400, 305, 150_000)


def test_counts_are_exact_after_agents_were_killed() -> None:
    async def test(it: Uplink) -> None:
        for _ in range(3):
            await it.bad_messages(100, FORGED, UNPLACED)
            it.cluster.kill(EDGE)
            await it.start()
        await asyncio.sleep(LONGEST)
        last = it.reports()[-1]
        assert (last["refused_events"], last["unplaced_events"]) == (150, 150)

    _on_uplink(test)


def test_a_new_device_is_told_at_once() -> None:
    async def test(it: Uplink) -> None:
        await it.bad_messages(1000, FORGED)
        it.sent.clear()
        await it.bad_messages(2, UNPLACED)
        assert [each["unplaced_events"] for each in it.reports()][:1] == [1]

    _on_uplink(test)
