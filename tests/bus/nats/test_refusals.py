"""A refusal by the broker is reported as one, whatever happens to the connection afterwards."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.arriving_blob import CHUNK
from heliograph.bus.connect import connect
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract.event import Event, encode
from heliograph.bus.nats.bulk import BulkLink
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.replaying import Replayer
from heliograph.bus.traces.schedule import Span
from heliograph.bus.traces.writing import TraceWriter
from heliograph.bus.transport import Outgoing
from heliograph.core.errors import Forbidden, LinkDown, Refused, Unreachable
from heliograph.core.world import World
from tests.bus.nats.scripted import Answer, ScriptedServer, violation
from tests.patience import HANGS, impatient

PATIENCE = HANGS
EVENT = "event/telemetry/edge-1/camera"
SUBJECT = "heliograph.event.telemetry.edge-1.camera"
LOG, LOGS = "heliograph.edge.a.up.log.b.c", "heliograph.edge.*.up.log.>"
MESSAGE = b"MSG heliograph.edge.a.up.log.b.c 1 2\r\n{}\r\n"
STALE = b"-ERR 'Stale Connection'\r\n"

Call = Callable[[NatsBus], Coroutine[Any, Any, Any]]
CALLS: dict[str, tuple[Call, str]] = {
    "a stored event": (lambda bus: bus.publish(EVENT, b"{}"), SUBJECT),
    "a batch": (lambda bus: bus.publish_all([Outgoing(EVENT, b"1"), Outgoing(EVENT, b"2")]), SUBJECT),
    "a request": (lambda bus: bus.request("request/jobs/list", b"{}", PATIENCE), "heliograph.request.jobs.list"),
    "a request to JetStream": (lambda bus: bus.last_sequence("TASKS"), "$JS.API.STREAM.INFO.TASKS"),
    "a bucket": (lambda bus: bus.kv("state"), "$JS.API.STREAM.CREATE.KV_state"),
    "a store": (lambda bus: bus.blobs("models"), "$JS.API.STREAM.CREATE.OBJ_models"),
}
calls = pytest.mark.parametrize("name", CALLS)
endings = pytest.mark.parametrize(("after", "cut"), [(STALE, "end"), (b"", "end"), (STALE, "reset"), (STALE, "")])


@asynccontextmanager
async def client(server: ScriptedServer) -> AsyncIterator[NatsBus]:
    async with server.listening(), connect(server.url, world=impatient()) as bus:
        assert isinstance(bus, NatsBus)
        await bus.link.wait_up(PATIENCE)
        yield bus


def publishes(subject: str) -> tuple[str, str]:
    """Return the beginnings of a line that publishes on a subject, without and with headers."""
    return f"PUB {subject} ", f"HPUB {subject} "


@calls
@endings
async def test_a_refused_publish_is_forbidden_though_the_connection_goes_down(
    name: str, after: bytes, cut: str
) -> None:
    call, subject = CALLS[name]
    script = [Answer(line, violation("Publish", subject) + after, cut) for line in publishes(subject)]
    async with client(ScriptedServer(*script)) as bus:
        with pytest.raises(Forbidden, match="may not publish") as error:
            async with asyncio.timeout(PATIENCE):
                await call(bus)
    assert "secret" not in str(error.value)


@calls
@pytest.mark.parametrize("cut", ["end", "reset"])
async def test_without_a_refusal_it_is_the_link(name: str, cut: str) -> None:
    call, subject = CALLS[name]
    script = [Answer(line, b"", cut) for line in publishes(subject)]
    async with client(ScriptedServer(*script)) as bus:
        with pytest.raises(LinkDown):
            async with asyncio.timeout(PATIENCE):
                await call(bus)


async def test_each_of_several_publishes_to_a_subject_is_forbidden() -> None:
    silent = [Answer(f"PUB {SUBJECT} ") for _ in range(4)]
    refusing = Answer(f"PUB {SUBJECT} ", 5 * violation("Publish", SUBJECT) + STALE, "end")
    async with client(ScriptedServer(*silent, refusing)) as bus:
        async with asyncio.timeout(PATIENCE):
            found = await asyncio.gather(*(bus.publish(EVENT, b"{}") for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in found] == [Forbidden] * 5


async def test_refusals_that_come_while_a_call_is_ending_leave_the_connection_alive() -> None:
    """An error in the client's callback would end its reading task, and unread pongs would end the link."""

    class Repeating(ScriptedServer):
        async def answer(self, line: str, writer: asyncio.StreamWriter) -> bool:
            if line.startswith(publishes(SUBJECT)):
                for _ in range(10):
                    writer.write(violation("Publish", SUBJECT))
                    await writer.drain()
                    await asyncio.sleep(0)
            return await super().answer(line, writer)

    server = Repeating(Answer(f"PUB {LOG}", MESSAGE))
    async with client(server) as bus, asyncio.timeout(PATIENCE), bus.subscribe("edge/+/up/log/#") as messages:
        for _ in range(5):
            found = await asyncio.gather(*(bus.publish(EVENT, b"{}") for _ in range(20)), return_exceptions=True)
            assert [type(each) for each in found] == [Forbidden] * 20
        await bus.publish("edge/a/up/log/b/c", b"{}")
        assert (await anext(messages)).body == b"{}"
        assert server.connections == 1


async def test_a_refusal_of_another_subject_does_not_refuse_this_one() -> None:
    script = Answer(f"PUB {SUBJECT} ", violation("Publish", "heliograph.edge.a.up.log.b.c") + STALE, "end")
    async with client(ScriptedServer(script)) as bus:
        with pytest.raises(LinkDown):
            async with asyncio.timeout(PATIENCE):
                await bus.publish(EVENT, b"{}")
        assert bus.connection.unreported_refusals == 1


async def test_a_login_that_may_not_receive_answers_is_refused_at_once_and_again_until_it_reconnects() -> None:
    def inbox(seen: list[str]) -> str:
        return next(line.split()[1] for line in seen if line.startswith("SUB _INBOX."))

    server = ScriptedServer()
    server.script.append(Answer("SUB _INBOX."))
    async with client(server) as bus:
        asking = asyncio.create_task(bus.last_sequence("TASKS"))
        async with asyncio.timeout(PATIENCE):
            await server.saw("PUB $JS.API")
        server.script.append(Answer("PING", violation("Subscription", inbox(server.seen))))
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(Forbidden, match="may not receive answers"):
                await asking
            with pytest.raises(Forbidden, match="may not receive answers"):
                await bus.last_sequence("TASKS")


@pytest.mark.parametrize("cut", ["", "end"])
async def test_a_refused_subscription_is_refused_though_the_connection_goes_down(cut: str) -> None:
    script = Answer(f"SUB {LOGS}", violation("Subscription", LOGS), cut)
    async with client(ScriptedServer(script)) as bus:
        with pytest.raises(Refused) as refused:
            async with asyncio.timeout(PATIENCE), bus.subscribe("edge/+/up/log/#") as messages:
                await anext(messages)
    assert (refused.value.code, refused.value.topic) == ("forbidden", "edge/+/up/log/#")


async def test_a_subscription_that_is_refused_after_a_reconnect_ends_with_the_refusal() -> None:
    script = [Answer(f"SUB {LOGS}"), Answer("UNSUB 99", b"", "end"),
              Answer(f"SUB {LOGS}", violation("Subscription", LOGS))]  # fmt: skip
    server = ScriptedServer(*script)
    async with client(server) as bus, asyncio.timeout(PATIENCE):
        async with bus.subscribe("edge/+/up/log/#") as messages:
            server.script.insert(0, Answer(f"PUB {LOG}", b"", "end"))
            await bus.publish("edge/a/up/log/b/c", b"")
            with pytest.raises(Refused, match="permission to subscribe"):
                await anext(messages)


async def test_a_refused_login_is_forbidden_and_not_a_link_that_is_down() -> None:
    server = ScriptedServer(login=b"-ERR 'Authorization Violation'\r\n")
    async with server.listening(), connect(server.url) as bus, asyncio.timeout(PATIENCE):
        while not bus.link.refused:
            await asyncio.sleep(0)
        with pytest.raises(Forbidden, match="refuses this login"):
            await bus.link.wait_up(0.01)
        with pytest.raises(Forbidden, match=r"refuses this login: .*Authorization Violation"):
            await bus.publish(EVENT, b"{}")
        server.login = b""
        await bus.link.wait_up()
        assert not bus.link.refused


async def test_an_error_line_of_a_closing_broker_does_not_end_the_client_for_good() -> None:
    script = [Answer(f"PUB {LOG}", b"-ERR 'User Authentication Expired'\r\n", "end"),
              Answer(f"PUB {LOG}", MESSAGE)]  # fmt: skip
    server = ScriptedServer(*script)
    async with client(server) as bus, asyncio.timeout(PATIENCE), bus.subscribe("edge/+/up/log/#") as messages:
        server.login = b"-ERR 'Authorization Violation'\r\n"
        await bus.publish("edge/a/up/log/b/c", b"")
        await bus.link.wait_down()
        with pytest.raises(Forbidden, match="refuses this login"):
            await bus.publish("edge/a/up/log/b/c", b"")
        server.login = b""
        await bus.link.wait_up()
        await bus.publish("edge/a/up/log/b/c", b"")
        assert (await anext(messages)).body == b"{}"  # the subscription is back too


CREATED = b'{"name": "one"}'


async def test_a_consumer_that_may_not_pull_is_forbidden() -> None:
    class Creating(ScriptedServer):
        """A server that creates the consumer and refuses to let it pull."""

        async def answer(self, line: str, writer: asyncio.StreamWriter) -> bool:
            words = line.split()
            if line.startswith("PUB $JS.API.CONSUMER.CREATE."):
                inbox = next(each.split() for each in self.seen if each.startswith("SUB _INBOX."))
                writer.write(f"MSG {words[2]} {inbox[2]} {len(CREATED)}\r\n".encode() + CREATED + b"\r\n")
            if line.startswith("PUB $JS.API.CONSUMER.MSG.NEXT."):
                writer.write(violation("Publish", words[1]) + STALE)
            return await super().answer(line, writer)

    async with client(Creating()) as bus, asyncio.timeout(PATIENCE):
        with pytest.raises(Forbidden, match="may not read"):
            async with bus.consume(EVENT, durable="one") as messages:
                await anext(messages)


@pytest.mark.parametrize("cut", ["", "end", "reset"])
async def test_a_refused_upload_is_forbidden_though_the_connection_is_cut(cut: str) -> None:
    subject = "$O.models.C." + hashlib.sha256(b"").hexdigest()
    script = Answer(f"HPUB {subject}", violation("Publish", subject), cut)
    async with ScriptedServer(script).listening() as server:

        def upload() -> None:
            link = BulkLink(ConnectionUrl.parse(server.url), "_INBOX.one")
            try:
                for _ in range(64):  # more than the sockets buffer
                    link.publish(subject, bytes(CHUNK), "Heliograph-Chunk: 0")
                link.next()
            finally:
                link.close()

        with pytest.raises(Forbidden, match="Permissions Violation"):
            await asyncio.to_thread(upload)


async def test_an_upload_that_is_cut_without_a_refusal_is_unreachable() -> None:
    async with ScriptedServer(Answer("PUB a ", STALE, "reset")).listening() as server:

        def upload() -> None:
            link = BulkLink(ConnectionUrl.parse(server.url), "_INBOX.one")
            try:
                link.publish("a", b"")
                link.next()
            finally:
                link.close()

        with pytest.raises(Unreachable) as error:
            await asyncio.to_thread(upload)
    assert not isinstance(error.value, Forbidden)


async def test_a_refused_login_of_a_transfer_is_forbidden() -> None:
    async with ScriptedServer(login=b"-ERR 'Authorization Violation'\r\n").listening() as server:
        with pytest.raises(Forbidden, match="Authorization Violation"):
            await asyncio.to_thread(BulkLink, ConnectionUrl.parse(server.url), "_INBOX.one")


class Refusing(ScriptedServer):
    """A server that refuses every event and cuts the connection after some.

    Args:
        cuts: returns whether the event of that number is followed by a cut.
        silent: whether the cut comes before the refusal is sent.
    """

    def __init__(self, cuts: Callable[[int], bool], silent: bool) -> None:
        super().__init__()
        self._cuts = cuts
        self._silent = silent
        self._events = 0

    async def answer(self, line: str, writer: asyncio.StreamWriter) -> bool:
        if not line.startswith(publishes(SUBJECT)):
            return await super().answer(line, writer)
        self._events += 1
        cut = self._cuts(self._events)
        if not (cut and self._silent):
            writer.write(violation("Publish", SUBJECT) + (STALE if cut else b""))
            await writer.drain()
        return not cut


MAY_NOT = "event/telemetry/{edge}/{device}: this login may not publish there"


@pytest.mark.parametrize(
    ("cuts", "silent", "refused"),
    [
        (lambda number: number % 3 == 0, False, MAY_NOT),
        (lambda number: number > 1 and number % 2 == 0, True, MAY_NOT),  # the first refusal names the topic for all
        (lambda number: True, False, MAY_NOT),
        (lambda number: True, True, "the link went down: they may or may not be stored"),
    ],
    ids=["after-each-third", "silently-after-each-second", "after-each", "silently-after-each"],
)
async def test_a_replay_says_that_the_broker_refuses_though_the_link_goes_down(
    tmp_path: Path, cuts: Callable[[int], bool], silent: bool, refused: str
) -> None:
    with TraceWriter(tmp_path / "a.mcap") as writer:
        for number in range(10):
            event = Event(f"id-{number}", "edge-1/camera/life", "heliograph.telemetry.v1", {"n": number})
            writer.write(Recorded(EVENT, encode(event, "json"), number, 1))
    async with client(Refusing(cuts, silent)) as bus, asyncio.timeout(PATIENCE):
        with TraceReader(tmp_path / "a.mcap") as reader:
            outcome = await Replayer(bus, World(), speed=0).run(reader, Span(0, reader.info.end))
    assert (outcome.selected, outcome.published) == (10, 0)
    assert [(why.endswith(refused), count) for why, count in outcome.refused.items()] == [(True, 10)]
