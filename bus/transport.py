"""The interface of every transport: publish, subscribe, request, consume; the same over nats://, mqtt:// and memory://.

Topics here are addresses below the root. Each transport adds the root and its own spelling.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from heliograph.bus.arriving_blob import Check, ChunkAsk
from heliograph.bus.blob_store import BlobHolder, BlobStore
from heliograph.bus.contract import registry
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.sizes import check_size
from heliograph.bus.contract.topics import Topic
from heliograph.bus.link import Link
from heliograph.core.errors import Refused
from heliograph.core.telemetry import BYTES_PUBLISHED, EVENTS_PUBLISHED, Telemetry


@dataclass(slots=True)
class Message:
    """A message that has arrived.

    Attributes:
        topic: address below the root.
        reply_to: address for the answer, below the root or an inbox of the transport; None if the sender awaits none.
        correlation: correlation data of an MQTT 5 request, for its answer.
        sequence: sequence in its stream; 0 outside streams.
        redelivered: True where its consumer received it before and did not acknowledge it.
        retained: True where the broker kept it from before the subscription.
        sender: name of the login that has sent it, where the broker says so; None where it does not.
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
    sender: str | None = None

    async def ack(self) -> None:
        """Acknowledge the message to the broker; does nothing unless it was consumed."""
        if self.acknowledge is not None:
            await self.acknowledge()


def require_plain(topic: str) -> None:
    """Raise Refused if a topic means something else on NATS than on MQTT, or is a pattern."""
    words = topic.split("/")
    if not all(words) or set(topic) & set(".*>+#\0") or any(map(str.isspace, topic)):
        expected = "words without dots, spaces and wildcards"
        raise Refused("invalid", topic=topic, expected=expected, got=topic)


def require_live(message: Message) -> None:
    """Raises Refused if the broker kept a message from before the subscription.

    What it asks for was asked then; a receiver that took it would do it again at each of its starts.
    """
    if message.retained:
        raise Refused("retained", topic=message.topic, expected="a message of now",
                      got="one that the broker has kept", hint="Publish without the retain flag.")  # fmt: skip


def require_declared(topic: str, body: bytes) -> Topic[Any]:
    """Return the declared topic of a message. Raises Refused if there is none, or if the body is larger than it
    allows."""
    declared, _ = registry.find(topic)
    check_size(declared, topic, body)
    return declared


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event to publish."""

    topic: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


_WIRE = 128
"""Bytes of a message on its way besides its parts, about."""


def wire_size(event: Outgoing) -> int:
    """Return about how many bytes an event takes on a link."""
    headers = sum(len(key) + len(value) + 4 for key, value in event.headers.items())
    return len(event.topic) + len(event.body) + headers + _WIRE


PENDING_BYTES = 64 * 1024 * 1024
"""Largest size in bytes of the messages that wait for one reader."""
_MESSAGE = 512
"""Approximate bytes that a message takes in memory besides its body."""


class Arrivals(AsyncIterator[Message]):
    """A bounded queue of arriving messages for one reader. Unlike a generator it survives a cancelled wait.

    When ``PENDING_BYTES`` wait for a slow reader, it drops and counts further messages, as a broker with a full queue
    does. A sender of events that must not be lost repeats them until they are acknowledged.
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
        """End the queue: the reader gets the messages that have arrived, then this error."""
        self._failure = error
        self._wake()

    def check(self) -> None:
        """Raise the error of ``fail`` if it was called."""
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
            self._arrived = None  # an agent has many subscriptions, and most are idle
        self._waiting -= len(message.body) + _MESSAGE
        return message


Subscription = AbstractAsyncContextManager[AsyncIterator[Message]]


@dataclass(frozen=True, slots=True)
class KeyValueEntry:
    """A value in a key-value bucket, with the ``revision`` for a compare-and-set, and the time at which it was stored,
    in seconds since 1970."""

    key: str
    value: bytes
    revision: int
    at: float = field(default=0.0, compare=False)


class KeyValue(Protocol):
    """A bucket of small values with compare-and-set. Keys are labels joined by dots."""

    async def get(self, key: str) -> KeyValueEntry | None: ...
    async def put(self, key: str, value: bytes, revision: int | None = None) -> int:
        """Store a value and return its new revision.

        With ``revision``, raises Conflict unless it is the current one; 0 means that the key does not exist.
        """
        ...

    async def create_all(self, values: Mapping[str, bytes]) -> dict[str, int]:
        """Store values under keys that do not exist, all or none, and return their revisions.

        Raises Conflict where one of the keys exists.
        """
        ...

    async def delete(self, key: str) -> None: ...
    async def entries(self, prefix: str = "") -> list[KeyValueEntry]: ...
    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with ``prefix``, sorted, without their values."""
        ...

    def changes(self, key: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """Yield an event that is set at each write of the key and at each reconnect: a hint to read the key again."""
        ...


@dataclass(frozen=True, slots=True)
class StoreUse:
    """How much of what a broker's store may take is taken.

    Attributes:
        store: the whole store, or the bucket, in words.
        unit: what is counted: ``bytes``, ``keys`` or ``chunks``.
        bucket: name of the bucket; empty for the whole store.
    """

    store: str
    used: int
    most: int
    unit: str
    bucket: str = ""


class Bus(ABC):
    """A connection to one broker. Use it as an async context manager; it reconnects by itself without end."""

    durable: bool
    """Whether ``publish`` of an event returns only after the event is stored and synced."""
    makes_buckets = True
    """Whether ``kv`` and ``blobs`` make a bucket that is missing and set its limits; a worker's login may not."""

    def __init__(self, url: str, root: str, telemetry: Telemetry) -> None:
        transport = url.partition(":")[0]
        self._events = telemetry.counter(EVENTS_PUBLISHED, transport=transport)
        self._bytes = telemetry.counter(BYTES_PUBLISHED, transport=transport)
        self.url = url
        self.root = root
        self.link = Link()
        self.dropped = 0
        """Number of messages dropped because the queue of a slow reader was full."""

    def count_published(self, size: int, events: int = 1) -> None:
        """Count events that the broker has accepted, with ``size`` bytes of bodies. The transport calls this."""
        self._events(events)
        self._bytes(size)

    @property
    def last_error(self) -> str:
        """The newest error of the connection or of the broker."""
        return self.link.last_error

    @abstractmethod
    async def open(self) -> None:
        """Start connecting and return at once; see ``link`` for the state of the connection."""

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
        """Publish a message. For an event on a durable bus, return its sequence after it is stored; otherwise 0.

        Raises Unreachable if the link is down or the broker does not answer, Forbidden if the login may not publish
        there, Refused if the topic is not declared or the body is larger than the topic allows.

        Args:
            sure: False where the sender itself repeats a lost message; MQTT then uses QoS 0.
        """

    async def publish_all(self, events: Sequence[Outgoing]) -> None:
        """Publish events of one stream in order; a durable bus stores all of them or none.

        Raises as ``publish`` does, and Conflict if the stream already has some of them, by their message ids.
        """
        for each in events:
            await self.publish(each.topic, each.body, headers=each.headers)

    @abstractmethod
    def subscribe(self, *patterns: str, queue: str = "") -> Subscription:
        """Subscribe to messages from now on, across reconnects; messages published while the link is down are lost.

        Subscribers with the same ``queue`` share the messages; MQTT ignores it. Patterns must not overlap on MQTT: its
        brokers send a message once for each pattern of a connection that matches it.
        """

    @abstractmethod
    async def request(self, topic: str, body: bytes, timeout: float = 5.0) -> Message:
        """Publish a request and return its answer. Raises Unreachable after ``timeout`` seconds."""

    @abstractmethod
    def consume(
        self, pattern: str, *, durable: str = "", start: int = 1, window: int = 256, max_bytes: int = 0, name: str = ""
    ) -> Subscription:
        """Consume a stream's messages in order, also those published before.

        With ``durable`` the broker keeps the position under that name, and redelivers messages that are not
        acknowledged. Without it, messages start at sequence ``start`` and need no acknowledgement. At most ``window``
        messages are under way, and where ``max_bytes`` is given about so many bytes. ``name`` is that of the consumer
        at the broker, for a login that may have no other; then nobody else may consume by it at the same time.
        """

    async def last(self, topic: str) -> Message | None:
        """Return the newest message of an address in a last-value stream; None if there is none."""
        raise NotImplementedError(f"{self.url.split(':')[0]} keeps no last values")

    async def last_of(self, pattern: str) -> Message | None:
        """Return the newest message of any address of a pattern in a stream; None if there is none. Its topic is the
        pattern."""
        raise NotImplementedError(f"{self.url.split(':')[0]} has no streams")

    def is_inbox(self, address: str) -> bool:
        """Return whether an address is an inbox, to which only the sender of a request subscribes."""
        return False

    async def last_sequence(self, stream: str) -> int:
        """Return the sequence of a declared stream's newest message; 0 while it is empty."""
        raise NotImplementedError(f"{self.url.split(':')[0]} has no streams")

    async def newest_kept(self, pattern: str) -> int:
        """Return the sequence of the newest message that a stream still has of a pattern; 0 where it has none. Its
        ``last_sequence`` may be above that, because messages expire and are purged."""
        raise NotImplementedError(f"{self.url.split(':')[0]} has no streams")

    async def kv(self, bucket: str) -> KeyValue:
        """Return the key-value bucket of that name; create it if it is missing."""
        raise NotImplementedError(f"{self.url.split(':')[0]} has no key-value buckets")

    async def blobs(self, bucket: str) -> BlobStore:
        """Return the object store of that name; create it if it is missing."""
        raise NotImplementedError(f"{self.url.split(':')[0]} has no object store")

    async def existing_blobs(self, bucket: str) -> BlobStore | None:
        """Return the object store of that name; None if there is none."""
        raise NotImplementedError(f"{self.url.split(':')[0]} has no object store")

    async def fetch_from(
        self, holder: BlobHolder, ref: WeightsRef, target: Path, check: Check | None = None
    ) -> Path:
        """Fetch a blob from its holder, as ``BlobSource.fetch`` does. Raise NotHeld where it has none,
        NobodyAnswers where it is not there."""
        raise NotImplementedError(f"{self.url.split(':')[0]} carries no blobs")

    async def send_parts(self, to: str, file: Path, ask: ChunkAsk, chunk: int) -> None:
        """Send parts of a file, each of ``chunk`` bytes, to an address. Raise OSError where it cannot be read."""
        raise NotImplementedError(f"{self.url.split(':')[0]} carries no blobs")

    async def send_status(self, to: str, code: str) -> None:
        """Send a code of HTTP, in place of chunks, to an address."""
        raise NotImplementedError(f"{self.url.split(':')[0]} carries no blobs")

    async def forget(self, topic: str) -> None:
        """Delete every message of an address from its stream."""
        raise NotImplementedError(f"{self.url.split(':')[0]} has no streams")

    async def delete_blobs(self, bucket: str) -> None:
        """Delete the object store of that name with all its blobs; do nothing if there is none."""
        raise NotImplementedError(f"{self.url.split(':')[0]} has no object store")

    async def store_use(self) -> list[StoreUse]:
        """Return how much is taken of what this login's streams and buckets may take; those without a bound are left
        out."""
        return []

    async def bound_mqtt(self) -> None:  # noqa: B027 - only one broker stores anything for MQTT clients
        """Bound what the broker stores for MQTT clients, if it stores anything."""

    async def drop_retained(self) -> int:
        """Delete the messages that MQTT clients made the broker retain on topics that are not; return their number."""
        return 0

    async def prepare(self) -> None:  # noqa: B027 - only some transports have streams
        """Create or update the streams that the registry declares. The coordinator calls this at its start."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
