"""The in-memory transport: all clients of a hub in one process, with streams, buckets and blobs as NATS has them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from heliograph.bus.contract import registry
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.sizes import check_size
from heliograph.bus.memory.hub import Hub, KeptStream, hub_at
from heliograph.bus.transport import Arrivals, BlobStore, Bus, KeyValue, KeyValueEntry, Message, Outgoing, Subscription
from heliograph.core.errors import Conflict, NobodyAnswers, Refused, Unreachable
from heliograph.core.world import World


class MemoryBus(Bus):
    """A client of the hub that the URL names: ``memory://name``.

    Another link than a perfect one overrides ``_up``, ``_down`` and ``_arrive``.
    """

    durable = True

    def __init__(self, url: str, root: str, world: World, name: str, hub: Hub | None = None) -> None:
        super().__init__(url, root)
        self.hub = hub or hub_at(f"{url}/{root}")
        self.name = name
        self._world = world
        self._removals: dict[Callable[[], None], None] = {}

    async def open(self) -> None:
        self.hub.joined(self.name)
        self.link.set(True)

    async def close(self) -> None:
        self.drop()

    def drop(self) -> None:
        """The connection is gone at once: nothing more reaches this client."""
        if self.link.up:
            self.hub.left(self.name)
        self.link.set(False)
        for remove in self._removals:
            remove()
        self._removals.clear()

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
        self._check_link()
        stored = False
        if not self.is_inbox(topic):
            declared, _ = registry.find(topic)
            check_size(declared, topic, body)
            stored = declared.stream is not None
        message = Message(topic, bytes(body), reply_to, headers or {}, correlation)
        await self._up(len(body))
        if retain and body:
            self.hub.retain(topic, Message(topic, message.body, retained=True))
        elif retain:  # as in MQTT: an empty one takes it back
            self.hub.retain(topic, None)
        if not stored:
            self.hub.publish(topic, message)
            return 0
        try:
            return self.hub.publish(topic, message)
        finally:
            await self._down()

    async def publish_all(self, events: Sequence[Outgoing]) -> None:
        if len(events) == 1:
            await super().publish_all(events)
            return
        self._check_link()
        for each in events:
            check_size(registry.find(each.topic)[0], each.topic, each.body)
        await self._up(sum(len(each.body) for each in events))
        try:
            self.hub.publish_all([Message(each.topic, bytes(each.body), headers=each.headers) for each in events])
        finally:
            await self._down()

    def subscribe(self, *patterns: str, queue: str = "") -> Subscription:
        return self._subscribe(patterns, queue)

    @asynccontextmanager
    async def _subscribe(self, patterns: tuple[str, ...], queue: str) -> AsyncIterator[AsyncIterator[Message]]:
        arrivals = Arrivals(self)

        def receive(message: Message) -> None:
            self._arrive(arrivals, message)

        await self.link.wait_up()
        removals = [self.hub.receivers.add(pattern, queue, receive) for pattern in patterns]
        self._removals |= dict.fromkeys(removals)
        for message in self.hub.retained(*patterns):
            receive(message)
        try:
            yield arrivals
        finally:
            for remove in removals:
                if remove in self._removals:
                    del self._removals[remove]
                    remove()

    async def request(self, topic: str, body: bytes, timeout: float = 5.0) -> Message:
        check_size(registry.find(topic)[0], topic, body)
        inbox = f"_INBOX.{self._world.new_id()}"
        async with self.subscribe(inbox) as answers:
            if not self.hub.receivers.of(topic):
                raise NobodyAnswers(f"{topic}: nobody answers; is the coordinator running?")
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
        declared = next((t.stream for t in registry.declared().find_by_filter(pattern) if t.stream is not None), None)
        if declared is None:
            raise Refused("no-stream", topic=pattern, expected="a topic whose events are kept in a stream")
        await self.link.wait_up()
        yield _Consumed(self, self.hub.stream(declared), pattern, start, durable and f"{declared.name}/{durable}")

    async def last(self, topic: str) -> Message | None:
        self._check_link()
        declared, _ = registry.find(topic)
        if declared.stream is None:
            return None
        await self._up(0)
        found = self.hub.stream(declared.stream).last(topic)
        await self._down(len(found.body) if found is not None else 0)
        return found

    def is_inbox(self, address: str) -> bool:
        return address.startswith("_INBOX.")

    async def last_sequence(self, stream: str) -> int:
        found = self.hub.streams.get(stream)
        return found.last_sequence if found is not None else 0

    async def kv(self, bucket: str) -> KeyValue:
        return _MemoryKeyValue(self, bucket)

    async def blobs(self, bucket: str) -> BlobStore:
        return _MemoryBlobs(self, bucket)

    def _check_link(self) -> None:
        if not self.link.up:
            raise Unreachable("the memory link is down")

    async def _up(self, size: int) -> None:
        """The way to the hub; where it raises Unreachable nothing arrives there."""

    async def _down(self, size: int = 0) -> None:
        """The way back; where it raises Unreachable only the answer is lost."""

    def _arrive(self, arrivals: Arrivals, message: Message) -> None:
        """A message comes from the hub."""
        if self.link.up:
            arrivals.put(message)


class _Consumed(AsyncIterator[Message]):
    """A stream's messages from a place on, waiting for more at its end."""

    def __init__(self, bus: MemoryBus, stream: KeptStream, pattern: str, start: int, durable: str) -> None:
        self._bus = bus
        self._stream = stream
        self._pattern = pattern
        self._place = start - 1
        self._done = bus.hub.acknowledged.setdefault(durable, set()) if durable else None
        self._seen = bus.hub.delivered.setdefault(durable, set())

    async def __anext__(self) -> Message:
        while True:
            await self._bus.link.wait_up()
            kept = self._stream.following(self._place, self._pattern)
            if kept is None:
                await self._stream.grown()
                continue
            self._place = kept.sequence
            if self._done is None:
                return Message(kept.topic, kept.body, headers=kept.headers, sequence=kept.sequence)
            if kept.sequence in self._done:
                continue
            again = kept.sequence in self._seen
            self._seen.add(kept.sequence)
            acknowledge = self._acknowledging(self._done, kept.sequence)
            return Message(kept.topic, kept.body, None, kept.headers, None, kept.sequence, again, False, acknowledge)

    @staticmethod
    def _acknowledging(done: set[int], sequence: int) -> Callable[[], Awaitable[None]]:
        async def acknowledge() -> None:
            done.add(sequence)

        return acknowledge


class _MemoryKeyValue:
    def __init__(self, bus: MemoryBus, bucket: str) -> None:
        hub = bus.hub
        self._bus = bus
        self._entries = hub.buckets.setdefault(bucket, {})
        self._revisions = hub.revisions
        self._watching = hub.watching
        self._bucket = bucket

    async def get(self, key: str) -> KeyValueEntry | None:
        await self._asked()
        return self._entries.get(key)

    async def put(self, key: str, value: bytes, revision: int | None = None) -> int:
        await self._asked(len(value))
        present = self._entries.get(key)
        if revision is not None and revision != (present.revision if present else 0):
            raise Conflict(f"{key} is not at revision {revision} any more")
        newest = self._revisions[self._bucket] = self._revisions.get(self._bucket, 0) + 1  # never one again
        self._entries[key] = KeyValueEntry(key, value, newest)
        for changed in self._watching.get(f"{self._bucket}/{key}", ()):
            changed.set()
        await self._bus._down()
        return newest

    async def delete(self, key: str) -> None:
        await self._asked()
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

    async def entries(self, prefix: str = "") -> list[KeyValueEntry]:
        await self._asked()
        return [self._entries[key] for key in sorted(self._entries) if key.startswith(prefix)]

    async def _asked(self, size: int = 0) -> None:
        self._bus._check_link()
        await self._bus._up(size)


class _MemoryBlobs:
    def __init__(self, bus: MemoryBus, bucket: str) -> None:
        self.bucket = bucket
        self._bus = bus
        self._content = bus.hub.blobs.setdefault(bucket, {})

    async def has(self, digest: str) -> bool:
        await self._asked()
        return digest in self._content

    async def put(self, path: Path, ref: WeightsRef) -> WeightsRef:
        content = path.read_bytes()
        await self._asked(0 if ref.digest in self._content else len(content))
        self._content[ref.digest] = content
        await self._bus._down()
        return ref.model_copy(update={"bucket": self.bucket, "inline": None})

    async def fetch(self, ref: WeightsRef, target: Path) -> Path:
        await self._asked()
        if ref.digest not in self._content:
            raise Unreachable(f"blob {ref.digest[:12]} is not in bucket {self.bucket} yet")
        content = self._content[ref.digest]
        await self._bus._down(len(content))
        if hashlib.sha256(content).hexdigest() != ref.digest:
            raise Unreachable(f"blob {ref.digest[:12]} arrived damaged; it will be fetched again")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target

    async def delete(self, digest: str) -> None:
        await self._asked()
        self._content.pop(digest, None)

    async def digests(self) -> list[str]:
        await self._asked()
        return sorted(self._content)

    async def _asked(self, size: int = 0) -> None:
        self._bus._check_link()
        await self._bus._up(size)
