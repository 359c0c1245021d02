"""Desired documents: each agent gets fields that its version reads, and no document is written twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.payloads import Desired, Generation, TrainTask, WorkerTask
from heliograph.bus.contract.payloads.base import MAX_COUNT
from heliograph.bus.contract.versions import Version
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.coordinator.edges import readers
from heliograph.coordinator.edges.desired import DesiredWriter
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.world import World

TASK = TrainTask(worker="w", job="j", job_uid="u", round=1, framework="torch")


@dataclass
class Cloud:
    """A writer, the versions that its agents report, and the warnings."""

    bus: Bus
    versions: dict[str, str] = field(default_factory=dict)
    warned: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        port = Port(self.bus, World(), "cloud/coordinator/x")
        self.writer = DesiredWriter(port, 1, lambda edge: self.versions.get(edge, ""), self.warned.append)

    async def write(self, tasks: list[WorkerTask], *edges: str) -> None:
        await self.writer.write({edge: (tasks, {}) for edge in edges})

    async def written(self, edge: str) -> dict[str, Any]:
        message = await self.bus.last(topics.TASK.at(edge=edge))
        assert message is not None
        found: dict[str, Any] = decode(message.body).data
        return found


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    world = World()
    async with connect(f"memory://desired-{world.new_id()}", world=world) as bus:
        await bus.prepare()
        yield Cloud(bus)


@pytest.fixture
def framework_is_new(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make ``framework`` a field that version 0.3 has added to tasks."""

    def left_out(model: object, reader: Version) -> dict[str, Any] | None:
        return {"tasks": {"__all__": {"framework"}}} if reader < (0, 3) else None

    readers.reader_of.cache_clear()
    monkeypatch.setattr(readers, "left_out", left_out)
    yield
    readers.reader_of.cache_clear()


@pytest.mark.usefixtures("framework_is_new")
async def test_a_field_is_left_out_for_an_agent_that_does_not_know_it(cloud: Cloud) -> None:
    cloud.versions = {"old": "0.2.4", "new": "0.3.0"}
    await cloud.write([TASK], "old", "new", "silent")
    for edge, knows in (("old", False), ("silent", False), ("new", True)):
        (task,) = (await cloud.written(edge))["tasks"]
        assert ("framework" in task) is knows, edge
        assert task["worker"] == "w"


@pytest.mark.usefixtures("framework_is_new")
async def test_only_an_upgraded_agents_document_is_written_anew(cloud: Cloud) -> None:
    cloud.versions = {"a": "0.2.4", "b": "0.2.4", "c": "0.3.0"}
    await cloud.write([TASK], "a", "b", "c")
    before = {edge: (await cloud.written(edge))["generation"] for edge in "abc"}
    cloud.versions |= {"a": "0.3.0", "b": "0.2.5"}
    await cloud.write([TASK], "a", "b", "c")
    after = {edge: (await cloud.written(edge))["generation"] for edge in "abc"}
    assert [edge for edge in "abc" if before[edge] != after[edge]] == ["a"]
    assert "framework" in (await cloud.written("a"))["tasks"][0]


async def test_an_unchanged_document_is_not_written_again(cloud: Cloud) -> None:
    await cloud.write([TASK], "a")
    first = await cloud.written("a")
    await cloud.write([TASK.model_copy()], "a")
    assert await cloud.written("a") == first
    await cloud.write([], "a")
    assert (await cloud.written("a"))["generation"]["n"] == first["generation"]["n"] + 1


async def test_documents_are_signed_with_the_epoch_inside_and_what_others_wrote_is_replaced(cloud: Cloud) -> None:
    signer = Ed25519Signer(bytes(32))
    port = Port(cloud.bus, World(), "cloud/coordinator/y")
    forged = Desired(edge="edge-1", generation=Generation(epoch=1 << 40, n=1))
    await port.publish(topics.TASK, forged, edge="edge-1")
    await DesiredWriter(port, 3, signer=signer).write({"edge-1": ([TASK], {})})
    message = await cloud.bus.last(topics.TASK.at(edge="edge-1"))
    assert message is not None
    received = port.read(topics.TASK, message)
    received.check_signature((signer.public,), "the coordinator")
    assert received.payload.generation == Generation(epoch=3, n=1)


async def test_a_newer_coordinator_with_the_same_key_is_not_overwritten(cloud: Cloud) -> None:
    signer = Ed25519Signer(bytes(32))
    port = Port(cloud.bus, World(), "cloud/coordinator/y")
    await DesiredWriter(port, 4, signer=signer).write({"edge-1": ([TASK], {})})
    older = DesiredWriter(port, 3, signer=signer)
    await older.write({"edge-1": ([], {})})
    assert older.unpublished == {"edge-1"}
    assert (await cloud.written("edge-1"))["generation"] == {"epoch": 4, "n": 1}


class Restored:
    """A cloud of epoch 3 whose edge has what a later epoch, of the cloud's earlier life, wrote for it."""

    def __init__(self, cloud: Cloud, newest: bool = True) -> None:
        self.cloud = cloud
        self.port = Port(cloud.bus, World(), "cloud/coordinator/y")
        self.signer = Ed25519Signer(bytes(32))
        self.observed: dict[str, Generation] = {}
        self.warned: list[str] = []

        async def is_newest() -> bool:
            return newest

        self.writer = DesiredWriter(self.port, 3, signer=self.signer, warn=self.warned.append, is_newest=is_newest,
                                    observed=lambda edge: self.observed.get(edge, Generation()))  # fmt: skip

    async def write(self, *tasks: WorkerTask) -> tuple[int, int]:
        """Write until nothing is left to write; return the generation that edge-1 has then."""
        await self.writer.write({"edge-1": ([*tasks], {})})
        if self.writer.unpublished:
            await self.writer.write({"edge-1": ([*tasks], {})})
        found = (await self.cloud.written("edge-1"))["generation"]
        return found["epoch"], found["n"]

    async def replay(self, epoch: int, n: int) -> None:
        """Publish a document that was recorded earlier, as whoever may publish there can."""
        desired = Desired(edge="edge-1", generation=Generation(epoch=epoch, n=n))
        await self.port.publish(topics.TASK, desired, edge="edge-1", signer=self.signer)


@pytest.mark.parametrize(("observed", "epoch"), [((9, 4), 10), ((3, 4), 4), ((2, 100), 3), ((0, 0), 3)])
async def test_a_rebuilt_clouds_first_document_is_above_what_the_edge_reports(
    cloud: Cloud, observed: tuple[int, int], epoch: int
) -> None:
    it = Restored(cloud)
    it.observed["edge-1"] = Generation(epoch=observed[0], n=observed[1])
    assert await it.write(TASK) == (epoch, 1)
    assert len(it.warned) == (epoch > 3)


async def test_an_edge_that_reports_late_gets_a_document_above_its_own_and_others_do_not(cloud: Cloud) -> None:
    it = Restored(cloud)
    wanted: dict[str, Any] = {"edge-1": ([TASK], {}), "edge-2": ([TASK], {})}
    await it.writer.write(wanted)
    other = await cloud.written("edge-2")
    it.observed["edge-1"] = Generation(epoch=1000, n=7)
    assert it.writer.is_ahead("edge-1") and not it.writer.is_ahead("edge-2")
    await it.writer.write(wanted)
    assert (await cloud.written("edge-1"))["generation"] == {"epoch": 1001, "n": 3}
    assert await cloud.written("edge-2") == other
    it.observed["edge-1"] = Generation(epoch=1001, n=3)
    before = await cloud.written("edge-1")
    await it.writer.write(wanted)
    assert await cloud.written("edge-1") == before
    assert len(it.warned) == 1 and "edge edge-1 has a document of a later epoch than this cloud's 3" in it.warned[0]


async def test_a_recorded_document_of_a_later_epoch_is_replaced(cloud: Cloud) -> None:
    it = Restored(cloud)
    await it.replay(50, 2)  # before this coordinator has written
    assert await it.write(TASK) == (51, 2)
    await it.replay(90, 1)  # and after; the edge takes it
    it.observed["edge-1"] = Generation(epoch=90, n=1)
    assert (await it.write(TASK))[0] == 91


async def test_a_recorded_document_of_an_earlier_epoch_is_replaced_where_an_edge_took_it(cloud: Cloud) -> None:
    """One that starts with an empty state takes any that the coordinator has signed."""
    it = Restored(cloud)
    await it.write(TASK)
    await it.writer.restore(["edge-1"])  # has not taken it yet: that is no replay
    assert not it.writer.unpublished
    await it.replay(2, 9)
    it.observed["edge-1"] = Generation(epoch=2, n=9)
    await it.writer.restore(["edge-1"])
    assert it.writer.unpublished == {"edge-1"}
    assert await it.write(TASK) == (3, 3)
    it.observed["edge-1"] = Generation(epoch=3, n=3)
    await it.writer.restore(["edge-1"])
    assert not it.writer.unpublished


async def test_a_coordinator_that_another_has_replaced_goes_above_nobody(cloud: Cloud) -> None:
    it = Restored(cloud, newest=False)
    await it.replay(4, 1)
    await it.write(TASK)
    assert it.writer.unpublished == {"edge-1"}
    assert (await cloud.written("edge-1"))["generation"] == {"epoch": 4, "n": 1}


async def test_an_edge_that_reports_the_last_epoch_steers_only_itself(cloud: Cloud) -> None:
    it = Restored(cloud)
    it.observed["edge-1"] = Generation(epoch=MAX_COUNT, n=MAX_COUNT)
    await it.writer.write({"edge-1": ([TASK], {}), "edge-2": ([TASK], {})})
    assert [(await cloud.written(edge))["generation"]["epoch"] for edge in ("edge-1", "edge-2")] == [3, 3]


async def test_a_thousand_edges_of_a_lost_cloud_make_four_lines(cloud: Cloud) -> None:
    it = Restored(cloud)
    wanted: dict[str, Any] = {f"edge-{number}": ([], {}) for number in range(1000)}
    it.observed |= dict.fromkeys(wanted, Generation(epoch=9, n=1))
    await it.writer.write(wanted)
    assert [line.partition(" edges so far")[0].rpartition("(")[2] for line in it.warned] == ["1", "10", "100", "1000"]
