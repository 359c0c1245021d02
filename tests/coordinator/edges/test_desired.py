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
