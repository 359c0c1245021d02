"""A journal that was put back from an earlier copy: its new events are no repeats."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from heliograph.bus.contract import topics
from heliograph.bus.contract.lanes import HighWaterMarks
from heliograph.bus.contract.topics import BULK, RESULTS
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.restored_journal import newest_opening
from heliograph.local.nats_server import Broker
from tests.edge_agent.test_forwarder import EDGE, TELEMETRY, Cloud
from tests.edge_agent.test_forwarder import cloud as cloud  # a fixture
from tests.patience import HANGS

OTHER = topics.TELEMETRY.at(edge=EDGE, device="other")
UPDATE = topics.MODEL_UPDATE.at(job="job", edge=EDGE)
COPY = "copy.db"


@pytest.fixture
async def lost(cloud: Cloud) -> AsyncIterator[Cloud]:
    """A cloud with events 1 to 200, and a copy of the journal from before them, in which events -2 to 0 waited."""
    journal = cloud.journal()
    for n in (-2, -1, 0):
        kept = journal.append(NewEvent(TELEMETRY, b"%d" % n, BULK))
    await kept
    journal.close()
    shutil.copy(cloud.directory / "journal.db", cloud.directory / COPY)
    journal = cloud.journal()
    await _append(journal, 1, 200)
    async with cloud.forwarding(journal):
        await cloud.received(topics.TELEMETRY.filter(), b"200")
    journal.close()
    for file in cloud.directory.glob("journal.db*"):
        file.unlink()
    (cloud.directory / COPY).rename(cloud.directory / "journal.db")
    yield cloud


async def _append(journal: Journal, first: int, last: int, topic: str = TELEMETRY, lane: int = BULK) -> None:
    for n in range(first, last + 1):
        kept = journal.append(NewEvent(topic, b"%d" % n, lane))
    await kept


@pytest.mark.parametrize("topic", [TELEMETRY, OTHER])
@pytest.mark.parametrize("waiting", [0, 120], ids=["nothing-waits", "events-wait"])
async def test_all_200_events_after_a_copy_was_put_back_are_stored_once(lost: Cloud, topic: str, waiting: int) -> None:
    journal = lost.journal()
    if waiting:
        await _append(journal, 201, 200 + waiting, topic)
    async with lost.forwarding(journal):
        await _append(journal, 201 + waiting, 400, topic)
        found = await lost.received(topics.TELEMETRY.filter(), b"400")
    marks = HighWaterMarks()
    assert [int(each.body) for each in found if marks.is_new(each.headers)] == [*range(-2, 401)]
    assert len(found) == 403  # none of them twice
    assert len([line for line in lost.logged if "an earlier copy" in line]) == 1
    journal.close()


async def test_another_device_than_before_the_copy_loses_nothing_either(cloud: Cloud) -> None:
    """Its own address in the cloud says nothing of the numbers."""
    cloud.journal().close()
    shutil.copy(cloud.directory / "journal.db", cloud.directory / COPY)
    journal = cloud.journal()
    await _append(journal, 1, 200)
    async with cloud.forwarding(journal):
        await cloud.received(topics.TELEMETRY.filter(), b"200")
    journal.close()
    for file in cloud.directory.glob("journal.db*"):
        file.unlink()
    (cloud.directory / COPY).rename(cloud.directory / "journal.db")
    journal = cloud.journal()
    async with cloud.forwarding(journal):
        await _append(journal, 201, 400, OTHER)
        await _append(journal, 401, 401)
        found = await cloud.received(topics.TELEMETRY.filter(), b"401")
    assert [int(each.body) for each in found] == [*range(1, 402)]
    journal.close()


async def test_the_next_start_says_nothing_and_goes_on_above(lost: Cloud) -> None:
    journal = lost.journal()
    async with lost.forwarding(journal):
        await _append(journal, 201, 210)
        await lost.received(topics.TELEMETRY.filter(), b"210")
    journal.close()
    said = len(lost.logged)
    journal = lost.journal()
    async with lost.forwarding(journal):
        await _append(journal, 211, 220)
        assert len(await lost.received(topics.TELEMETRY.filter(), b"220")) == 223
    assert len(lost.logged) == said
    journal.close()


async def test_both_lanes_leave_their_numbers(lost: Cloud) -> None:
    journal = lost.journal()
    await _append(journal, 1, 1, UPDATE, RESULTS)
    before = journal.opening
    async with lost.forwarding(journal) as bus:
        await bus.link.wait_up(HANGS)
        await lost.received(topics.MODEL_UPDATE.filter(), b"1")
        assert await newest_opening(bus, EDGE, journal) == journal.opening == before + 1
    journal.close()


async def test_a_machine_that_goes_back_while_its_agent_runs_loses_nothing(cloud: Cloud) -> None:
    """A snapshot of a virtual machine has the agent's memory too: its process knows nothing of what it sent since."""
    journal = cloud.journal()
    async with cloud.forwarding(journal) as bus:
        await _append(journal, 1, 100)
        await cloud.received(topics.TELEMETRY.filter(), b"100")
        journal.sent[BULK] -= 50  # as it was half-way
        cloud.relay.cut("reset")
        await bus.link.wait_down()
        await _append(journal, 101, 200)
        cloud.relay.restore()
        found = await cloud.received(topics.TELEMETRY.filter(), b"200")
    assert [int(each.body) for each in found] == [*range(1, 201)]
    assert len([line for line in cloud.logged if "an earlier copy" in line]) == 1
    journal.close()


async def test_another_edges_and_another_journals_events_count_for_nothing(
    broker: Callable[..., Awaitable[Broker]], lost: Cloud, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    fresh = Cloud(lost.broker, lost.watcher, lost.relay, tmp_path / "new")
    journal = fresh.journal()
    journal.close()
    journal = fresh.journal()
    async with fresh.forwarding(journal) as bus:
        await bus.link.wait_up(HANGS)
        assert await newest_opening(bus, EDGE, journal) == 0
        await _append(journal, 1000, 1001)
        await fresh.received(topics.TELEMETRY.filter(), b"1001")
    assert journal.opening == 2 and fresh.logged == []
    journal.close()
