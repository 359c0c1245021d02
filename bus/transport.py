"""What every transport offers: publish, subscribe, request, consume; the same over nats://, mqtt:// and memory://.

Topics here are addresses below the root; the root and the spelling of the transport are the transport's own business.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.errors import Forbidden, Refused, Unreachable
from heliograph.core.telemetry import BYTES_PUBLISHED, EVENTS_PUBLISHED, Telemetry


@dataclass(slots=True)
class Message:
    """One message as it arrived.

    Attributes:
        topic: address below the root.
        reply_to: address below the root, or the transport's own inbox, where an answer is wanted.
        correlation: what an MQTT 5 requester wants to see again in the answer.
        sequence: its place in its stream; 0 outside streams.
        redelivered: a consumer has seen it before without acknowledging it.
    """

    topic: str
    body: bytes
    reply_to: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    correlation: bytes | None = None
    sequence: int = 0
    redelivered: bool = False
    retained: bool = False
    acknowledge: Callable[[], Awaitable[None]] | None = None

    async def ack(self) -> None:
        """Tells the broker that this message is dealt with; nothing where it was not consumed."""
        if self.acknowledge is not None:
            await self.acknowledge()


def require_plain(topic: str) -> None:
    """Raises Refused where a topic reads otherwise on MQTT than on NATS, or is a pattern."""
    words = topic.split("/")
    if not all(words) or set(topic) & set(".*>+#\0") or any(map(str.isspace, topic)):
        expected = "words without dots, spaces and wildcards"
        raise Refused("invalid", topic=topic, expected=expected, got=topic)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One event to be published."""

    topic: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Link:
    """Whether the transport is connected, and who wants to know when that changes."""

    def __init__(self) -> None:
        self.up = False
        self.refused = ""
        """The broker's words where it refuses the login; empty where it has not, or has accepted it since."""
        self.last_error = ""
        """The newest error of the connection, or of the broker."""
        self._waiting: list[asyncio.Future[None]] = []
        self._listeners: list[Callable[[bool], None]] = []

    def listen(self, listener: Callable[[bool], None]) -> None:
        """Calls ``listener(up)`` at each change, and now where the link is up already."""
        self._listeners.append(listener)
        if self.up:
            listener(True)

    def forget(self, listener: Callable[[bool], None]) -> None:
        self._listeners.remove(listener)

    def set(self, up: bool) -> None:
        if up == self.up:
            return
        self.up = up
        if up:
            self.refused = ""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)
        for listener in list(self._listeners):
            listener(up)

    async def wait_up(self, timeout: float | None = None) -> None:
        """Returns when connected. Raises Unreachable after ``timeout`` seconds, Forbidden where the broker refuses the
        login."""
        if self.up:
            return
        try:
            async with asyncio.timeout(timeout) if timeout is not None else contextlib.nullcontext():
                await self._wait(True)
        except TimeoutError:
            if self.refused:
                raise Forbidden(f"the broker refuses this login: {self.refused}") from None
            raise Unreachable(f"not connected after {timeout:g} s") from None

    async def wait_down(self) -> None:
        await self._wait(False)

    async def _wait(self, up: bool) -> None:
        while self.up != up:
            changed = asyncio.get_running_loop().create_future()
            self._waiting.append(changed)
            try:
                await changed
            finally:
                if changed in self._waiting:
                    self._waiting.remove(changed)


PENDING_BYTES = 64 * 1024 * 1024
_MESSAGE = 512
"""Bytes that a message takes in memory beside its body, roughly."""


class Arrivals(AsyncIterator[Message]):
    """Messages as they arrive, through a bounded queue, for one reader. Unlike a generator it survives a wait that was
    cancelled.

    Where the reader is so slow that ``PENDING_BYTES`` wait, what comes is dropped and counted: as from a broker whose
    queue is full, and with the same cure, that what must not be lost is sent again until it is acknowledged.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._arrived: deque[Message] | None = None
        self._waiting = 0
        self._reader: asyncio.Future[None] | None = None
        self._failure: Refused | None = None

    def put(self, message: Message) -> None:
        size = len(message.body) + _MESSAGE
        if self._waiting + size > PENDING_BYTES:
            self._bus.dropped += 1
            return
        self._waiting += size
        if self._arrived is None:
            self._arrived = deque()
        self._arrived.append(message)
        self._wake()

    def fail(self, error: Refused) -> None:
        """Nothing more comes: the reader is given what arrived, and then this error."""
        self._failure = error
        self._wake()

    def check(self) -> None:
        """Raises the error where nothing more comes."""
        if self._failure is not None:
            raise self._failure

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def __anext__(self) -> Message:
        while not self._arrived:
            self.check()
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        message = self._arrived.popleft()
        if not self._arrived:
            self._arrived = None  # most subscriptions wait for most of the time, and an agent has many
        self._waiting -= len(message.body) + _MESSAGE
        return message


Subscription = AbstractAsyncContextManager[AsyncIterator[Message]]


@dataclass(frozen=True, slots=True)
class KeyValueEntry:
    """A value in a key-value bucket; ``revision`` is what a compare-and-set must name."""

    key: str
    value: bytes
    revision: int


class KeyValue(Protocol):
    """A bucket of small values with compare-and-set. Keys are labels joined by dots."""

    async def get(self, key: str) -> KeyValueEntry | None: ...
    async def put(self, key: str, value: bytes, revision: int | None = None) -> int:
        """Stores and returns the new revision. With ``revision`` only where that is the present one (0: where there
        is none); raises Conflict otherwise."""
        ...

    async def delete(self, key: str) -> None: ...
    async def entries(self, prefix: str = "") -> list[KeyValueEntry]: ...
    def changes(self, key: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """An event that is set at each write of the key, and when the link has been away: a hint to read again."""
        ...


class BlobStore(Protocol):
    """Content-addressed files: the name is the SHA-256 of the content."""

    bucket: str

    async def has(self, digest: str) -> bool: ...
    async def put(self, path: Path, ref: WeightsRef) -> WeightsRef:
        """Uploads the file unless it is there, resuming after the last whole chunk; returns the ref with bucket."""
        ...

    async def fetch(self, ref: WeightsRef, target: Path) -> Path:
        """Downloads to ``target``, resuming, verified by SHA-256 before it gets its name; returns ``target``."""
        ...

    async def delete(self, digest: str) -> None: ...
    async def digests(self) -> list[str]: ...


class Bus(ABC):
    """A connection to one broker. Use it as an async context manager; it reconnects for ever by itself."""

    durable: bool
    """Whether ``publish`` of an event returns only when the event is stored and synced."""

    def __init__(self, url: str, root: str, telemetry: Telemetry) -> None:
        transport = url.partition(":")[0]
        self._events = telemetry.counter(EVENTS_PUBLISHED, transport=transport)
        self._bytes = telemetry.counter(BYTES_PUBLISHED, transport=transport)
        self.url = url
        self.root = root
        self.link = Link()
        self.dropped = 0
        """Messages that came faster than their reader took them, so many that no more could be held."""

    def count_published(self, size: int, events: int = 1) -> None:
        """Called by the transport with what the broker has taken: ``size`` bytes of bodies."""
        self._events(events)
        self._bytes(size)

    @property
    def last_error(self) -> str:
        """The newest error of the connection, or of the broker."""
        return self.link.last_error

    @abstractmethod
    async def open(self) -> None:
        """Starts connecting and returns at once; ``link`` tells when it is up."""

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def publish(
        self,
        topic: str,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        retain: bool = False,
        reply_to: str | None = None,
        correlation: bytes | None = None,
        sure: bool = True,
    ) -> int:
        """Publishes; for an event on a durable bus, returns its sequence once it is stored.

        ``sure=False``: the sender repeats by itself what gets lost; MQTT sends it at QoS 0.

        Raises Unreachable where the link is down or the broker does not answer, Refused where the topic is not
        declared or the body larger than the topic allows.
        """

    async def publish_all(self, events: Sequence[Outgoing]) -> None:
        """Publishes events of one stream in their order; a durable bus stores all of them or none.

        Raises as ``publish`` does, and Conflict where the stream has some of them already, by their message ids.
        """
        for each in events:
            await self.publish(each.topic, each.body, headers=each.headers)

    @abstractmethod
    def subscribe(self, *patterns: str, queue: str = "") -> Subscription:
        """Messages from now on, across reconnects; what is published while the link is down is missed.

        MQTT brokers send a message once for each pattern of a connection that matches it: let none overlap there.
        """

    @abstractmethod
    async def request(self, topic: str, body: bytes, timeout: float = 5.0) -> Message:
        """Publishes and awaits one answer. Raises Unreachable after ``timeout`` seconds."""

    @abstractmethod
    def consume(self, pattern: str, *, durable: str = "", start: int = 1, window: int = 256) -> Subscription:
        """A stream's messages in order, also those published before.

        With ``durable`` the broker keeps the place under that name and sends again what is not acknowledged.
        Without, messages come from sequence ``start`` on and need no acknowledgement. At most ``window`` messages
        are on their way.
        """

    async def last(self, topic: str) -> Message | None:
        """The newest message of an address in a last-value stream."""
        raise NotImplementedError(f"{self.url.split(':')[0]} keeps no last values")

    def is_inbox(self, address: str) -> bool:
        """Whether an address is the transport's own, where only the sender of a request listens."""
        return False

    async def last_sequence(self, stream: str) -> int:
        """The sequence of a declared stream's newest message; 0 while it is empty."""
        raise NotImplementedError(f"{self.url.split(':')[0]} has no streams")

    async def kv(self, bucket: str) -> KeyValue:
        """The key-value bucket of that name, made where it is missing."""
        raise NotImplementedError(f"{self.url.split(':')[0]} has no key-value buckets")

    async def blobs(self, bucket: str) -> BlobStore:
        """The object store of that name, made where it is missing."""
        raise NotImplementedError(f"{self.url.split(':')[0]} has no object store")

    async def prepare(self) -> None:  # noqa: B027 - only some transports have streams
        """Makes the streams that the registry declares. The coordinator's business."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
