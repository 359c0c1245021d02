"""One suite for every transport, and what only some of them offer: streams, buckets, blobs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.resources import WeightsRef
from heliograph.bus.contract.topics import DEFAULT_ROOT, LOG, REQUEST, TASK, TELEMETRY
from heliograph.bus.nats import consumer as nats_consume
from heliograph.bus.nats.blobs import CHUNK, WINDOW
from heliograph.bus.nats.bulk import BulkLink
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.transport import BlobStore, Bus, Message
from heliograph.core.errors import Conflict, HeliographError, LinkDown, Refused, Unreachable
from heliograph.core.world import World
from heliograph.local import nats_server as embedded
from heliograph.local.nats_server import Broker, free_ports

PATIENCE = 10.0
EVENT = "event/telemetry/edge-1/camera"


class Running(Protocol):
    pid: int


class Server(Protocol):
    @property
    def process(self) -> Running | None: ...

    async def start(self) -> None: ...
    async def kill(self) -> None: ...


@dataclass
class Meeting:
    """Where the clients of one test meet. ``server`` is None in memory: there, the links are cut instead."""

    url: str
    server: Server | None

    @property
    def scheme(self) -> str:
        return self.url.partition(":")[0]

    @asynccontextmanager
    async def clients(self, count: int = 1) -> AsyncIterator[list[Bus]]:
        async with AsyncExitStack() as stack:
            buses = [await stack.enter_async_context(connect(self.url, name=f"client-{n}")) for n in range(count)]
            for bus in buses:
                await bus.link.wait_up(PATIENCE)
            await buses[0].prepare()
            yield buses

    async def cut(self, *buses: Bus) -> None:
        """Ends the broker as a power failure would; returns when every client knows."""
        if self.server is None:
            for bus in buses:
                bus.link.set(False)
        else:
            await self.server.kill()
        for bus in buses:
            await asyncio.wait_for(bus.link.wait_down(), PATIENCE)

    async def mend(self, *buses: Bus) -> None:
        if self.server is None:
            for bus in buses:
                bus.link.set(True)
        else:
            await self.server.start()
        for bus in buses:
            await bus.link.wait_up(PATIENCE)


NATS, MQTT, MOSQUITTO, MEMORY = "nats", "mqtt-on-nats", "mosquitto", "memory"
with_mosquitto = pytest.param(MOSQUITTO, marks=pytest.mark.mosquitto)
everywhere = pytest.mark.parametrize("kind", [NATS, MQTT, with_mosquitto, MEMORY])
where_values_are_retained = pytest.mark.parametrize("kind", [MQTT, with_mosquitto, MEMORY])
where_events_are_stored = pytest.mark.parametrize("kind", [NATS, MEMORY])


@pytest.fixture
async def meeting(
    kind: str, broker: Callable[..., Awaitable[Broker]], mosquitto: Callable[[], Awaitable[Any]], tmp_path: Path
) -> Meeting:
    if kind == MEMORY:
        return Meeting(f"memory://{tmp_path.name}", None)
    if kind == MOSQUITTO:
        server = await mosquitto()
        return Meeting(server.url(), server)
    cloud = await broker()
    return Meeting(cloud.url("coordinator", "nats" if kind == NATS else "mqtt"), cloud)


async def following(messages: AsyncIterator[Message]) -> Message:
    """The next message; fails the test where none comes."""
    async with asyncio.timeout(PATIENCE):
        return await anext(messages)


def answer_address(message: Message) -> str:
    """Where the answer goes: MQTT 3.1.1 has no place for it outside the document."""
    return message.reply_to or json.loads(message.body)["reply_to"].removeprefix(f"{DEFAULT_ROOT}/")


@asynccontextmanager
async def answering(bus: Bus, pattern: str = "request/+/+") -> AsyncIterator[None]:
    """Answers each request with its topic and its number."""

    async def answer(requests: AsyncIterator[Message]) -> None:
        async for request in requests:
            body = json.dumps({"topic": request.topic, "n": json.loads(request.body)["n"]}).encode()
            # the answer may have arrived, and the broker be gone before it acknowledged that
            with contextlib.suppress(Unreachable):
                await bus.publish(answer_address(request), body, correlation=request.correlation)

    async with bus.subscribe(pattern) as requests:
        running = asyncio.create_task(answer(requests))
        yield
        running.cancel()


# What every transport does


@everywhere
async def test_what_is_published_arrives_as_it_was(meeting: Meeting) -> None:
    body = bytes(range(256))
    async with meeting.clients(2) as (one, other), other.subscribe("event/telemetry/edge-1/+") as messages:
        await one.publish("event/telemetry/edge-2/camera", b"of another edge")
        await one.publish("log/edge-1/started", b"of another topic")
        await one.publish(EVENT, body)
        message = await following(messages)
    assert (message.topic, message.body, message.retained) == (EVENT, body, False)


@everywhere
async def test_an_empty_body_arrives(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,), bus.subscribe("log/#") as messages:
        await bus.publish("log/edge-1/a", b"")
        assert (await following(messages)).body == b""


@everywhere
async def test_messages_come_in_order(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other), other.subscribe(TELEMETRY.filter()) as messages:
        for number in range(200):
            await one.publish(EVENT, b"%d" % number)
        assert [int((await following(messages)).body) for _ in range(200)] == list(range(200))


@everywhere
async def test_a_subscription_may_have_several_patterns(meeting: Meeting) -> None:
    async with (
        meeting.clients(2) as (one, other),
        other.subscribe("log/edge-1/+", "status/+/+") as both,
        other.subscribe("event/telemetry/#") as events,
    ):
        for topic in ("log/edge-2/a", "log/edge-1/a", EVENT, "status/jobs/one"):
            await one.publish(topic, topic.encode())
        assert [(await following(both)).topic for _ in range(2)] == ["log/edge-1/a", "status/jobs/one"]
        assert (await following(events)).topic == EVENT


@where_events_are_stored  # an MQTT broker sends a copy for each pattern
async def test_overlapping_subscriptions_each_hear_a_message_once(meeting: Meeting) -> None:
    async with (
        meeting.clients(2) as (one, other),
        other.subscribe("log/edge-1/+", "status/+/+") as both,
        other.subscribe("log/#") as logs,
        one.subscribe("log/#") as own,
    ):
        for topic in ("log/edge-2/a", "log/edge-1/a", "status/jobs/one"):
            await one.publish(topic, topic.encode())
        assert [(await following(both)).topic for _ in range(2)] == ["log/edge-1/a", "status/jobs/one"]
        assert [(await following(logs)).topic for _ in range(2)] == ["log/edge-2/a", "log/edge-1/a"]
        assert [(await following(own)).topic for _ in range(2)] == ["log/edge-2/a", "log/edge-1/a"]


@everywhere
async def test_a_closed_subscription_takes_nothing_from_another(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other), other.subscribe("log/#") as staying:
        async with other.subscribe("log/#") as leaving:
            await one.publish("log/a/b", b"1")
            assert (await following(leaving)).body == b"1"
        await one.publish("log/a/b", b"2")
        assert [(await following(staying)).body for _ in range(2)] == [b"1", b"2"]


@everywhere
async def test_each_request_gets_its_own_answer(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other), answering(other):
        answers = await asyncio.gather(
            *(one.request(f"request/jobs/{verb}", json.dumps({"n": n}).encode(), PATIENCE)
              for n, verb in enumerate(["list", "get", "create", "list", "delete"]))
        )  # fmt: skip
    assert [json.loads(answer.body) for answer in answers] == [
        {"topic": f"request/jobs/{verb}", "n": n} for n, verb in enumerate(["list", "get", "create", "list", "delete"])
    ]


@everywhere
async def test_a_request_that_nobody_answers_is_unreachable(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,):
        with pytest.raises(Unreachable):
            await bus.request("request/jobs/list", b"{}", timeout=0.05)


@everywhere
async def test_too_large_is_refused_and_the_largest_arrives(meeting: Meeting) -> None:
    largest = bytes(LOG.max_size)
    async with meeting.clients(2) as (one, other), other.subscribe("log/#") as messages:
        for refusing in (one.publish("log/a/b", largest + b"x"), one.request("request/jobs/list", bytes(2 << 20))):
            with pytest.raises(Refused) as refused:
                await refusing
            assert refused.value.code == "too-large"
        assert str(REQUEST.max_size) in refused.value.expected
        await one.publish("log/a/b", largest)
        assert len((await following(messages)).body) == LOG.max_size


UNDECLARED = ["nonsense", "a/b", "event/task", "event/task/Edge", "event/task/a.b", "event/task/+", "log/a/#", ""]


@everywhere
async def test_an_undeclared_topic_is_refused(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,), bus.subscribe("#") as messages:
        for topic in UNDECLARED:
            for refusing in (bus.publish(topic, b"{}"), bus.request(topic, b"{}", timeout=0.05)):
                with pytest.raises(Refused) as refused:
                    await refusing
                assert (refused.value.code, refused.value.topic) == ("unknown-topic", topic)
        await bus.publish("log/a/b", b"the first")
        assert (await following(messages)).topic == "log/a/b"


@everywhere
async def test_a_subscription_outlives_the_broker(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other), other.subscribe("log/#") as messages, answering(other):
        await one.publish("log/a/b", b"before")
        assert (await following(messages)).body == b"before"
        for round in (b"first", b"second"):
            await meeting.cut(one, other)
            with pytest.raises(Unreachable):
                await one.publish("log/a/b", b"lost")
            await meeting.mend(one, other)
            # on one connection a broker takes the subscription before what is published after it
            await other.publish("log/a/b", round)
            assert (await following(messages)).body == round
            await one.publish("log/a/b", round)
            assert (await following(messages)).body == round
            answer = await one.request("request/jobs/get", b'{"n": 7}', PATIENCE)
            assert json.loads(answer.body)["n"] == 7


@pytest.mark.parametrize("kind", [NATS, MQTT, with_mosquitto])
async def test_a_client_may_come_before_its_broker(meeting: Meeting) -> None:
    assert meeting.server is not None
    await meeting.server.kill()
    async with connect(meeting.url) as bus:
        with pytest.raises(Unreachable):
            await bus.link.wait_up(0.05)
        with pytest.raises(Unreachable):
            await bus.publish("log/a/b", b"")
        await meeting.mend(bus)
        async with bus.subscribe("log/#") as messages:
            await bus.publish("log/a/b", b"at last")
            assert (await following(messages)).body == b"at last"


@pytest.mark.parametrize("kind", [MQTT, with_mosquitto])
async def test_a_publish_does_not_wait_for_an_acknowledgement_that_can_not_come(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,):
        assert meeting.server is not None
        assert meeting.server.process is not None
        os.kill(meeting.server.process.pid, signal.SIGSTOP)
        publishing = asyncio.create_task(bus.publish(EVENT, b"on its way"))
        await meeting.cut(bus)
        async with asyncio.timeout(2):
            with pytest.raises(Unreachable):
                await publishing


async def test_a_broker_keeps_its_ports_or_says_that_it_can_not(
    broker: Callable[..., Awaitable[Broker]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "START_AGAIN", 0.01)
    server = await broker()
    port = server.port
    await server.kill()
    with socket.socket() as other:
        other.bind((server.host, port))
        with pytest.raises(HeliographError, match="address already in use"):
            await server.start()
    await server.start()
    assert server.port == port
    async with connect(server.url("coordinator")) as bus:
        await bus.link.wait_up(PATIENCE)


async def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        connect("http://user:secret@localhost")
    assert refused.value.field == "url"
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["nats", "mqtt"])
async def test_no_error_shows_a_password(scheme: str) -> None:
    async with connect(f"{scheme}://me:secret@127.0.0.1:{free_ports(1)[0]}") as bus:
        for failing in (bus.publish("log/a/b", b""), bus.link.wait_up(0.05)):
            with pytest.raises(Unreachable) as error:
                await failing
            assert "secret" not in str(error.value)


# Retained values: MQTT's


@where_values_are_retained
async def test_a_retained_value_is_there_for_who_comes_late(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other), other.subscribe("status/#") as early:
        await one.publish("status/jobs/a", b"old", retain=True)
        await one.publish("status/jobs/a", b"new", retain=True)
        await one.publish("status/jobs/b", b"not kept")
        heard = [await following(early) for _ in range(3)]
        assert [each.body for each in heard] == [b"old", b"new", b"not kept"]
        assert not any(each.retained for each in heard)
        async with one.subscribe("status/jobs/+") as late:
            message = await following(late)
            assert (message.topic, message.body, message.retained) == ("status/jobs/a", b"new", True)
            await other.publish("status/jobs/c", b"live")
            assert (await following(late)).topic == "status/jobs/c"


@where_values_are_retained
async def test_an_empty_value_takes_the_retained_one_back(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other):
        async with other.subscribe("status/#") as early:
            await one.publish("status/jobs/a", b"old", retain=True)
            await one.publish("status/jobs/a", b"", retain=True)
            assert [(await following(early)).body for _ in range(2)] == [b"old", b""]
        async with other.subscribe("status/jobs/+") as late:
            await one.publish("status/jobs/b", b"live")
            assert (await following(late)).topic == "status/jobs/b"


# Clients of others


@pytest.mark.mosquitto
async def test_mosquittos_own_client_gets_an_answer(mosquitto: Callable[[], Awaitable[Any]]) -> None:
    """MQTT 5's request and response, as any client in any language has it."""
    server = await mosquitto()
    async with connect(server.url()) as bus:
        await bus.link.wait_up(PATIENCE)
        async with answering(bus):
            asking = await asyncio.create_subprocess_exec(
                "mosquitto_rr", "-p", str(server.port), "-V", "5", "-W", "5", "-q", "1", "-m", '{"n": 3}',
                "-t", "heliograph/request/jobs/list", "-e", "heliograph/reply/foreign/one",
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, _ = await asking.communicate()
    assert asking.returncode == 0
    assert json.loads(out) == {"topic": "request/jobs/list", "n": 3}


@pytest.mark.mosquitto
async def test_headers_reply_topic_and_correlation_travel_over_mqtt_5(
    mosquitto: Callable[[], Awaitable[Any]],
) -> None:
    server = await mosquitto()
    async with connect(server.url()) as bus:
        await bus.link.wait_up(PATIENCE)
        async with bus.subscribe("request/#") as messages:
            more = {"headers": {"lane": "0"}, "reply_to": "reply/me/1", "correlation": b"\x00"}
            await bus.publish("request/jobs/get", b"{}", **more)  # type: ignore[arg-type]
            message = await following(messages)
    assert message.headers == {"lane": "0"}
    assert (message.reply_to, message.correlation) == ("reply/me/1", b"\x00")


@where_events_are_stored
async def test_headers_travel(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,), bus.subscribe("log/#") as messages:
        await bus.publish("log/a/b", b"", headers={"Lane": "edge-1/0", "Number": "7"})
        assert (await following(messages)).headers == {"Lane": "edge-1/0", "Number": "7"}


@where_events_are_stored
async def test_a_queue_shares_the_work(meeting: Meeting) -> None:
    async with (
        meeting.clients(3) as (one, two, three),
        two.subscribe("log/#", queue="workers") as second,
        three.subscribe("log/#", queue="workers") as third,
        three.subscribe("log/#") as everything,
    ):
        heard: asyncio.Queue[Message] = asyncio.Queue()

        async def hear(messages: AsyncIterator[Message]) -> None:
            async for message in messages:
                heard.put_nowait(message)

        members = [asyncio.create_task(hear(second)), asyncio.create_task(hear(third))]
        for number in range(20):
            await one.publish("log/a/b", b"%02d" % number)
        for _ in range(20):
            await following(everything)
        async with asyncio.timeout(PATIENCE):
            shared = [(await heard.get()).body for _ in range(20)]
        # what a broker sends on a connection it sends in order: this comes after the members' share
        for member in (two, three):
            async with member.subscribe("status/#") as marker:
                await member.publish("status/jobs/marker", b"")
                await following(marker)
        for each in members:
            each.cancel()
        assert sorted(shared) == [b"%02d" % number for number in range(20)]
        assert heard.empty()


# Streams


@where_events_are_stored
async def test_an_event_is_stored_and_its_sequence_returned(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,):
        assert bus.durable
        assert [await bus.publish(EVENT, b"%d" % n) for n in range(3)] == [1, 2, 3]
        assert await bus.publish("log/a/b", b"") == 0


@where_events_are_stored
async def test_consuming_starts_at_a_sequence_and_goes_on_live(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other):
        for number in range(1, 6):
            await one.publish(EVENT, b"%d" % number, headers={"N": str(number)})
        async with other.consume(TELEMETRY.filter(edge="edge-1"), start=3) as messages:
            kept = [await following(messages) for _ in range(3)]
            assert [(each.sequence, each.body, each.headers["N"]) for each in kept] == [
                (3, b"3", "3"),
                (4, b"4", "4"),
                (5, b"5", "5"),
            ]
            await one.publish("event/telemetry/edge-2/camera", b"of another edge")
            await one.publish(EVENT, b"7")
            live = await following(messages)
            assert (live.topic, live.sequence, live.body) == (EVENT, 7, b"7")


@where_events_are_stored
async def test_consuming_more_than_a_window(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other):
        for number in range(30):
            await one.publish(EVENT, b"%d" % number)
        async with other.consume(TELEMETRY.filter(), window=4) as messages:
            assert [int((await following(messages)).body) for _ in range(30)] == list(range(30))


@where_events_are_stored
async def test_what_is_not_acknowledged_comes_again(meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_consume, "ACK_WAIT", 0.2)
    async with meeting.clients(2) as (one, other):
        for number in range(1, 4):
            await one.publish(EVENT, b"%d" % number)
        async with other.consume(TELEMETRY.filter(), durable="reader") as messages:
            first = [await following(messages) for _ in range(3)]
            assert [(each.sequence, each.redelivered) for each in first] == [(1, False), (2, False), (3, False)]
            await first[0].ack()
            await first[2].ack()
        async with one.consume(TELEMETRY.filter(), durable="reader") as messages:
            again = await following(messages)
            assert (again.sequence, again.body, again.redelivered) == (2, b"2", True)
            await again.ack()
            await one.publish(EVENT, b"4")
            fresh = await following(messages)
            assert (fresh.sequence, fresh.redelivered) == (4, False)
            await fresh.ack()
        async with other.consume(TELEMETRY.filter(), durable="another") as messages:
            assert [(await following(messages)).sequence for _ in range(4)] == [1, 2, 3, 4]


@where_events_are_stored
async def test_a_topic_without_a_stream_can_not_be_consumed(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,):
        with pytest.raises(Refused) as refused:
            async with bus.consume("log/#"):
                pass
        assert refused.value.code == "no-stream"


@pytest.mark.parametrize("kind", [NATS])
@pytest.mark.parametrize("durable", ["", "reader"])
async def test_consuming_goes_on_after_the_broker_was_killed(meeting: Meeting, durable: str) -> None:
    async with (
        meeting.clients(2) as (one, other),
        other.consume(TELEMETRY.filter(), durable=durable) as messages,
    ):
        for start in (1, 4, 7):
            for number in range(start, start + 3):
                assert await one.publish(EVENT, b"%d" % number) == number
            fresh: list[int] = []
            while len(fresh) < 3:
                message = await following(messages)
                assert message.body == b"%d" % message.sequence
                await message.ack()
                # what a killed broker had not yet noted as acknowledged comes again; nothing else may
                if message.sequence >= start or not durable:
                    fresh.append(message.sequence)
            assert fresh == [start, start + 1, start + 2]
            await meeting.cut(one, other)
            await meeting.mend(one, other)


@where_events_are_stored
async def test_last_is_the_newest_of_its_address(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other):
        assert await other.last(TASK.at(edge="edge-1")) is None
        await one.publish(TASK.at(edge="edge-1"), b"old")
        await one.publish(TASK.at(edge="edge-2"), b"of another edge")
        await one.publish(TASK.at(edge="edge-1"), b"new")
        message = await other.last(TASK.at(edge="edge-1"))
        assert message is not None
        assert (message.topic, message.body, message.sequence) == (TASK.at(edge="edge-1"), b"new", 3)
        async with other.consume(TASK.filter()) as messages:  # a last-value stream keeps no other
            assert [(await following(messages)).body for _ in range(2)] == [b"of another edge", b"new"]


@pytest.mark.parametrize("kind", [NATS])
async def test_what_is_stored_outlives_a_kill(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,):
        await bus.publish(TASK.at(edge="edge-1"), b"desired")
        revision = await (await bus.kv("state")).put("a", b"1")
        await meeting.cut(bus)
        await meeting.mend(bus)
        message = await bus.last(TASK.at(edge="edge-1"))
        assert message is not None
        assert message.body == b"desired"
        entry = await (await bus.kv("state")).get("a")
        assert entry is not None
        assert (entry.value, entry.revision) == (b"1", revision)


# Key-value buckets


@where_events_are_stored
async def test_compare_and_set(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other):
        mine, theirs = await one.kv("state"), await other.kv("state")
        assert await mine.get("a") is None
        first = await mine.put("a", b"1", 0)
        with pytest.raises(Conflict):
            await theirs.put("a", b"2", 0)
        second = await theirs.put("a", b"2", first)
        assert second > first
        with pytest.raises(Conflict):
            await mine.put("a", b"3", first)
        entry = await mine.get("a")
        assert entry is not None
        assert (entry.key, entry.value, entry.revision) == ("a", b"2", second)
        third = await mine.put("a", b"3")
        assert third > second


@where_events_are_stored
async def test_one_of_many_wins(meeting: Meeting) -> None:
    async with meeting.clients(2) as buses:
        buckets = [await bus.kv("state") for bus in buses]
        revision = await buckets[0].put("a", b"", 0)
        results = await asyncio.gather(
            *(buckets[n % 2].put("a", b"%d" % n, revision) for n in range(10)), return_exceptions=True
        )
        won = [n for n, result in enumerate(results) if isinstance(result, int)]
        assert len(won) == 1
        assert sum(isinstance(result, Conflict) for result in results) == 9
        entry = await buckets[0].get("a")
        assert entry is not None
        assert entry.value == b"%d" % won[0]


@where_events_are_stored
async def test_a_deleted_key_is_made_anew_and_its_revisions_are_not(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other):
        mine = await one.kv("state")
        old = await mine.put("a", b"1", 0)
        await mine.delete("a")
        assert await mine.get("a") is None
        theirs = await other.kv("state")
        new = await theirs.put("a", b"2", 0)
        assert new > old
        with pytest.raises(Conflict):
            await mine.put("a", b"3", old)


@where_events_are_stored
async def test_entries_are_those_under_a_prefix_in_order(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,):
        state, other = await bus.kv("state"), await bus.kv("other")
        assert await state.entries() == []
        for key in ("jobs.b", "edges.a", "jobs.a", "jobs.c"):
            await state.put(key, key.encode())
        await other.put("jobs.d", b"")
        await state.delete("jobs.c")
        assert [(each.key, each.value) for each in await state.entries("jobs.")] == [
            ("jobs.a", b"jobs.a"),
            ("jobs.b", b"jobs.b"),
        ]
        assert [each.key for each in await state.entries()] == ["edges.a", "jobs.a", "jobs.b"]


# Blobs


def blob(path: Path, size: int) -> WeightsRef:
    """A file whose every chunk differs, and the reference to it."""
    content = b"".join(number.to_bytes(8, "little") for number in range(-(-size // 8)))[:size]
    path.write_bytes(content)
    return WeightsRef(digest=hashlib.sha256(content).hexdigest(), size=size)


@where_events_are_stored
@pytest.mark.parametrize("size", [0, 1, CHUNK, 2 * CHUNK + 5], ids=["empty", "byte", "chunk", "chunks"])
async def test_a_blob_comes_back_as_it_was(meeting: Meeting, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    ref = blob(source, size)
    async with meeting.clients(2) as (one, other):
        mine, theirs = await one.blobs("models"), await other.blobs("models")
        assert not await theirs.has(ref.digest)
        with pytest.raises(Unreachable):
            await theirs.fetch(ref, tmp_path / "none")
        stored = await mine.put(source, ref)
        assert stored == ref.model_copy(update={"bucket": "models"})
        assert await theirs.has(ref.digest)
        assert await theirs.digests() == [ref.digest]
        target = tmp_path / "deep" / "er" / "target"
        assert await theirs.fetch(stored, target) == target
        assert target.read_bytes() == source.read_bytes()
        assert [each.name for each in target.parent.iterdir()] == ["target"]
        assert not await (await other.blobs("others")).has(ref.digest)
        await mine.delete(ref.digest)
        assert not await theirs.has(ref.digest)
        assert await theirs.digests() == []


@where_events_are_stored
async def test_a_damaged_blob_is_not_taken(meeting: Meeting, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    wrong = WeightsRef(digest="0" * 64, size=blob(source, CHUNK + 3).size)
    async with meeting.clients() as (bus,):
        store = await bus.blobs("models")
        await store.put(source, wrong)
        for _ in range(2):
            with pytest.raises(Unreachable, match="damaged"):
                await store.fetch(wrong, target)
            assert list(tmp_path.glob("target*")) == []


@pytest.mark.parametrize("kind", [NATS])
async def test_a_file_that_is_not_what_its_reference_says_is_refused(meeting: Meeting, tmp_path: Path) -> None:
    ref = blob(tmp_path / "source", 100)
    async with meeting.clients() as (bus,):
        store = await bus.blobs("models")
        with pytest.raises(Refused) as refused:
            await store.put(tmp_path / "source", ref.model_copy(update={"size": 99}))
        assert "99 bytes" in refused.value.expected
        assert not await store.has(ref.digest)


class Counting:
    """Counts the chunks that blobs send and take, and calls ``at_chunk`` with each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent = 0
        self.taken = 0
        self.at_chunk: Callable[[int], object] = lambda number: None
        publish, read_into = BulkLink.publish, BulkLink.read_into

        def counted_publish(link: BulkLink, subject: str, payload: memoryview | bytes, header: str = "") -> None:
            publish(link, subject, payload, header)
            if subject.startswith("$O.") and ".C." in subject:
                self.sent += 1
                self.at_chunk(self.sent)

        def counted_read_into(link: BulkLink, target: memoryview) -> None:
            read_into(link, target)
            if len(target) == CHUNK:
                self.taken += 1
                self.at_chunk(self.taken)

        monkeypatch.setattr(BulkLink, "publish", counted_publish)
        monkeypatch.setattr(BulkLink, "read_into", counted_read_into)

    def reset(self) -> None:
        self.sent = self.taken = 0
        self.at_chunk = lambda number: None


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(monkeypatch)


async def messages_of(bus: Bus, bucket: str) -> int:
    """How many messages a bucket ever took: chunks and descriptions."""
    assert isinstance(bus, NatsBus)
    answer = await bus.raw_request(f"$JS.API.STREAM.INFO.OBJ_{bucket}")
    return int(json.loads(answer.data)["state"]["last_seq"])


on_nats = pytest.mark.parametrize("kind", [NATS])


@on_nats
async def test_a_client_whose_broker_has_gone_is_closed_for_good(meeting: Meeting) -> None:
    before = asyncio.all_tasks()
    async with meeting.clients() as (bus,):
        assert meeting.server is not None
        await bus.publish("log/a/b", b"{}")
        await meeting.server.kill()  # what is to be flushed finds no connection
    assert asyncio.all_tasks() <= before


@on_nats
async def test_what_waits_for_an_answer_is_told_at_once_when_the_link_goes_down(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,):
        assert isinstance(meeting.server, Broker)
        assert meeting.server.process is not None
        os.kill(meeting.server.process.pid, signal.SIGSTOP)  # as if the cable had been pulled
        assert isinstance(bus, NatsBus)
        asked = bus.raw_request("$JS.API.INFO", timeout=60)  # longer than any machine may stall
        waiting = [asyncio.create_task(bus.publish(EVENT, b"{}")), asyncio.create_task(asked)]
        try:
            await asyncio.wait_for(bus.link.wait_down(), PATIENCE)
            done, _ = await asyncio.wait(waiting, timeout=1.0)
        finally:
            os.kill(meeting.server.process.pid, signal.SIGCONT)
        assert done == {*waiting}
        assert [type(each.exception()) for each in waiting] == [LinkDown, LinkDown]


@on_nats
async def test_a_blob_that_is_there_is_not_sent_again(meeting: Meeting, tmp_path: Path, chunks: Counting) -> None:
    ref = blob(tmp_path / "source", 2 * CHUNK)
    async with meeting.clients() as (bus,):
        store = await bus.blobs("models")
        await store.put(tmp_path / "source", ref)
        assert (chunks.sent, await messages_of(bus, "models")) == (2, 3)
        stored = await store.put(tmp_path / "source", ref)
        assert stored.bucket == "models"
        assert (chunks.sent, await messages_of(bus, "models")) == (2, 3)


@on_nats
async def test_an_upload_goes_on_after_the_last_chunk(meeting: Meeting, tmp_path: Path, chunks: Counting) -> None:
    source = tmp_path / "source"
    ref = blob(source, 4 * CHUNK + 7)
    async with meeting.clients() as (bus,):
        assert isinstance(bus, NatsBus)
        store = await bus.blobs("models")
        with source.open("rb") as file:
            for place in range(3):
                await _chunk(bus, ref, place, file.read(CHUNK))
        assert not await store.has(ref.digest)  # without its description it is not there yet
        await store.put(source, ref)
        assert chunks.sent == 2
        await store.fetch(ref, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == source.read_bytes()


async def _chunk(bus: NatsBus, ref: WeightsRef, place: int, content: bytes) -> None:
    await bus.raw_request(f"$O.models.C.{ref.digest}", content, headers={"Heliograph-Chunk": str(place)})


@on_nats
@pytest.mark.parametrize("left", [[1], [1, 1], [0, 2], [2, 0, 1]])
async def test_what_a_killed_broker_brings_back_of_a_deleted_blob_does_no_harm(
    meeting: Meeting, tmp_path: Path, chunks: Counting, left: list[int]
) -> None:
    source = tmp_path / "source"
    ref = blob(source, 2 * CHUNK + 7)
    async with meeting.clients() as (bus,):
        assert isinstance(bus, NatsBus)
        store = await bus.blobs("models")
        content = source.read_bytes()
        for place in left:
            await _chunk(bus, ref, place, content[place * CHUNK : (place + 1) * CHUNK])
        await store.put(source, ref)
        await store.fetch(ref, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == content


@on_nats
async def test_chunks_that_come_back_before_a_download_are_passed_over(meeting: Meeting, tmp_path: Path) -> None:
    source = tmp_path / "source"
    ref = blob(source, 2 * CHUNK + 7)
    async with meeting.clients() as (bus,):
        assert isinstance(bus, NatsBus)
        store = await bus.blobs("models")
        content = source.read_bytes()
        for place in (2, 1, 0, 0, 1, 2, 2):
            await _chunk(bus, ref, place, content[place * CHUNK : (place + 1) * CHUNK])
        await store.fetch(ref, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == content


@on_nats
async def test_chunks_of_something_longer_are_thrown_away(meeting: Meeting, tmp_path: Path, chunks: Counting) -> None:
    source = tmp_path / "source"
    ref = blob(source, CHUNK)
    async with meeting.clients() as (bus,):
        assert isinstance(bus, NatsBus)
        store = await bus.blobs("models")
        for _ in range(2):
            await bus.raw_request(f"$O.models.C.{ref.digest}", bytes(CHUNK))
        await store.put(source, ref)
        assert chunks.sent == 1
        await store.fetch(ref, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == source.read_bytes()


@on_nats
async def test_a_small_blob_whose_upload_ended_before_its_description_is_whole_after_the_next(
    meeting: Meeting, tmp_path: Path, chunks: Counting
) -> None:
    source = tmp_path / "source"
    ref = blob(source, 1000)
    async with meeting.clients() as (bus,):
        assert isinstance(bus, NatsBus)
        store = await bus.blobs("models")
        await _chunk(bus, ref, 0, source.read_bytes())
        await store.put(source, ref)
        assert chunks.sent == 0
        await store.fetch(ref, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == source.read_bytes()


TOTAL = WINDOW + 4


def killing(server: Server | None, at: int) -> Callable[[int], None]:
    """SIGKILL for the broker at that chunk, from the transfer's own thread: nothing more is acknowledged."""
    assert server is not None
    assert server.process is not None
    pid = server.process.pid

    def kill(number: int) -> None:
        if number == at:
            os.kill(pid, signal.SIGKILL)

    return kill


@on_nats
async def test_an_upload_goes_on_after_the_broker_was_killed(
    meeting: Meeting, tmp_path: Path, chunks: Counting
) -> None:
    source = tmp_path / "source"
    ref = blob(source, TOTAL * CHUNK)
    async with meeting.clients() as (bus,):
        store = await bus.blobs("models")
        chunks.at_chunk = killing(meeting.server, TOTAL - 1)
        with pytest.raises(Unreachable):
            await store.put(source, ref)
        await meeting.cut(bus)
        await meeting.mend(bus)
        assert not await store.has(ref.digest)
        chunks.reset()
        await store.put(source, ref)
        # all but a window of those that were sent had been acknowledged, and so are on disk
        assert 0 < chunks.sent <= TOTAL - (TOTAL - 1 - WINDOW)
        chunks.reset()
        await store.fetch(ref, tmp_path / "target")
        assert chunks.taken == TOTAL
        assert hashlib.sha256((tmp_path / "target").read_bytes()).hexdigest() == ref.digest


@on_nats
async def test_a_download_goes_on_after_the_broker_was_killed_twice(
    meeting: Meeting, tmp_path: Path, chunks: Counting
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    ref = blob(source, TOTAL * CHUNK)
    async with meeting.clients() as (bus,):
        store = await bus.blobs("models")
        await store.put(source, ref)
        chunks.reset()
        chunks.at_chunk = killing(meeting.server, WINDOW - 1)
        with pytest.raises(Unreachable):
            await store.fetch(ref, target)
        assert not target.exists()
        taken = chunks.taken
        assert taken >= WINDOW - 1
        await meeting.cut(bus)
        await meeting.mend(bus)
        chunks.reset()

        def cut(number: int) -> None:
            raise Unreachable("cut by the test before anything reached the disk")

        chunks.at_chunk = cut
        with pytest.raises(Unreachable, match="cut by the test"):
            await store.fetch(ref, target)
        chunks.reset()
        await store.fetch(ref, target)
        assert chunks.taken <= TOTAL - taken + 1  # the last one taken may not have been noted
        assert hashlib.sha256(target.read_bytes()).hexdigest() == ref.digest
        assert sorted(each.name for each in tmp_path.glob("target*")) == ["target"]


@on_nats
async def test_a_download_whose_beginning_was_damaged_on_disk_begins_anew(
    meeting: Meeting, tmp_path: Path, chunks: Counting
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    ref = blob(source, 3 * CHUNK)

    def cut(number: int) -> None:
        if number == 3:
            raise Unreachable("cut by the test")

    async with meeting.clients() as (bus,):
        store = await bus.blobs("models")
        await store.put(source, ref)
        chunks.reset()
        chunks.at_chunk = cut
        with pytest.raises(Unreachable, match="cut by the test"):
            await store.fetch(ref, target)
        chunks.reset()
        part = tmp_path / "target.part"
        part.write_bytes(b"x" + part.read_bytes()[1:])
        with pytest.raises(Unreachable, match="damaged"):
            await store.fetch(ref, target)
        assert chunks.taken == 1
        await store.fetch(ref, target)
        assert chunks.taken == 4
        assert target.read_bytes() == source.read_bytes()


@on_nats
async def test_a_bucket_is_made_once_and_reached_by_all(meeting: Meeting, tmp_path: Path) -> None:
    async with meeting.clients(2) as buses:
        stores: list[BlobStore] = await asyncio.gather(*(bus.blobs("models") for bus in (*buses, *buses)))
        assert {store.bucket for store in stores} == {"models"}
        with pytest.raises(HeliographError):
            await buses[0].blobs("not a name")


async def test_two_tenants_on_one_broker_do_not_meet(broker: Callable[..., Awaitable[Broker]]) -> None:
    server = await broker()
    url = server.url("coordinator")
    async with connect(url, root="tenant-a") as one, connect(url, root="tenant/b") as two:
        for bus in (one, two):
            await bus.link.wait_up(PATIENCE)
            await bus.prepare()
        await one.publish(TASK.at(edge="edge-1"), b"of a")
        assert await two.last(TASK.at(edge="edge-1")) is None
        await two.publish(TASK.at(edge="edge-1"), b"of b")
        kept = await one.last(TASK.at(edge="edge-1"))
        assert kept is not None
        assert kept.body == b"of a"


async def test_the_worlds_ids_name_the_inboxes(broker: Callable[..., Awaitable[Broker]]) -> None:
    """Two clients of the same name share no reply address."""
    server = await broker()
    url = server.url("coordinator", "mqtt")
    async with connect(url, name="same") as one, connect(url, name="same") as two, connect(url) as other:
        for bus in (one, two, other):
            await bus.link.wait_up(PATIENCE)
        async with answering(other):
            answers = await asyncio.gather(
                *(bus.request("request/jobs/get", b'{"n": %d}' % n, PATIENCE) for n, bus in enumerate((one, two)))
            )
    assert [json.loads(answer.body)["n"] for answer in answers] == [0, 1]
    assert World().new_id() != World().new_id()
