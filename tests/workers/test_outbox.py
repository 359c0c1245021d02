"""A worker's outbox keeps each event and sends it again until the agent has it on disk, once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import Event, decode, encode, is_signed
from heliograph.bus.contract.payloads import Ack, Annotation, HardSample
from heliograph.bus.transport import Message
from heliograph.core.errors import Refused
from heliograph.core.tasks import cancel_and_wait
from heliograph.workers.outbox import RESEND_AFTER, RESEND_SOON, RESEND_SOON_FOR, WINDOW, Outbox

WORKER, LIFE, KEY = "job-worker", "life", b"k" * 32
ACK = topics.WORKER_ACK.at(worker=WORKER)


class Sending:
    """An outbox, and the messages that its agent receives."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.port = node.port("memory://node", WORKER, f"edge-1/{WORKER}/{LIFE}")
        self.outbox = Outbox(self.port, WORKER, LIFE, KEY)
        self.heard: list[Message] = []
        node.broker.receivers.add("edge/#", "", self.heard.append)

    @property
    def numbers(self) -> list[int | None]:
        return [event.sequence for event in self.events]

    @property
    def events(self) -> list[Event]:
        return [decode(each.body) for each in self.heard]

    async def send(self, *labels: str) -> None:
        for label in labels:
            await self.outbox.send(topics.LABEL, _label(label), edge="edge-1", job="job")

    async def acknowledge(
        self, sequence: int, incarnation: str = LIFE, key: bytes | None = KEY, topic: str = ACK, about: str = ACK
    ) -> None:
        event = self.node.node.event(topics.WORKER_ACK, Ack(incarnation=incarnation, sequence=sequence), about)
        self.node.publish(topic, encode(event, key=key))
        await self.node.settled()


def _sending(on_node: Any, test: Callable[[Sending], Any]) -> None:
    async def main(node: Any) -> None:
        it = Sending(node)
        await it.port.bus.open()
        await it.outbox.open()
        await asyncio.sleep(RESEND_SOON_FOR)  # the connection no longer counts as new
        await test(it)
        await it.outbox.close()

    on_node(main)


def test_events_are_numbered_signed_and_kept_until_they_are_acknowledged(on_node: Any) -> None:
    async def test(it: Sending) -> None:
        await it.send("a", "b", "c")
        assert (it.numbers, it.outbox.sent, it.outbox.acknowledged) == ([1, 2, 3], 3, 0)
        assert [event.data["labeller"] for event in it.events] == ["a", "b", "c"]
        assert all(is_signed(each.body, KEY) for each in it.heard)
        await it.acknowledge(2)
        assert it.outbox.acknowledged == 2
        await it.acknowledge(1)  # an earlier acknowledgement that comes late
        assert it.outbox.acknowledged == 2
        await it.acknowledge(3)
        assert (it.outbox.sent, it.outbox.acknowledged) == (3, 3)
        await it.outbox.flush()

    _sending(on_node, test)


def test_an_acknowledgement_of_an_earlier_incarnation_is_ignored(on_node: Any) -> None:
    async def test(it: Sending) -> None:
        await it.send("a", "b")
        await it.acknowledge(2, "earlier")
        assert it.outbox.acknowledged == 0

    _sending(on_node, test)


@pytest.mark.parametrize(
    "how",
    [
        {"key": None},
        {"key": b"x" * 32},
        {"topic": topics.ACK.at(producer=WORKER)},
        {"about": topics.WORKER_ACK.at(worker="another")},
        {"sequence": 3},
    ],
    ids=["unsigned", "another-key", "a-devices-topic", "another-workers", "not-sent-yet"],
)
def test_an_acknowledgement_that_the_agent_did_not_send_is_ignored(on_node: Any, how: Any) -> None:
    async def test(it: Sending) -> None:
        await it.send("a", "b")
        await it.acknowledge(**{"sequence": 2, **how})
        assert it.outbox.acknowledged == 0
        assert "topic" in how or any("an acknowledgement was refused" in line for line in it.node.logged)
        await it.acknowledge(2)
        assert it.outbox.acknowledged == 2

    _sending(on_node, test)


def test_unacknowledged_events_are_sent_again_in_order_after_silence(on_node: Any) -> None:
    async def test(it: Sending) -> None:
        await it.send("a", "b", "c")
        await it.acknowledge(1)
        await asyncio.sleep(2.5 * RESEND_AFTER)
        assert it.numbers == [1, 2, 3, 2, 3]
        assert it.heard[1].body == it.heard[3].body  # the same event, not a new one
        await it.acknowledge(3)
        await asyncio.sleep(10 * RESEND_AFTER)
        assert it.numbers == [1, 2, 3, 2, 3]

    _sending(on_node, test)


def test_while_the_agent_makes_progress_nothing_is_sent_again(on_node: Any) -> None:
    async def test(it: Sending) -> None:
        await it.send(*"abcdefgh")
        for number in range(1, 9):
            await asyncio.sleep(0.6 * RESEND_AFTER)
            await it.acknowledge(number)
        assert it.numbers == list(range(1, 9))

    _sending(on_node, test)


def test_events_sent_while_the_nodes_broker_was_away_are_sent_again_soon_after_its_return(on_node: Any) -> None:
    async def test(it: Sending) -> None:
        it.port.bus.lost()
        await it.send("a", "b")
        await asyncio.sleep(9.5 * RESEND_AFTER)
        assert it.numbers == []
        it.port.bus.connect()
        await asyncio.sleep(1.5 * RESEND_SOON)
        assert it.numbers == [1, 2]

    _sending(on_node, test)


def test_the_time_in_which_the_nodes_broker_was_away_is_no_pace_of_the_link(on_node: Any) -> None:
    async def test(it: Sending) -> None:
        await it.send("a")
        it.port.bus.lost()
        await asyncio.sleep(4.5 * RESEND_AFTER)
        it.port.bus.connect()
        await it.acknowledge(1)  # it was on the disk, and the acknowledgement was lost
        await asyncio.sleep(RESEND_SOON_FOR)
        await it.send("b")
        await asyncio.sleep(1.5 * RESEND_AFTER)
        assert it.numbers == [1, 2, 2]

    _sending(on_node, test)


def test_what_was_not_sent_is_sent_soon_also_on_a_slow_link(on_node: Any) -> None:
    async def test(it: Sending) -> None:
        it.port.bus.link.pace.acknowledged(1000, 10.0)
        it.port.bus.lost()
        await it.send(*"abcdefgh")
        it.port.bus.connect()
        await asyncio.sleep(1.5 * RESEND_SOON)
        assert it.numbers == list(range(1, 9))
        await asyncio.sleep(5 * RESEND_AFTER)  # now they are under way, for longer than that
        assert it.numbers == list(range(1, 9))

    _sending(on_node, test)


def test_a_full_window_waits_for_acknowledgements(on_node: Any) -> None:
    async def test(it: Sending) -> None:
        sending = it.node.start(it.send(*(str(number) for number in range(WINDOW + 2))))
        await it.node.settled()
        assert (it.outbox.sent, sending.done()) == (WINDOW, False)
        await it.acknowledge(1)
        assert (it.outbox.sent, sending.done()) == (WINDOW + 1, False)
        await it.acknowledge(WINDOW)
        assert (it.outbox.sent, sending.done()) == (WINDOW + 2, True)
        assert it.numbers == list(range(1, WINDOW + 3))

    _sending(on_node, test)


def test_flush_returns_when_all_is_on_the_agents_disk(on_node: Any) -> None:
    async def test(it: Sending) -> None:
        await it.outbox.flush()
        await it.send("a", "b")
        flushing = it.node.start(it.outbox.flush())
        await it.acknowledge(1)
        assert not flushing.done()
        await it.acknowledge(2)
        assert flushing.done()

    _sending(on_node, test)


def test_an_event_that_is_too_large_is_refused_and_takes_no_number(on_node: Any) -> None:
    async def test(it: Sending) -> None:
        await it.send("a")
        address = topics.HARD_SAMPLE.at(job="job", edge="edge-1")
        with pytest.raises(Refused) as refused:
            sample = HardSample(job="job", edge="edge-1", sample="s", scores=[0.5] * 800_000)
            await it.outbox.send(topics.HARD_SAMPLE, sample, job="job", edge="edge-1")
        assert (refused.value.code, refused.value.topic) == ("too-large", address)
        await it.send("b")
        assert it.numbers == [1, 2]
        await it.acknowledge(2)
        await it.outbox.flush()

    _sending(on_node, test)


def test_after_its_end_nothing_is_sent_again(on_node: Any) -> None:
    async def test(it: Sending) -> None:
        await it.send("a")
        await it.outbox.close()
        it.port.bus.lost()
        it.port.bus.connect()
        await asyncio.sleep(10 * RESEND_AFTER)
        assert it.numbers == [1]
        await it.outbox.open()

    _sending(on_node, test)


_FATE = st.sampled_from(["through", "lost", "unacknowledged", "twice"])


@given(fates=st.lists(_FATE, max_size=60), pauses=st.lists(st.floats(0, 2 * RESEND_AFTER), min_size=1, max_size=10))
@settings(max_examples=60, deadline=None)
def test_despite_losses_and_repeats_the_agent_has_each_event_once_and_in_order(
    on_node: Any, fates: list[str], pauses: list[float]
) -> None:
    async def test(it: Sending) -> None:
        left, kept = list(fates), [0]

        def arrive(message: Message) -> None:
            """Accept only the next number, but acknowledge every message, like the gateway."""
            fate = left.pop(0) if left else "through"
            if fate == "lost":
                return
            if decode(message.body).sequence == kept[-1] + 1:
                kept.append(kept[-1] + 1)
            for _ in range({"through": 1, "unacknowledged": 0, "twice": 2}[fate]):
                acks.put_nowait(kept[-1])

        async def acknowledge() -> None:
            while True:
                await it.acknowledge(await acks.get())

        acks: asyncio.Queue[int] = asyncio.Queue()
        it.node.broker.receivers.add("edge/#", "", arrive)
        acknowledging = it.node.start(acknowledge())
        for pause in pauses:
            await it.send("a", "b")
            await asyncio.sleep(pause)
        await it.outbox.flush()
        assert kept == list(range(2 * len(pauses) + 1))
        assert it.outbox.acknowledged == it.outbox.sent == 2 * len(pauses)
        await cancel_and_wait(acknowledging)

    _sending(on_node, test)


def _label(labeller: str) -> Annotation:
    return Annotation(job="job", queue_uid="u", task="0" * 64, annotation="a", labeller=labeller, source="model")
