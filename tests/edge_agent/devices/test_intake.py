"""What a broker sends again after the agent was killed is known by its id and content: no event comes twice, and no new
one is taken for an earlier one of its id."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from heliograph.bus.contract.topics import BULK
from heliograph.core.tasks import Background
from heliograph.core.world import World
from heliograph.edge_agent.devices.intake import DeviceIntake
from heliograph.edge_agent.devices.message import DeviceMessage
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from tests.edge_agent.journals import Open
from tests.patience import HANGS


class Plain:
    """Makes an event of each message, as it came."""

    def event_of(self, message: DeviceMessage) -> NewEvent | None:
        return NewEvent(message.topic, message.body, BULK) if message.body else None


class Connection:
    """A connection to the broker, which takes acknowledgements while it is up."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.up = True
        self.told = asyncio.Event()

    def acknowledge(self, ids: Sequence[int]) -> bool:
        if self.up:
            self.acknowledged += ids
            self.told.set()
        return self.up

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Life:
    """One life of an agent, on the journal of the lives before."""

    def __init__(self, journal: Journal, said: list[str]) -> None:
        self.journal = journal
        self.background = Background(said.append)
        self.refused: list[str] = []
        self.intake = DeviceIntake(Plain(), journal, World(), self.background,
                                   lambda topic, error: self.refused.append(topic))  # fmt: skip
        self.connection = Connection()
        self.intake.source = self.connection
        self.intake.begin(is_known=True)

    def take(self, id: int, body: bytes, topic: str = "meter", **more: Any) -> None:
        self.intake.take(DeviceMessage(topic, body, id, **more))

    async def acknowledges(self, *ids: int) -> None:
        async with asyncio.timeout(HANGS):
            while len(self.connection.acknowledged) < len(ids):
                self.connection.told.clear()
                await self.connection.told.wait()
        assert self.connection.acknowledged == [*ids]

    @property
    def kept(self) -> list[bytes]:
        return [each.body for each in self.journal.read(BULK, 0, 10**6, 10**9).events]


async def test_what_was_journalled_and_not_acknowledged_is_acknowledged_when_it_comes_again(
    journal_at: Open, logged: list[str]
) -> None:
    before = Life(journal_at(), logged)
    before.connection.up = False  # the broker hears no acknowledgement
    for id in (1, 2, 3):
        before.take(id, b"%d" % id)
    await before.journal.append(NewEvent("end", b"end", BULK))
    after = Life(journal_at(), logged)
    for id in (1, 2, 3, 4):
        after.take(id, b"%d" % id, again=True)  # the 4th one the agent before had not taken
    after.take(5, b"5")
    await after.acknowledges(1, 2, 3, 4, 5)
    assert after.kept == [b"1", b"2", b"3", b"end", b"4", b"5"]
    assert (after.intake.redelivered, after.refused, logged) == (3, [], [])


@pytest.mark.parametrize(("topic", "body"), [("meter", b"2"), ("other", b"1")])
async def test_another_message_of_an_id_that_is_used_again_is_a_new_event(
    journal_at: Open, logged: list[str], topic: str, body: bytes
) -> None:
    before = Life(journal_at(), logged)
    before.take(1, b"1")
    await before.acknowledges(1)
    after = Life(journal_at(), logged)
    after.take(1, body, topic, again=True)
    await after.acknowledges(1)
    assert (after.kept, after.intake.redelivered) == ([b"1", body], 0)


async def test_the_same_content_that_is_published_again_is_a_new_event(journal_at: Open, logged: list[str]) -> None:
    it = Life(journal_at(), logged)
    for id in (1, 2, 1):
        it.take(id, b"on")
    await it.acknowledges(1, 2, 1)
    assert it.kept == [b"on"] * 3


async def test_where_the_broker_has_lost_the_session_its_ids_say_nothing(journal_at: Open, logged: list[str]) -> None:
    before = Life(journal_at(), logged)
    before.take(1, b"on")
    await before.acknowledges(1)
    after = Life(journal_at(), logged)
    after.intake.begin(is_known=False)
    async with asyncio.timeout(HANGS):
        while after.journal.last_serial():
            await asyncio.sleep(0)
    after.take(1, b"on", again=True)
    await after.acknowledges(1)
    assert after.kept == [b"on"] * 2


async def test_what_comes_again_while_its_commit_is_under_way_is_acknowledged_with_it(
    journal_at: Open, logged: list[str]
) -> None:
    it = Life(journal_at(), logged)
    it.take(1, b"on")
    it.take(1, b"on", again=True)
    await it.acknowledges(1, 1)
    assert (it.kept, it.intake.redelivered) == ([b"on"], 1)


async def test_messages_are_acknowledged_in_their_order_whatever_becomes_of_them(
    journal_at: Open, logged: list[str]
) -> None:
    it = Life(journal_at(), logged)
    it.take(1, b"on")
    it.take(2, b"")  # nothing to keep
    it.take(3, b"off", retained=True)
    it.take(4, b"on")
    assert it.connection.acknowledged == []  # the first is not on the disk
    await it.acknowledges(1, 2, 3, 4)
    assert (it.kept, it.refused, it.intake.refusals, it.intake.retained) == ([b"on"] * 2, ["meter"], 0, 1)
