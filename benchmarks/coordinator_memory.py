"""The memory that the presence and the status of many edges take in a coordinator.

The coordinator is the shipped one. Time is virtual, and its broker lies in the same process: the figure contains the
stored documents and messages of all edges too, and is therefore above that of a coordinator alone.
"""

from __future__ import annotations

import json
import os

from benchmarks.declaration import Samples
from benchmarks.processes import resident_alone
from heliograph.bus.contract.buckets import RESOURCES
from heliograph.bus.contract.event import Event, encode
from heliograph.bus.contract.payloads import Generation, Offer, Report
from heliograph.bus.contract.resources import DatasetIndex
from heliograph.bus.contract.topics import REPORT
from heliograph.bus.transport import Message
from heliograph.coordinator.coordinator import Coordinator, CoordinatorConfig
from heliograph.coordinator.edges.presence import PREFIX
from heliograph.simulations.check.replay_stage import CLOUD_URL, ReplayStage
from heliograph.simulations.virtual.loop import Process, VirtualLoop
from heliograph.simulations.virtual.loop import run as run_virtually

DATASETS = 100
"""Data sets that the edges share."""
SETTLED = 120.0
"""Virtual seconds in which the coordinator writes what it has heard, and resyncs."""


def edges(number: int = 10_000) -> Samples:
    """Return ``memory``, the megabytes that are resident once so many edges are online and have reported, and
    ``first``, those before. Raise RuntimeError where the coordinator does not show every edge online."""
    first, memory = run_virtually(lambda loop: _report(loop, number))
    return {"memory": [memory / 1e6], "first": [first / 1e6]}


async def _report(loop: VirtualLoop, number: int) -> tuple[int, int]:
    stage, process = ReplayStage(loop), Process("coordinator")
    config = CoordinatorConfig(CLOUD_URL, CLOUD_URL, CLOUD_URL)
    coordinator = process.context.run(Coordinator, config, stage.worlds.world(process), stage.observe_output)
    stage.run(process, coordinator.run())
    await stage.wait_until(10.0)
    first = resident_alone(os.getpid())
    for each in range(number):
        edge = f"edge-{each:05}"
        address = REPORT.at(edge=edge)
        stage.hub.joined(f"{PREFIX}{edge}")
        stage.hub.publish(address, Message(address, _body(edge, each)))
        await stage.wait_until(loop.time() + 0.005)
    await stage.wait_until(loop.time() + SETTLED)
    online = sum(json.loads(entry.value)["status"]["online"] for key, entry in stage.hub.buckets[RESOURCES].items()
                 if key.startswith("edges."))  # fmt: skip
    if online != number or stage.failures:
        raise RuntimeError(f"{online} of {number} edges are online; {stage.failures[:3]}")
    return first, resident_alone(os.getpid())


def _body(edge: str, number: int) -> bytes:
    index = DatasetIndex(name=f"digits-{number % DATASETS}", samples=1000, digest=f"{number:064x}", format="npz",
                         columns={"x": "float32[64]", "y": "int64[]"}, size=1_000_000)  # fmt: skip
    report = Report(edge=edge, observed=Generation(), version="0.2.0", datasets=[index],
                    offers=Offer(frameworks={"numpy": "2.1.0"}), labels={"site": "berlin"})  # fmt: skip
    event = Event(id=f"{number}", source=f"{edge}/agent/1", type=REPORT.type, time="2026-01-01T00:00:00Z",
                  data=report.model_dump(mode="json", exclude_none=True), subject=REPORT.at(edge=edge))  # fmt: skip
    return encode(event, "msgpack")
