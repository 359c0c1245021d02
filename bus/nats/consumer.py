"""Consuming a JetStream stream: a windowed pull that survives reconnects and a lost consumer."""

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

from heliograph.bus.nats.connection import NatsConnection
from heliograph.bus.transport import Message
from heliograph.core.errors import Forbidden, HeliographError, Unreachable

ACK_WAIT = 30.0
"""Seconds after which an unacknowledged message of a durable consumer comes again."""
PULL_EXPIRES = 20.0
_INACTIVE = 5.0
"""Seconds after which the broker forgets a consumer that nobody asks: its owner, back later, makes another."""


@asynccontextmanager
async def consume(
    connection: NatsConnection, pattern: str, durable: str, start: int, window: int
) -> AsyncIterator[AsyncIterator[Message]]:
    """See ``Bus.consume``."""
    puller = Puller(connection, pattern, durable, start, window)
    try:
        await puller.begin()
        yield puller
    finally:
        await puller.end()


class Puller(AsyncIterator[Message]):
    """Pulls from a consumer; ``max_bytes`` bounds what is on its way beside ``window``."""

    def __init__(
        self, connection: NatsConnection, pattern: str, durable: str, start: int, window: int, max_bytes: int = 0
    ) -> None:
        self._connection = connection
        self._stream = connection.subjects.stream_of(pattern)
        self._filter = connection.subjects.subject(pattern)
        self._durable = durable
        self._window = window
        self._next = max(start, 1)
        self._consumer = ""
        self._arrived: asyncio.Queue[Msg] = asyncio.Queue()
        self._subscription: Subscription | None = None
        self._asked = 0
        self._max_bytes = max_bytes
        self._delivered = 0
        self._watches = ExitStack()
        connection.link.listen(self._on_link)

    async def begin(self) -> None:
        """Makes the consumer and asks for the first messages. Raises Forbidden where the login may not."""
        await self._connection.link.wait_up()
        await self._create()
        await self._renew()

    async def end(self) -> None:
        self._connection.link.forget(self._on_link)
        self._watches.close()
        with contextlib.suppress(HeliographError, Exception):
            if self._subscription is not None:
                await self._subscription.unsubscribe()
            await self._forget()

    async def _forget(self) -> None:
        """Leaves no consumer behind on the broker."""
        if not self._durable and self._consumer:
            await self._connection.request(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}", timeout=1)

    def _on_link(self, up: bool) -> None:
        if up and self._consumer:
            self._notice("link")

    def _notice(self, status: str) -> None:
        """Lets the reader know, in its turn, of something that is no message."""
        self._arrived.put_nowait(Msg(None, "", "", b"", {"Status": status}))  # type: ignore[arg-type]

    async def _create(self) -> None:
        config: dict[str, Any] = {"filter_subject": self._filter, "replay_policy": "instant"}
        if self._durable:
            config |= {"durable_name": self._durable, "ack_policy": "explicit", "deliver_policy": "all",
                       "ack_wait": int(ACK_WAIT * 1e9), "max_ack_pending": self._window}  # fmt: skip
            path = f"{self._stream}.{self._durable}.{self._filter}"
        else:
            config |= {"ack_policy": "none", "deliver_policy": "by_start_sequence", "opt_start_seq": self._next,
                       "inactive_threshold": int(_INACTIVE * 1e9), "mem_storage": True}  # fmt: skip
            self._consumer = self._connection.world.new_id()
            config["name"] = self._consumer
            path = f"{self._stream}.{self._consumer}.{self._filter}"
        document = {"stream_name": self._stream, "config": config, "action": ""}
        answer = await self._connection.ask(f"$JS.API.CONSUMER.CREATE.{path}", document)
        if "error" in answer:
            raise HeliographError(f"consuming {self._filter}: {answer['error'].get('description')}")
        self._consumer = answer["name"]

    async def _renew(self) -> None:
        """A fresh inbox and a full window: what an old pull may still send is not waited for."""
        if self._subscription is not None:
            with contextlib.suppress(Exception):
                await self._subscription.unsubscribe()
        self._inbox = self._connection.client.new_inbox()
        self._next_subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        self._watches.close()
        for verb, subject in (("publish", self._next_subject), ("subscription", self._inbox)):
            self._watches.enter_context(self._connection.watching(verb, subject, partial(self._notice, "forbidden")))

        async def put(message: Msg) -> None:
            self._arrived.put_nowait(message)

        self._subscription = await self._connection.guard(self._connection.client.subscribe(self._inbox, cb=put))
        self._asked = 0
        await self._pull()

    async def _pull(self) -> None:
        more = self._window - self._asked
        if more <= self._window // 2 and self._asked:
            return
        wanted = {"batch": more, "expires": int(PULL_EXPIRES * 1e9)}
        if self._max_bytes:
            wanted["max_bytes"] = self._max_bytes
        body = json.dumps(wanted).encode()
        self._asked += more
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
        """The next message, its place in the stream, and when the broker stored it: nanoseconds since 1970."""
        while True:
            if self._arrived.empty():
                try:
                    async with asyncio.timeout(PULL_EXPIRES + 5):
                        message = await self._arrived.get()
                except TimeoutError:
                    await self._recover()
                    continue
            else:
                message = self._arrived.get_nowait()
            if message.headers and (status := message.headers.get("Status", "")):
                await self._on_status(status, message)
                continue
            self._asked = max(0, self._asked - 1)
            fields = message.reply.split(".")
            sequence = int(fields[-4])
            self._delivered = int(fields[-3])
            if not self._durable and sequence < self._next:
                continue  # a consumer made anew may repeat the last one
            self._next = sequence + 1
            await self._pull()
            return message, sequence, int(fields[-2])

    async def _on_status(self, status: str, message: Msg) -> None:
        """Deals with what is no message: a pull ended, the consumer is gone, the broker refused to be asked."""
        if status == "forbidden":
            raise Forbidden(f"{self._connection.url.shown}: this login may not read {self._filter} of {self._stream}")
        if status in ("408", "409"):  # what the pull had not delivered is free again
            pending = (message.headers or {}).get("Nats-Pending-Messages")
            self._asked = max(0, self._asked - int(pending)) if pending else 0
            if "Deleted" in (message.headers or {}).get("Description", ""):
                await self._recover()
            else:
                await self._pull()
        elif status in ("link", "404", "503"):
            await self._recover()

    async def behind(self) -> int:
        """How many of the messages that are stored by now have not been returned yet."""
        subject = f"$JS.API.CONSUMER.INFO.{self._stream}.{self._consumer}"
        found = await self._connection.ask(subject)
        if "error" in found:
            raise HeliographError(f"consuming {self._filter}: {found['error'].get('description')}")
        sent = int(found["delivered"]["consumer_seq"]) + int(found["num_pending"])
        return max(0, sent - self._delivered)

    async def _recover(self) -> None:
        await self._connection.link.wait_up()
        try:
            await self._forget()
            await self._create()
            await self._renew()
        except Forbidden:
            raise
        except (HeliographError, TimeoutError):
            pass  # the next quiet spell or reconnect tries again
