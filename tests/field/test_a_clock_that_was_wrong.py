"""A node without a clock of its own starts in 1970; the time service sets its clock once it has a network."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.clock_offset import corrected
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import BULK
from heliograph.edge_agent.journal_file import events_in
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_commands import heliograph
from heliograph.simulations.faults.skewed import Clock
from tests.patience import HANGS

EDGE = "edge-1"


@pytest.mark.long
async def test_events_of_1970_are_marked_once_the_clock_is_set(tmp_path: Path) -> None:
    began = time.time()
    clock = Clock(tmp_path / "clock")
    clock.offset = 60 - began

    def program(name: str) -> Sequence[str]:
        skewed = [sys.executable, "-m", "heliograph.simulations.faults.skewed", str(clock.file)]
        return skewed if name == EDGE else heliograph(name)

    async with LocalCluster(tmp_path / "cluster", [EDGE], relayed=(EDGE,), program=program) as cluster:
        node = cluster.nodes[EDGE]
        assert node.broker is not None and node.relay is not None
        async with connect(node.broker.url("", "mqtt")) as device, connect(cluster.server) as cloud:
            await device.link.wait_up(HANGS)
            await cloud.link.wait_up(HANGS)

            async def send(*numbers: int) -> None:
                for n in numbers:
                    await device.publish(topics.TELEMETRY.at(edge=EDGE, device="meter"), json.dumps({"n": n}).encode())

            async with asyncio.timeout(HANGS), cloud.consume(topics.TELEMETRY.filter(), start=1) as events:
                await send(0)
                first = await anext(events)  # forwarded before anybody knew: it stays as it is
                node.relay.cut()
                await send(1, 2, 3)
                await waiting(cluster, 3)
                clock.offset = 0.0
                await send(4, 5)
                node.relay.restore()
                found = [first, *[await anext(events) for _ in range(5)]]
        assert [line for line in cluster.lines(EDGE) if "the node's clock was set by +" in line]
    assert [decode(each.body).data["n"] for each in found] == [*range(6)]
    written = [decode(each.body).time for each in found]
    assert [time[:4] for time in written[:4]] == ["1970"] * 4
    shown = [datetime.fromisoformat(corrected(decode(each.body).time, each.headers)).timestamp() for each in found]
    assert shown[0] < 3600  # nobody knew
    assert all(began <= each <= time.time() for each in shown[1:]), shown


async def waiting(cluster: LocalCluster, count: int) -> None:
    """Return once so many events wait in the edge's journal."""
    while events_in(cluster.nodes[EDGE].directory / "state" / "journal.db", BULK) < count:
        await asyncio.sleep(0.05)  # another process's file
