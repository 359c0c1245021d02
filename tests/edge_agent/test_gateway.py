"""The gateway accepts each event once, in order and only from its producer, and acknowledges it from disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import Event, decode, encode, is_signed
from heliograph.bus.contract.payloads import AnyData, HardSample, InferenceSpec, InferTask, TrainTask, WorkerTask
from heliograph.bus.contract.topics import BULK, RESULTS
from heliograph.core.errors import Refused
from heliograph.edge_agent.devices.mapping import DeviceMapping
from heliograph.edge_agent.devices.node_devices import NodeDevices
from heliograph.edge_agent.gateway import Gateway
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.producers import ProducerWatch
from heliograph.edge_agent.supervised_worker import Worker
from heliograph.workers.outbox import Outbox
from tests.virtual_node import NODE

EDGE, WORKER, SECRET = "edge-1", "job-worker", b"s" * 32
UPDATE = topics.MODEL_UPDATE.at(job="job", edge=EDGE)
EVENTS = 6


class Gated:
    """A running gateway on a node."""

    def __init__(self, node: Any, quota: int = 1 << 20) -> None:
        self.node = node
        self.journal = Journal(Path("/simulated/journal.db"), EDGE, node.world, quota, node.logged.append)
        self.workers = {WORKER: Worker(_train(), SECRET)}
        self.refused: list[tuple[str, Refused]] = []
        self.said: list[str] = []
        self.watch = ProducerWatch(self.said.append)
        self.gateway = Gateway(node.node, EDGE, self.journal, self.workers, node.background,
                               lambda topic, error: self.refused.append((topic, error)), self.watch)  # fmt: skip
        self.devices = NodeDevices(node.node.bus, EDGE, f"{EDGE}/agent/life", self.journal, self.watch, node.world,
                                   node.background, lambda topic, error: self.refused.append((topic, error)),
                                   node.logged.append, DeviceMapping("heliograph", EDGE))  # fmt: skip
        self.on_disk: list[tuple[int, int]] = []
        """Each acknowledgement's number, with the number of the producer's events on disk at that time."""
        node.broker.receivers.add("ack/#", "", self._acknowledged)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = [self.node.start(part.run()) for part in (self.gateway, self.devices)]
        await self.gateway.listening.wait()
        await self.devices.source.listening.wait()
        yield
        await self.node.settled()
        for each in running:
            each.cancel()
        self.journal.close()

    def say(self, sequence: int | None, *, incarnation: str = "life", key: bytes | None = SECRET, edge: str = EDGE,
            worker: str = WORKER, topic: str = UPDATE, data: Any = None, subject: str = "") -> None:  # fmt: skip
        """Publish a worker's event."""
        source, data = f"{edge}/{worker}/{incarnation}", data or {"number": sequence}
        event = Event(f"id-{sequence}", source, topics.MODEL_UPDATE.type, data, self.node.world.timestamp(),
                      subject or topic, sequence=sequence)  # fmt: skip
        self.node.publish(topic, encode(event, key=key))

    def measure(self, sequence: int, *, device: str = "meter", incarnation: str = "life", id: str = "") -> None:
        """Publish a numbered event of a device."""
        topic = topics.TELEMETRY.at(edge=EDGE, device=device)
        event = Event(id or f"id-{sequence}", f"{EDGE}/{device}/{incarnation}", topics.TELEMETRY.type,
                      {"number": sequence}, "", topic, sequence=sequence)  # fmt: skip
        self.node.publish(topic, encode(event))

    async def done(self) -> None:
        """Wait until the published events are handled and acknowledged."""
        await asyncio.sleep(1)

    def kept(self, lane: int = RESULTS) -> list[Event]:
        return [decode(each.body) for each in self.journal.read(lane, 0, 10**6, 10**9).events]

    @property
    def codes(self) -> list[str]:
        return [f"{error.code} {error.field}" for _, error in self.refused]

    def _acknowledged(self, message: Any) -> None:
        ack = decode(message.body).data
        name = message.topic.removeprefix("ack/")
        if name.startswith("worker/"):
            assert is_signed(message.body, self.workers[name.removeprefix("worker/")].secret)
        producer = name if name.startswith("worker/") else f"device/{name}"
        self.on_disk.append((ack["sequence"], self.journal.committed(producer, ack["incarnation"])))


def _train() -> WorkerTask:
    return TrainTask(worker=WORKER, job="job", job_uid="u", round=1)


def _gated(on_node: Callable[..., Any], test: Callable[[Gated], Any], quota: int = 1 << 20) -> None:
    async def main(node: Any) -> None:
        gated = Gated(node, quota)
        async with gated.running():
            await test(gated)

    on_node(main)


_DELIVERIES = st.lists(
    st.one_of(st.integers(1, EVENTS), st.just("pause"), st.just("restart")), min_size=1, max_size=40
)


@given(deliveries=_DELIVERIES)
@settings(max_examples=60, deadline=None)
def test_any_order_and_repetition_gives_each_event_once_and_in_order(
    on_node: Any, deliveries: list[int | str]
) -> None:
    async def main(node: Any) -> None:
        gated = Gated(node)
        async with gated.running():
            life, got = 0, {0: 0}
            for each in deliveries:
                if each == "pause":
                    await gated.done()
                elif each == "restart":
                    life += 1
                    got[life] = 0
                else:
                    gated.say(int(each), incarnation=f"life-{life}")
                    if each == got[life] + 1:
                        got[life] += 1
            await gated.done()
            for number in range(1, EVENTS + 1):  # the producer sends unacknowledged events again
                gated.say(number, incarnation=f"life-{life}")
            await gated.done()
            got[life] = EVENTS
            kept = [(each.source.rpartition("-")[2], each.sequence) for each in gated.kept()]
            assert kept == [(str(life), n) for life, most in got.items() for n in range(1, most + 1)]
            assert gated.on_disk[-1] == (EVENTS, EVENTS)
            assert all(acknowledged <= on_disk for acknowledged, on_disk in gated.on_disk)
            assert gated.refused == []

    on_node(main)


def test_a_repeated_event_or_one_behind_a_gap_gets_the_number_on_disk(on_node: Any) -> None:
    async def test(gated: Gated) -> None:
        gated.say(1)
        await gated.done()
        gated.say(1)
        await gated.done()
        gated.say(4)
        await gated.done()
        assert gated.on_disk == [(1, 1)] * 3
        assert [each.sequence for each in gated.kept()] == [1]

    _gated(on_node, test)


def test_events_that_come_together_are_acknowledged_together(on_node: Any) -> None:
    async def test(gated: Gated) -> None:
        for number in range(1, 101):
            gated.say(number)
        await gated.done()
        assert len(gated.kept()) == 100
        assert len(gated.on_disk) < 10

    _gated(on_node, test)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"key": b"x" * 32}, "forged mac"),
        ({"key": None}, "forged mac"),
        ({"worker": "nobody"}, "unknown-worker source"),
        ({"edge": "edge-2"}, "unknown-worker source"),
        ({"incarnation": "No_Label"}, "invalid source"),
        ({"topic": topics.MODEL_UPDATE.at(job="other", edge=EDGE)}, "wrong-job job"),
        ({"topic": topics.EVALUATION.at(job="job", edge=EDGE), "subject": UPDATE}, "forged subject"),
    ],
)
def test_a_result_is_taken_only_from_a_worker_that_this_agent_launched(on_node: Any, how: Any, code: str) -> None:
    async def test(gated: Gated) -> None:
        gated.say(1, **how)
        gated.say(1)
        await gated.done()
        assert gated.codes == [code]
        assert gated.refused[0][0] == how.get("topic", UPDATE)
        assert gated.gateway.refusals == 1
        assert [each.sequence for each in gated.kept()] == [1]

    _gated(on_node, test)


def test_after_a_restart_the_secret_of_the_launch_before_counts_no_more(on_node: Any) -> None:
    async def test(gated: Gated) -> None:
        gated.say(1)
        await gated.done()
        gated.workers[WORKER].secret = b"t" * 32
        gated.say(2)
        gated.say(1, incarnation="second", key=b"t" * 32)
        await gated.done()
        assert gated.codes == ["forged mac"]
        assert [each.source.rpartition("/")[2] for each in gated.kept()] == ["life", "second"]

    _gated(on_node, test)


def test_an_inference_worker_may_hand_hard_samples_to_the_job_that_its_service_names(on_node: Any) -> None:
    async def test(gated: Gated) -> None:
        spec = InferenceSpec(hard_samples_to="incremental")
        gated.workers[WORKER].task = InferTask(worker=WORKER, job="service", job_uid="u", generation=1, inference=spec)
        for number, job in enumerate(("incremental", "service"), 1):
            sample = HardSample(job=job, edge=EDGE, sample="s")
            gated.say(number, topic=topics.HARD_SAMPLE.at(job=job, edge=EDGE), data=sample.model_dump())
        gated.say(3, topic=topics.HARD_SAMPLE.at(job="another", edge=EDGE))
        await gated.done()
        assert [each.subject for each in gated.kept(BULK)] == [
            topics.HARD_SAMPLE.at(job=job, edge=EDGE) for job in ("incremental", "service")
        ]
        assert gated.codes == ["wrong-job job"]

    _gated(on_node, test)


def test_a_device_with_a_workers_name_and_incarnation_is_another_producer(on_node: Any) -> None:
    async def test(gated: Gated) -> None:
        acks = gated.node.heard(gated.node.broker, "ack/#")
        gated.say(1)
        await gated.done()
        for number in range(1, 9):  # with the worker's incarnation, as its acknowledgements show it
            gated.measure(number, device=WORKER)
        gated.say(2)
        gated.say(3)
        await gated.done()
        assert gated.codes == []
        assert [each.sequence for each in gated.kept()] == [1, 2, 3]
        assert [each.sequence for each in gated.kept(BULK)] == [*range(1, 9)]
        newest = {each.topic: decode(each.body).data["sequence"] for each in acks}
        assert newest == {topics.WORKER_ACK.at(worker=WORKER): 3, topics.ACK.at(producer=WORKER): 8}
        assert gated.said == [f"device {WORKER} on this node's broker: it uses incarnation life of worker {WORKER}"]

    _gated(on_node, test)


def test_a_device_whose_link_is_slow_sends_what_it_kept_in_an_outage_before_the_agent_gives_it_up(on_node: Any) -> None:
    async def test(gated: Gated) -> None:
        port = gated.node.port(NODE, "meter", f"{EDGE}/meter/life")
        outbox = Outbox(port, "meter", "life", None)
        await port.bus.open()
        await outbox.open()

        async def send(*numbers: int) -> None:
            for number in numbers:
                reading = AnyData.model_validate({"number": number})
                await outbox.send(topics.TELEMETRY, reading, edge=EDGE, device="meter")
            await asyncio.sleep(0.1)

        await send(1)
        port.bus.link.pace.acknowledged(1000, 10.0)
        port.bus.lost()
        await send(*range(2, 30))
        port.bus.connect()
        await send(30)
        await outbox.flush()
        assert [each.sequence for each in gated.kept(BULK)] == list(range(1, 31))
        assert (outbox.acknowledged, gated.said) == (30, [])
        await outbox.close()

    _gated(on_node, test)


def test_events_without_room_are_refused_and_later_accepted(on_node: Any) -> None:
    async def test(gated: Gated) -> None:
        gated.say(1, data={"filling": "x" * 3000})
        await gated.done()
        gated.say(2, data={"filling": "x" * 3000})
        await gated.done()
        assert gated.codes == ["not-kept "]
        assert gated.on_disk == [(1, 1)]
        await gated.journal.forget(RESULTS, gated.journal.read(RESULTS, 0, 10, 10**6).through)
        gated.say(2, data={"filling": "x" * 3000})
        await gated.done()
        assert gated.on_disk[-1] == (2, 2)

    _gated(on_node, test, quota=5000)


def test_a_defect_in_handling_one_message_costs_only_that_message(
    on_node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Journal.append

    def defective(journal: Journal, entry: NewEvent) -> Any:
        if b"bad" in entry.body:
            raise ZeroDivisionError
        return append(journal, entry)

    monkeypatch.setattr(Journal, "append", defective)

    async def test(gated: Gated) -> None:
        gated.say(1, incarnation="one", data={"n": "bad"})
        gated.say(1, incarnation="two", data={"n": "good"})
        await gated.done()
        assert [each.data for each in gated.kept()] == [{"n": "good"}]
        assert [type(error) for _, error in gated.refused] == [ZeroDivisionError]

    _gated(on_node, test)
