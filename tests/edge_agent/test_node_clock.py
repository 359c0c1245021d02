"""A node whose clock was wrong: its events are marked once it has been set."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliograph.bus.contract.clock_offset import CLOCK_OFFSET, clock_offset, clock_offset_header, corrected
from heliograph.bus.contract.topics import BULK
from heliograph.core.world import World
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.node_clock import MOST, STEP, NodeClock

RIGHT = 1.8e9


class Clock:
    """A machine's clock, and the time since its start."""

    def __init__(self, now: float) -> None:
        self.now, self.uptime = now, 100.0
        self.world = World(now=lambda: self.now, monotonic=lambda: self.uptime)

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.uptime += seconds


class Node:
    """A journal on a machine, and the offset of each of its events by name."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path, self.clock = path, clock
        self.logged: list[str] = []
        self.journal = Journal(path, "edge-1", clock.world, warn=self.logged.append)

    async def append(self, *names: str) -> None:
        for name in names:
            await self.journal.append(NewEvent("event/telemetry/edge-1/d", name.encode(), BULK))

    def offsets(self) -> dict[str, int]:
        window = self.journal.read(BULK, 0, 1000, 10**9)
        return {each.body.decode(): round(self.journal.clock_offset(BULK, each.n)) for each in window.events}

    def restart(self) -> None:
        self.journal.close()
        self.journal = Journal(self.path, "edge-1", self.clock.world, warn=self.logged.append)


@pytest.fixture
async def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "journal.db", Clock(60.0))  # 1970


async def test_events_from_before_the_clock_was_set_are_marked_and_later_ones_are_not(node: Node) -> None:
    await node.append("a")
    node.clock.passes(30)
    await node.append("b")
    assert node.offsets() == {"a": 0, "b": 0}  # nobody knows yet
    node.clock.now = RIGHT
    by = round(RIGHT - 90)
    assert node.offsets() == {"a": by, "b": by}  # known without another event
    await node.append("c")
    node.clock.passes(3600)
    await node.append("d")
    assert node.offsets() == {"a": by, "b": by, "c": 0, "d": 0}
    (line,) = node.logged
    assert line.startswith(f"the node's clock was set by {by:+d} s; 2 events that wait have their times from before")
    node.journal.close()


async def test_a_clock_that_is_slewed_or_runs_marks_nothing(node: Node) -> None:
    await node.append("a")
    node.clock.passes(1e6)
    node.clock.now += STEP - 1
    await node.append("b")
    assert node.offsets() == {"a": 0, "b": 0} and node.logged == []
    node.journal.close()


async def test_a_clock_that_is_set_twice_and_back_counts_from_each_event(node: Node) -> None:
    await node.append("a")
    node.clock.now += 1000
    await node.append("b")
    node.clock.now -= 400
    await node.append("c")
    assert node.offsets() == {"a": 600, "b": -400, "c": 0}
    node.clock.now -= 600
    assert node.offsets() == {"a": 0, "b": -1000, "c": -600}
    node.journal.close()


async def test_what_is_known_of_a_boot_outlives_the_agent_and_the_boot(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = "first"
    monkeypatch.setattr(World, "boot", property(lambda _: boot))
    node.restart()
    await node.append("a")
    node.restart()  # in the same boot
    node.clock.now = RIGHT
    await node.append("b")
    by = round(RIGHT - 60)
    assert node.offsets() == {"a": by, "b": 0}
    boot = "second"
    node.clock.uptime = 5.0
    node.clock.now = 1000.0  # wrong again, by another amount
    node.restart()
    await node.append("c")
    assert node.offsets() == {"a": by, "b": 0, "c": 0}
    node.clock.now = RIGHT + 5000
    assert node.offsets() == {"a": by, "b": 0, "c": round(RIGHT + 5000 - 1000)}
    node.journal.close()


async def test_a_boot_whose_clock_was_never_set_marks_nothing(node: Node) -> None:
    await node.append("a")
    node.clock.now, node.clock.uptime = RIGHT, 5.0
    node.restart()  # no boot is known of this machine: each process counts for itself
    await node.append("b")
    assert node.offsets() == {"a": 0, "b": 0}
    node.journal.close()


async def test_events_keep_their_marks_when_they_get_other_numbers(node: Node) -> None:
    await node.append("a")
    node.clock.now = RIGHT
    await node.append("b")
    before = node.offsets()
    await node.journal.begin_above(7, {BULK: 0})
    assert node.offsets() == before == {"a": round(RIGHT - 60), "b": 0}
    node.journal.close()


@pytest.mark.parametrize("stored", [b"", b"[", b"{}", b"[[1]]", b'[["x", "y", []]]', b"\xff", b"[" * 100_000, b"null"])
def test_a_damaged_record_of_the_clock_counts_as_none(stored: bytes) -> None:
    assert NodeClock(stored, "boot").offset(BULK, 5, RIGHT) == 0.0


def test_a_clock_that_jumps_all_the_time_takes_bounded_memory() -> None:
    clock = NodeClock(b"", "boot")
    for n in range(10 * MOST):
        clock.observe(n * 100.0, {BULK: n})
    assert len(NodeClock(clock.encoded(), "boot").encoded()) < 100 * MOST


@pytest.mark.parametrize(
    ("time", "headers", "expected"),
    [
        ("1970-01-01T00:01:00.500000Z", clock_offset_header(1.8e9), "2027-01-15T08:01:00.500000Z"),
        ("2027-01-15T08:01:00Z", clock_offset_header(-60), "2027-01-15T08:00:00Z"),
        ("2027-01-15T08:01:00Z", {}, "2027-01-15T08:01:00Z"),
        ("2027-01-15T08:01:00Z", {CLOCK_OFFSET: "soon"}, "2027-01-15T08:01:00Z"),
        ("2027-01-15T08:01:00Z", {CLOCK_OFFSET: "inf"}, "2027-01-15T08:01:00Z"),
        ("2027-01-15T08:01:00Z", {CLOCK_OFFSET: "1e300"}, "2027-01-15T08:01:00Z"),
        ("yesterday", clock_offset_header(5), "yesterday"),
    ],
)
def test_a_reader_adds_what_is_known(time: str, headers: dict[str, str], expected: str) -> None:
    assert corrected(time, headers) == expected
    assert clock_offset(clock_offset_header(12.25)) == 12.25
