"""Consume a JetStream stream by windowed pulls that survive reconnects and a lost consumer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from heliograph.bus.nats.connection import NatsConnection, has_no_stream
from heliograph.bus.transport import Message
from heliograph.core.backoff import Backoff
from heliograph.core.errors import Forbidden, HeliographError, Refused, Unreachable
from heliograph.core.world import rfc3339

ACK_WAIT = 30.0
"""Seconds after which the broker redelivers an unacknowledged message of a durable consumer."""
PULL_EXPIRES = 20.0
"""Seconds after which the broker ends a pull."""
_DELIVERED = "$JS.ACK."
"""Beginning of the reply subject of each message that a consumer delivers; the broker's notices have none."""
HEARTBEAT = 0.5
"""Seconds between two signs of life that a cluster's server sends of a consumer: it may be on another server than this
client, and that one may end."""
_SILENCE = 3 * HEARTBEAT
"""Seconds without any, after which another consumer is made."""
_SOON = 0.1
"""Seconds until one that could not be made is tried again, the first time: servers may elect who makes it."""
_INACTIVE = 5.0
"""Seconds after which the broker deletes a consumer without pulls; its owner makes another when it is back."""


@asynccontextmanager
async def consume(
    connection: NatsConnection, pattern: str, durable: str, start: int, window: int, max_bytes: int = 0, name: str = ""
) -> AsyncIterator[AsyncIterator[Message]]:
    """Consume a stream; see ``Bus.consume``."""
    puller = Puller(connection, pattern, durable, start, window, max_bytes, name=name)
    try:
        await puller.begin()
        yield puller
    finally:
        await puller.end()


class Puller(AsyncIterator[Message]):
    """The messages of one consumer.

    Args:
        max_bytes: bounds the messages under way, besides ``window``.
        since: seconds since 1970; the first message is the first one that was stored then or later.
        name: name of the consumer, unless it is durable; by default a random one.
    """

    def __init__(
        self, connection: NatsConnection, pattern: str, durable: str, start: int, window: int, max_bytes: int = 0,
        since: float | None = None, name: str = "",
    ) -> None:  # fmt: skip
        self._name = name
        self._connection = connection
        self._stream = connection.subjects.stream_of(pattern)
        self._filter = connection.subjects.subject(pattern)
        self._durable = durable
        self._window = window
        self._next = max(start, 1)
        self._consumer = ""
        self._arrived: asyncio.Queue[Msg] = asyncio.Queue()
        self._subscription: Subscription | None = None
        self._requested = 0
        self._max_bytes = max_bytes
        self._since = since
        self._delivered = 0
        self._watches = ExitStack()
        connection.link.listen(self._on_link)

    async def begin(self) -> None:
        """Create the consumer and pull the first messages. Raises Forbidden if the login may not."""
        await self._connection.link.wait_up()
        self._consumer = self._name
        await self._delete()  # one of an earlier process has got messages, which would not come again
        await self._create()
        await self._renew()

    async def end(self) -> None:
        self._connection.link.forget(self._on_link)
        self._watches.close()
        with contextlib.suppress(Exception):
            if self._subscription is not None:
                await self._subscription.unsubscribe()
            await self._delete()

    async def _delete(self) -> None:
        """Delete the consumer on the broker unless it is durable."""
        if not self._durable and self._consumer:
            await self._connection.request(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}", timeout=1)

    def _on_link(self, up: bool) -> None:
        if up and self._consumer:
            self._notice("link")

    def _notice(self, status: str) -> None:
        """Queue a status for the reader behind the messages that have arrived."""
        self._arrived.put_nowait(Msg(None, "", "", b"", {"Status": status}))  # type: ignore[arg-type]

    async def _create(self) -> None:
        config: dict[str, Any] = {"filter_subject": self._filter, "replay_policy": "instant"}
        if self._durable:
            config |= {"durable_name": self._durable, "ack_policy": "explicit", "deliver_policy": "all",
                       "ack_wait": int(ACK_WAIT * 1e9), "max_ack_pending": self._window}  # fmt: skip
            path = f"{self._stream}.{self._durable}.{self._filter}"
        else:
            config |= {"ack_policy": "none", "inactive_threshold": self._inactive, "mem_storage": True}
            if self._since is not None and self._next == 1:
                config |= {"deliver_policy": "by_start_time", "opt_start_time": rfc3339(self._since)}
            else:
                config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": self._next}
            self._consumer = self._name or self._connection.world.new_id()
            self._delivered = 0
            config["name"] = self._consumer
            path = f"{self._stream}.{self._consumer}.{self._filter}"
        document = {"stream_name": self._stream, "config": config, "action": ""}
        answer = await self._connection.ask(f"$JS.API.CONSUMER.CREATE.{path}", document)
        if has_no_stream(answer):
            topic = self._connection.subjects.address(self._filter)
            raise Refused("no-stream", topic=topic, expected="a stream that keeps it",
                          hint="A coordinator of this version makes it when it begins to lead.")  # fmt: skip
        if "error" in answer:
            raise HeliographError(f"consuming {self._filter}: {answer['error'].get('description')}")
        self._consumer = answer["name"]

    @property
    def _inactive(self) -> int:
        """Nanoseconds without a pull after which the broker deletes the consumer: a pull is as late as the link is
        long."""
        return int((_INACTIVE + self._connection.link.pace.allowance()) * 1e9)

    async def _renew(self) -> None:
        """Pull a full window to a new inbox; messages of earlier pulls are ignored."""
        if not self._durable:
            self._arrived = asyncio.Queue()  # the new consumer delivers again what has arrived and was not read
        if self._subscription is not None:
            with contextlib.suppress(Exception):
                await self._subscription.unsubscribe()
        self._inbox = self._connection.client.new_inbox()
        self._next_subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        self._watches.close()
        for verb, subject in (("publish", self._next_subject), ("subscription", self._inbox)):
            self._watches.enter_context(self._connection.on_refusal(verb, subject, partial(self._notice, "forbidden")))

        arrived = self._arrived

        async def put(message: Msg) -> None:
            arrived.put_nowait(message)

        self._subscription = await self._connection.guard(self._connection.client.subscribe(self._inbox, cb=put))
        self._requested = 0
        await self._pull()

    async def _pull(self) -> None:
        more = self._window - self._requested
        if more <= self._window // 2 and self._requested:
            return
        wanted = {"batch": more, "expires": int(PULL_EXPIRES * 1e9)}
        if self._max_bytes:
            wanted["max_bytes"] = self._max_bytes
        if self._connection.clustered:
            wanted["idle_heartbeat"] = int(HEARTBEAT * 1e9)
        body = json.dumps(wanted).encode()
        self._requested += more
        with contextlib.suppress(Unreachable):
            client = self._connection.client
            await self._connection.guard(client.publish(self._next_subject, body, reply=self._inbox))

    async def __anext__(self) -> Message:
        message, sequence, _ = await self.delivery()
        return Message(
            self._connection.subjects.address(message.subject),
            message.data,
            headers=message.headers or {},
            sequence=sequence,
            redelivered=message.reply.split(".")[-5] != "1",
            acknowledge=message.ack if self._durable else None,
        )

    async def delivery(self) -> tuple[Msg, int, int]:
        """Return the next message, its sequence in the stream, and when it was stored, in nanoseconds since 1970."""
        while True:
            if self._arrived.empty():
                try:
                    async with asyncio.timeout(self._silence):
                        message = await self._arrived.get()
                except TimeoutError:
                    await self._recover()
                    continue
            else:
                message = self._arrived.get_nowait()
            if not message.reply.startswith(_DELIVERED):  # a publisher may give its message a header "Status" too
                await self._on_status((message.headers or {}).get("Status", ""), message)
                continue
            self._requested = max(0, self._requested - 1)
            fields = message.reply.split(".")
            sequence, delivered = int(fields[-4]), int(fields[-3])
            if not self._durable and delivered != self._delivered + 1:
                # on the way to a client that changes its server a message may be lost, and later ones arrive
                await self._recover()
                continue
            self._delivered = delivered
            if not self._durable and sequence < self._next:
                continue  # a new consumer may repeat the last message
            self._next = sequence + 1
            await self._pull()
            return message, sequence, int(fields[-2])

    async def _on_status(self, status: str, message: Msg) -> None:
        """Handle a status: a pull has ended, the consumer is gone, the link is back, or the broker refuses the pull."""
        if status == "forbidden":
            raise Forbidden(f"{self._connection.url.shown}: this login may not read {self._filter} of {self._stream}")
        if status in ("408", "409"):  # the messages that the pull did not deliver leave the window
            pending = (message.headers or {}).get("Nats-Pending-Messages")
            self._requested = max(0, self._requested - int(pending)) if pending else 0
            if "Deleted" in (message.headers or {}).get("Description", ""):
                await self._recover()
            else:
                await self._pull()
        elif status in ("link", "404", "503"):
            await self._recover()

    async def behind(self) -> int:
        """Return the number of stored messages that have not been returned yet."""
        subject = f"$JS.API.CONSUMER.INFO.{self._stream}.{self._consumer}"
        found = await self._connection.ask(subject)
        if "error" in found:
            raise HeliographError(f"consuming {self._filter}: {found['error'].get('description')}")
        sent = int(found["delivered"]["consumer_seq"]) + int(found["num_pending"])
        return max(0, sent - self._delivered)

    async def _recover(self) -> None:
        """Make another consumer, as soon as there is somebody who makes it."""
        world = self._connection.world
        backoff = Backoff(world.rng.random, _SOON, self._silence)
        while True:
            await self._connection.link.wait_up()
            try:
                await self._leave()
                await self._create()
                await self._renew()
                return
            except Forbidden:
                raise
            except (HeliographError, TimeoutError):
                await world.sleep(backoff.next())

    async def _leave(self) -> None:
        """Give up a consumer that may have ended with its server: then nobody answers, and nothing waits for it."""
        if self._name:  # the next one has its name
            with contextlib.suppress(TimeoutError, Unreachable):
                await self._delete()
        elif self._consumer and not self._durable:
            client = self._connection.client
            subject = f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}"
            await self._connection.guard(client.publish(subject, b"", reply=client.new_inbox()))

    @property
    def _silence(self) -> float:
        """Seconds without a sign of life after which another consumer is made."""
        usual = _SILENCE if self._connection.clustered else PULL_EXPIRES + 5
        return usual + self._connection.link.pace.allowance()
