"""The in-memory transport: all clients of a hub in one process, with streams, buckets and blobs as NATS has them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from heliograph.bus import topics
from heliograph.bus.errors import Conflict, Refused, Unreachable
from heliograph.bus.names import matches
from heliograph.bus.nats import check_size
from heliograph.bus.resources.base import WeightsRef
from heliograph.bus.transport import Arrivals, BlobStore, Bus, Entry, KeyValue, Message, Subscription
from heliograph.bus.world import World


class Hub:
    """What a broker keeps: subscribers, streams, buckets and blobs."""

    def __init__(self) -> None:
        self.receivers: list[tuple[str, str, Callable[[Message], None]]] = []
        self.streams: dict[str, list[Message]] = {}
        self.sequences: dict[str, int] = {}
        self.acknowledged: dict[str, set[int]] = {}
        self.delivered: dict[str, set[int]] = {}
        self.retained: dict[str, Message] = {}
        self.buckets: dict[str, dict[str, Entry]] = {}
        self.revisions: dict[str, int] = {}
        self.watching: dict[str, list[asyncio.Event]] = {}
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.turns: dict[str, int] = {}

    def publish(self, topic: str, message: Message) -> int:
        declared = None if topic.startswith("_INBOX") else topics.find(topic)[0]
        if declared is not None and declared.stream is not None:
            stream = self.streams.setdefault(declared.stream.name, [])
            message.sequence = self.sequences.get(declared.stream.name, 0) + 1
            self.sequences[declared.stream.name] = message.sequence
            if declared.stream.last_value:
                stream[:] = [each for each in stream if each.topic != topic]
            stream.append(message)
        queues: dict[str, list[Callable[[Message], None]]] = {}
        for pattern, queue, receive in list(self.receivers):
            if matches(pattern, topic):
                if queue:
                    queues.setdefault(queue, []).append(receive)
                else:
                    receive(message)
        for queue, members in queues.items():
            turn = self.turns[queue] = self.turns.get(queue, -1) + 1
            members[turn % len(members)](message)
        return message.sequence


_HUBS: WeakValueDictionary[str, Hub] = WeakValueDictionary()


class MemoryBus(Bus):
    """A client of the hub that the URL names: ``memory://name``."""

    durable = True

    def __init__(self, url: str, root: str, world: World, name: str) -> None:
        super().__init__(url, root)
        self._world = world
        self._hub = _HUBS.setdefault(f"{url}/{root}", Hub())

    async def open(self) -> None:
        self.link.set(True)

    async def close(self) -> None:
        self.link.set(False)

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
        if not self.link.up:
            raise Unreachable("the memory link is down")
        if not topic.startswith("_INBOX"):
            declared, _ = topics.find(topic)
            check_size(declared, topic, body)
        message = Message(topic, bytes(body), reply_to, dict(headers or {}), correlation)
        if retain and body:
            self._hub.retained[topic] = Message(topic, bytes(body), retained=True)
        elif retain:  # as in MQTT: an empty one takes it back
            self._hub.retained.pop(topic, None)
        return self._hub.publish(topic, message)

    def subscribe(self, *patterns: str, queue: str = "") -> Subscription:
        return self._subscribe(patterns, queue)

    @asynccontextmanager
    async def _subscribe(self, patterns: tuple[str, ...], queue: str) -> AsyncIterator[AsyncIterator[Message]]:
        arrivals = Arrivals(self)

        def receive(message: Message) -> None:
            if self.link.up:
                arrivals.put(message)

        await self.link.wait_up()
        mine = [(pattern, queue, receive) for pattern in patterns]
        self._hub.receivers += mine
        for message in self._hub.retained.values():
            if any(matches(pattern, message.topic) for pattern in patterns):
                arrivals.put(message)
        try:
            yield arrivals
        finally:
            for entry in mine:
                self._hub.receivers.remove(entry)

    async def request(self, topic: str, body: bytes, timeout: float = 5.0) -> Message:
        inbox = f"_INBOX.{self._world.new_id()}"
        async with self.subscribe(inbox) as answers:
            await self.publish(topic, body, reply_to=inbox)
            try:
                async with asyncio.timeout(timeout):
                    return await anext(answers)
            except TimeoutError:
                raise Unreachable(f"no answer to {topic} in {timeout:g} s") from None

    def consume(self, pattern: str, *, durable: str = "", start: int = 1, window: int = 256) -> Subscription:
        return self._consume(pattern, durable, start)

    @asynccontextmanager
    async def _consume(self, pattern: str, durable: str, start: int) -> AsyncIterator[AsyncIterator[Message]]:
        name = next((t.stream.name for t in topics.find_by_filter(pattern) if t.stream is not None), None)
        if name is None:
            raise Refused("no-stream", topic=pattern, expected="a topic whose events are kept in a stream")
        done = self._hub.acknowledged.setdefault(f"{name}/{durable}", set()) if durable else set()
        seen = self._hub.delivered.setdefault(f"{name}/{durable}", set()) if durable else set()

        async with self.subscribe(pattern) as live:
            yield _Consumed(self._hub, name, pattern, start, done if durable else None, seen, live)

    async def last(self, topic: str) -> Message | None:
        for stream in self._hub.streams.values():
            for message in reversed(stream):
                if message.topic == topic:
                    return message
        return None

    async def kv(self, bucket: str) -> KeyValue:
        return _MemoryKeyValue(self._hub, bucket)

    async def blobs(self, bucket: str) -> BlobStore:
        return _MemoryBlobs(bucket, self._hub.blobs.setdefault(bucket, {}))


class _Consumed(AsyncIterator[Message]):
    """A stream's messages from a place on, waiting for more at its end."""

    def __init__(
        self,
        hub: Hub,
        name: str,
        pattern: str,
        start: int,
        done: set[int] | None,
        seen: set[int],
        live: AsyncIterator[Message],
    ) -> None:
        self._hub = hub
        self._name = name
        self._pattern = pattern
        self._place = start - 1
        self._done = done
        self._seen = seen
        self._live = live

    async def __anext__(self) -> Message:
        while True:
            for kept in self._hub.streams.get(self._name, []):
                if kept.sequence <= self._place or not matches(self._pattern, kept.topic):
                    continue
                if self._done is not None and kept.sequence in self._done:
                    continue
                self._place = kept.sequence
                message = Message(kept.topic, kept.body, headers=kept.headers, sequence=kept.sequence)
                if self._done is not None:
                    message.acknowledge = self._acknowledging(kept.sequence)
                    message.redelivered = kept.sequence in self._seen
                    self._seen.add(kept.sequence)
                return message
            await anext(self._live)

    def _acknowledging(self, sequence: int) -> Callable[[], Awaitable[None]]:
        async def acknowledge() -> None:
            assert self._done is not None
            self._done.add(sequence)

        return acknowledge


class _MemoryKeyValue:
    def __init__(self, hub: Hub, bucket: str) -> None:
        self._entries = hub.buckets.setdefault(bucket, {})
        self._revisions = hub.revisions
        self._watching = hub.watching
        self._bucket = bucket

    async def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    async def put(self, key: str, value: bytes, revision: int | None = None) -> int:
        present = self._entries.get(key)
        if revision is not None and revision != (present.revision if present else 0):
            raise Conflict(f"{key} is not at revision {revision} any more")
        newest = self._revisions[self._bucket] = self._revisions.get(self._bucket, 0) + 1  # never one again
        self._entries[key] = Entry(key, value, newest)
        for changed in self._watching.get(f"{self._bucket}/{key}", ()):
            changed.set()
        return newest

    async def delete(self, key: str) -> None:
        self._entries.pop(key, None)

    @asynccontextmanager
    async def changes(self, key: str) -> AsyncIterator[asyncio.Event]:
        changed = asyncio.Event()
        watching = self._watching.setdefault(f"{self._bucket}/{key}", [])
        watching.append(changed)
        try:
            yield changed
        finally:
            watching.remove(changed)

    async def entries(self, prefix: str = "") -> list[Entry]:
        return [self._entries[key] for key in sorted(self._entries) if key.startswith(prefix)]


class _MemoryBlobs:
    def __init__(self, bucket: str, content: dict[str, bytes]) -> None:
        self.bucket = bucket
        self._content = content

    async def has(self, digest: str) -> bool:
        return digest in self._content

    async def put(self, path: Path, ref: WeightsRef) -> WeightsRef:
        self._content[ref.digest] = path.read_bytes()
        return ref.model_copy(update={"bucket": self.bucket, "inline": None})

    async def fetch(self, ref: WeightsRef, target: Path) -> Path:
        if ref.digest not in self._content:
            raise Unreachable(f"blob {ref.digest[:12]} is not in bucket {self.bucket} yet")
        content = self._content[ref.digest]
        if hashlib.sha256(content).hexdigest() != ref.digest:
            raise Unreachable(f"blob {ref.digest[:12]} arrived damaged; it will be fetched again")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target

    async def delete(self, digest: str) -> None:
        self._content.pop(digest, None)

    async def digests(self) -> list[str]:
        return sorted(self._content)
