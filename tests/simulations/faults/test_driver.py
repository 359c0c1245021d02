"""What the driver takes for a violation: an agent that ends by itself, but not one that starts on a full disk."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any, cast

import pytest

from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.simulations.faults.driver import Driver, Timeline
from heliograph.simulations.faults.fault_plan import Fault
from tests.patience import HANGS

EDGE = "edge-1"


class Ending:
    """A cluster whose one agent ends as soon as its disk is full."""

    def __init__(self, ready: bool) -> None:
        self.world = World()
        self.nodes = {EDGE: None}
        self.started = asyncio.Event()
        self._ready = ready
        self._ended = False
        self._gone = subprocess.Popen(["true"])
        self._gone.wait()

    def pid(self, name: str) -> int:
        self._ended = not self.started.is_set()
        return self._gone.pid

    def exit_code(self, name: str) -> int | None:
        return 1 if name == EDGE and self._ended else None

    def is_ready(self, name: str) -> bool:
        return self._ready

    async def start_agent(self, name: str) -> None:
        self._ended = False
        self.started.set()


@pytest.mark.parametrize(("ready", "incidents"), [(False, 0), (True, 1)], ids=["it starts", "it runs"])
async def test_an_agent_that_meets_a_full_disk_may_end_only_while_it_starts(ready: bool, incidents: int) -> None:
    cluster = Ending(ready)
    timeline = Timeline(cluster.world)
    timeline.start()
    driver = Driver(cast(Any, cluster), {}, {}, {}, timeline)
    watching = asyncio.create_task(driver.watch())
    async with asyncio.timeout(HANGS):
        await driver.run([Fault("full-disk", EDGE, at=0.0, duration=0.0, amount=-1.0)])
        await cluster.started.wait()
    await cancel_and_wait(watching)
    assert len(driver.incidents) == incidents
    assert any("ended by itself with exit code 1; started again" in line for line in timeline.lines)
