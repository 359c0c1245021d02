"""Telemetry: a recording implementation receives every measurement; without one nothing is measured."""

from __future__ import annotations

import asyncio
import re
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.lanes import EXPECTED_LAST
from heliograph.bus.contract.topics import ANSWER
from heliograph.bus.transport import Outgoing
from heliograph.core import telemetry
from heliograph.core.errors import Conflict, Unreachable
from heliograph.core.telemetry import Add, Counter, Histogram, Span, Telemetry
from heliograph.core.world import World
from heliograph.inference.offload import Offloader
from heliograph.simulations.scenario import play
from heliograph.simulations.scenario.scenario_files import parse_scenario

EVENT = "event/telemetry/edge-1/camera"


class Recording(Telemetry):
    """A telemetry that keeps sums, values and the outcome of each span."""

    def __init__(self) -> None:
        self.sums: Tally[str] = Tally()
        self.values: dict[str, list[float]] = {}
        self.spans: list[tuple[str, str]] = []
        self.labels: dict[str, set[str]] = {}

    def counter(self, instrument: Counter, **labels: str) -> Add:
        self.labels.setdefault(instrument.name, set()).update(labels.values())

        def add(amount: float) -> None:
            self.sums[instrument.name] += int(amount)

        return add

    def histogram(self, instrument: Histogram, **labels: str) -> Add:
        return self.values.setdefault(instrument.name, []).append

    def span(self, instrument: Span, **labels: str) -> Callable[[], AbstractContextManager[object]]:
        @contextmanager
        def opened() -> Iterator[None]:
            try:
                yield
            except Exception as error:
                self.spans.append((instrument.name, type(error).__name__))
                raise
            self.spans.append((instrument.name, ""))

        return opened


def test_names_are_dotted_lower_case_and_hold_no_unit() -> None:
    names = [each.name for each in telemetry.INSTRUMENTS]
    assert len(set(names)) == len(names)
    for each in telemetry.INSTRUMENTS:
        assert re.fullmatch(r"heliograph(\.[a-z]+)+", each.name)
        assert re.fullmatch(r"s|By|\{[a-z]+\}", each.unit)
        assert each.text.endswith(".")


def test_by_default_nothing_is_taken() -> None:
    taken = World().telemetry
    add = taken.counter(telemetry.ROUNDS_CLOSED)
    add(1)
    assert add is taken.histogram(telemetry.JOURNAL_EVENTS)  # all instruments share one object
    with taken.span(telemetry.OFFLOAD)():
        pass


async def test_a_bus_counts_its_published_messages() -> None:
    recording = Recording()
    async with connect("memory://telemetry", world=World(telemetry=recording)) as bus:
        await bus.publish(EVENT, b"12345")
        await bus.publish("edge/a/up/log/agent/b", b"")
        await bus.publish_all([Outgoing(EVENT, b"1"), Outgoing(EVENT, b"23")])
        with pytest.raises(Conflict):
            await bus.publish(EVENT, b"not stored", headers={EXPECTED_LAST: "7"})
    with pytest.raises(Unreachable):
        await bus.publish(EVENT, b"lost")
    assert recording.sums == {"heliograph.bus.events": 4, "heliograph.bus.bytes": 8}
    assert recording.labels["heliograph.bus.events"] == {"memory"}


async def test_an_offload_is_a_span_with_its_outcome() -> None:
    recording = Recording()
    address = ANSWER.at(service="digits", edge="edge-1", client="app", id="1")
    async with connect("memory://offload") as cloud, cloud.subscribe("inference/#") as asked:
        offloader = Offloader(cloud, "digits", "app", recording)
        asking = asyncio.create_task(offloader.ask(b"{}", 3600))
        await anext(asked)
        await cloud.publish(address, b'{"result": 1}')
        assert await asking == {"result": 1}
        with pytest.raises(Unreachable):
            await offloader.ask(b"{}", 0)
        await offloader.close()
    assert recording.spans == [("heliograph.inference.offload", ""), ("heliograph.inference.offload", "TimeoutError")]


def test_a_run_measures_its_rounds_launches_and_commits() -> None:
    recording = Recording()
    scenario = parse_scenario({"name": "x", "duration": 600, "edges": [{"number": 3}], "data": {"set": "synthetic"},
                               "jobs": [{"name": "one", "rounds": 2, "training": {"hidden": 8}}]})  # fmt: skip
    play.play_virtual(play.RunRequest(scenario, 1, telemetry=recording))
    assert recording.sums["heliograph.round.closed"] == 3  # round 0 makes the initial weights
    assert recording.sums["heliograph.worker.launches"] == 5  # three train, one aggregates, one evaluates
    assert recording.labels["heliograph.worker.launches"] == {"train", "aggregate", "evaluate"}
    commits = recording.values["heliograph.journal.commit.events"]
    assert recording.sums["heliograph.journal.commits"] == len(commits) > 0
    assert sum(commits) >= 6  # an update of each edge in each round
    assert recording.sums["heliograph.bus.events"] > 0
