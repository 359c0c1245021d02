"""The in-memory transport: clients of a hub in one process, with streams, buckets and blobs like those of NATS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from heliograph.bus.arriving_blob import NOBODY, ArrivingBlob, Check, ChunkAsk, status
from heliograph.bus.blob_store import BlobHolder, BlobStore
from heliograph.bus.contract import registry
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.holder_silences import HolderSilences
from heliograph.bus.memory.blobs import MemoryBlobs
from heliograph.bus.memory.connection import MemoryConnection
from heliograph.bus.memory.consumer import MemoryConsumer
from heliograph.bus.memory.hub import Hub, hub_at
from heliograph.bus.memory.key_value import MemoryKeyValue
from heliograph.bus.transport import Arrivals, Bus, KeyValue, Message, Outgoing, Subscription, require_declared
from heliograph.core.errors import NobodyAnswers, Unreachable
from heliograph.core.world import World


class MemoryBus(Bus):
    """A client of the hub that the URL names: ``memory://name``."""

    durable = True

    def __init__(self, url: str, root: str, world: World, name: str, hub: Hub | None = None) -> None:
        super().__init__(url, root, world.telemetry)
        self.hub = hub or hub_at(f"{url}/{root}")
        self.name = name
        self.connection = MemoryConnection(self.link, self.hub)
        self._world = world
        self._silences = HolderSilences()
        self._removals: dict[Callable[[], None], None] = {}

    async def open(self) -> None:
        self.hub.joined(self.name)
        self.link.set(True)

    async def close(self) -> None:
        self.drop()

    def drop(self) -> None:
        """Cut the connection at once: nothing more reaches this client."""
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
        self.connection.check()
        stored = False
        if not self.is_inbox(topic):
            stored = require_declared(topic, body).awaits_storing
        message = Message(topic, bytes(body), reply_to, headers or {}, correlation)
        await self.connection.up(len(body))
        if retain and body:
            self.hub.retain(topic, Message(topic, message.body, retained=True))
        elif retain:  # as in MQTT, an empty body removes it
            self.hub.retain(topic, None)
        if not stored:
            self.hub.publish(topic, message)
            self.count_published(len(body))
            return 0
        try:
            sequence = self.hub.publish(topic, message)
        finally:
            await self.connection.down()
        self.count_published(len(body))
        return sequence

    async def publish_all(self, events: Sequence[Outgoing]) -> None:
        if len(events) == 1:
            await super().publish_all(events)
            return
        self.connection.check()
        for each in events:
            require_declared(each.topic, each.body)
        size = sum(len(each.body) for each in events)
        await self.connection.up(size)
        try:
            self.hub.publish_all([Message(each.topic, bytes(each.body), headers=each.headers) for each in events])
        finally:
            await self.connection.down()
        self.count_published(size, len(events))

    def subscribe(self, *patterns: str, queue: str = "") -> Subscription:
        return self._subscribe(patterns, queue)

    @asynccontextmanager
    async def _subscribe(self, patterns: tuple[str, ...], queue: str) -> AsyncIterator[AsyncIterator[Message]]:
        arrivals = Arrivals(self)

        def receive(message: Message) -> None:
            self.connection.arrive(arrivals, message)

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
        require_declared(topic, body)
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

    def consume(
        self, pattern: str, *, durable: str = "", start: int = 1, window: int = 256, max_bytes: int = 0, name: str = ""
    ) -> Subscription:
        return self._consume(pattern, durable, start)

    @asynccontextmanager
    async def _consume(self, pattern: str, durable: str, start: int) -> AsyncIterator[AsyncIterator[Message]]:
        declared = registry.declared().stream_of(pattern)
        await self.link.wait_up()
        name = f"{declared.name}/{durable}" if durable else ""
        yield MemoryConsumer(self.connection, self.hub.stream(declared), pattern, start, name)

    async def last(self, topic: str) -> Message | None:
        self.connection.check()
        declared, _ = registry.find(topic)
        if declared.stream is None:
            return None
        await self.connection.up(0)
        found = self.hub.stream(declared.stream).last(topic)
        await self.connection.down(len(found.body) if found is not None else 0)
        return found

    async def last_of(self, pattern: str) -> Message | None:
        await self.connection.up(0)
        stream = self.hub.stream(registry.declared().stream_of(pattern))
        found = stream.at(stream.newest(pattern))
        await self.connection.down(len(found.body) if found is not None else 0)
        return found

    def is_inbox(self, address: str) -> bool:
        return address.startswith("_INBOX.")

    async def last_sequence(self, stream: str) -> int:
        found = self.hub.streams.get(stream)
        return found.last_sequence if found is not None else 0

    async def forget(self, topic: str) -> None:
        await self.connection.send()
        self.hub.stream(registry.declared().stream_of(topic)).forget(topic)

    async def delete_blobs(self, bucket: str) -> None:
        await self.connection.send()
        self.hub.blobs.pop(bucket, None)

    async def newest_kept(self, pattern: str) -> int:
        stream = self.hub.streams.get(registry.declared().stream_of(pattern).name)
        return stream.newest(pattern) if stream is not None else 0

    async def kv(self, bucket: str) -> KeyValue:
        return MemoryKeyValue(self.connection, bucket, self._world)

    async def blobs(self, bucket: str) -> BlobStore:
        return MemoryBlobs(self.connection, bucket, self._world)

    async def existing_blobs(self, bucket: str) -> BlobStore | None:
        self.connection.check()
        return await self.blobs(bucket) if bucket in self.hub.blobs else None

    async def fetch_from(
        self, holder: BlobHolder, ref: WeightsRef, target: Path, check: Check | None = None
    ) -> Path:
        if target.exists():
            return target
        self.connection.check()
        id = self._silences.transfer(holder.name, ref.digest) or self._world.new_id()
        silence = self._silences.of(holder.name)
        with ArrivingBlob(ref, target, holder.chunk, holder.name, holder.batches, check) as blob:
            async with self.subscribe(holder.chunks_at(id)) as messages:
                while not blob.complete:
                    if (due := blob.next_ask()) is not None:
                        if not self.hub.receivers.of(holder.ask_at):
                            blob.expects(status(NOBODY), 0)
                        await self.publish(holder.ask_at, holder.ask(id, due))
                    try:
                        async with asyncio.timeout(silence):
                            message = await anext(messages)
                    except TimeoutError:
                        self._silences.lengthen(holder.name, ref.digest, id)
                        raise Unreachable(f"{holder.name} sends no chunk in {silence:g} s") from None
                    if blob.expects(message.headers, len(message.body)):
                        blob.take(message.body)
            blob.prove()
        return target

    async def send_parts(self, to: str, file: Path, ask: ChunkAsk, chunk: int) -> None:
        with file.open("rb") as opened:
            for headers, start, length in ask.pieces(chunk, file.stat().st_size, lambda: chunk):
                opened.seek(start)
                await self.publish(to, opened.read(length), headers=headers)

    async def send_status(self, to: str, code: str) -> None:
        await self.publish(to, b"", headers=status(code))
