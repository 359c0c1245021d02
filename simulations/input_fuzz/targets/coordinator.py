"""What the coordinator makes of reports, and of the state that it finds in its buckets."""

from __future__ import annotations

import asyncio
import json
import random  # noqa: TID251 only its type: the generator is seeded
from pathlib import Path
from typing import Any

from heliograph.bus.contract.event import decode, parse
from heliograph.bus.contract.payloads import Report
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import Edge, Metadata
from heliograph.bus.contract.topics import REPORT
from heliograph.bus.memory.bus import MemoryBus
from heliograph.bus.memory.hub import Hub
from heliograph.coordinator.cloud_format import FORMAT, PLACE
from heliograph.coordinator.edges.readers import reader_of
from heliograph.coordinator.edges.reported import algorithms_of, datasets_of, edge_of
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.leadership import ObservedLease
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import HeliographError
from heliograph.core.failures import Failures
from heliograph.core.state_format import StateFormat, present, steps
from heliograph.core.world import World
from heliograph.simulations.input_fuzz.mutate import mutate_bytes
from heliograph.simulations.input_fuzz.target import Target
from heliograph.simulations.input_fuzz.targets.documents import event_tree, forms

NOW = "2026-01-01T00:00:00Z"


def _report(rng: random.Random) -> dict[str, Any]:
    return event_tree(REPORT, rng)


def _read_report(body: bytes, scratch: Path) -> None:
    """Translate a report into resources: each can be stored and read again."""
    report: Report = REPORT.validate(decode(body, "edge/edge-1/up/report").data, "edge/edge-1/up/report")
    asyncio.run(_translate(report))


async def _translate(report: Report) -> None:
    world = World()
    hub = Hub(lambda: 0.0)
    bucket = await MemoryBus("memory://fuzz", "heliograph", world, "fuzz", hub).kv("resources")
    store = ResourceStore(bucket, world)
    reader_of(report.version)
    view = View({"edge-1": EdgeView("edge-1", True, report)}, {})
    view.algorithms("edge-1")
    failures = Failures(lambda line: None)
    edge = edge_of(Edge(metadata=Metadata(name="edge-1")), report, True, 0, NOW)
    reports = {"edge-1": report}
    for resource in [edge, *datasets_of(store, reports, NOW), *algorithms_of(store, reports, failures)]:
        stored = resource.model_dump_json(by_alias=True, exclude_none=True).encode()
        try:
            parse_resource(parse(stored, "stored"), "stored")
        except HeliographError as error:
            raise AssertionError(f"stored, it cannot be read again: {error}") from None


def _state(rng: random.Random) -> bytes:
    lease = json.dumps({"holder": "coordinator", "incarnation": "1"}).encode()
    return rng.choice((lease, present(FORMAT).dump(), b"17"))


def _read_state(body: bytes, scratch: Path) -> None:
    from heliograph.bus.transport import KeyValueEntry
    from heliograph.coordinator.leadership import epoch_in

    entry = KeyValueEntry("leader", body, 7)
    ObservedLease().observe(entry, 1.0).seconds_until_free("me", 2.0)
    assert epoch_in(entry) >= 0
    steps(StateFormat.parse(body, PLACE), FORMAT, PLACE)


_REPORT = forms(_report)
TARGETS = (
    Target("report", _REPORT[0], _read_report, _REPORT[1]),
    Target("coordinator-state", _state, _read_state, lambda rng: mutate_bytes(rng, _state(rng), _state(rng))),
)
