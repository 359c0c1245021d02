"""The NATS transport: the cloud and the wide-area link, with JetStream behind events, state and blobs.

Blobs, key-value and the making of streams are loaded when they are used: an idle agent uses none of them.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nats.aio.msg import Msg

from heliograph.bus.arriving_blob import SEQUENCE, ArrivingBlob, Check, ChunkAsk, status
from heliograph.bus.blob_store import BlobHolder, BlobStore
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract import topics
from heliograph.bus.contract.buckets import OTHERS_MAX, UPLOADS_MAX
from heliograph.bus.contract.permissions import is_upload_bucket
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.subjects import Subjects
from heliograph.bus.holder_silences import HolderSilences
from heliograph.bus.nats.bulk_links import BulkLinks
from heliograph.bus.nats.connection import DOWN, FOR_EVER, NatsConnection, is_missing, stored_at
from heliograph.bus.nats.consumer import consume
from heliograph.bus.nats.requestor import SENDER, sender_of
from heliograph.bus.transport import (
    PENDING_BYTES,
    Arrivals,
    Bus,
    KeyValue,
    Message,
    Outgoing,
    StoreUse,
    Subscription,
    require_declared,
    require_plain,
    wire_size,
)
from heliograph.core.errors import Conflict, LinkDown, Refused
from heliograph.core.world import World

if TYPE_CHECKING:
    from heliograph.bus.nats.blobs import NatsBlobs
    from heliograph.bus.nats.bulk import BulkLink

PUBLISH_TIMEOUT = 10.0
_DUPLICATE_IN_BATCH = 10201


class NatsBus(Bus):
    """A client of a NATS server. ``connection`` sends requests to the server itself and to JetStream."""

    durable = True

    def __init__(self, url: str, root: str, world: World, name: str, inbox: str = "") -> None:
        super().__init__(url, root, world.telemetry)
        self.subjects = Subjects(root)
        self.connection = NatsConnection(
            ConnectionUrl.parse(url), self.subjects, world, self.link, name, inbox, self._on_slow
        )
        self._world = world
        self._id = world.new_id()
        self._bounded = False
        self._kvs: dict[str, KeyValue] = {}
        self._stores: dict[str, NatsBlobs] = {}
        self._silences = HolderSilences()
        self._links = BulkLinks(self.connection.url, world, self.link.pace)

    async def open(self) -> None:
        await self.connection.open()

    async def close(self) -> None:
        await self.connection.close()
        self._links.close()

    def _on_slow(self) -> None:
        self.dropped += 1

    def is_inbox(self, address: str) -> bool:
        return self.subjects.is_inbox(address)

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
        connection = self.connection
        if self.is_inbox(topic):
            await connection.guard(connection.client.publish(topic, body))
            self.count_published(len(body))
            return 0
        declared = require_declared(topic, body)
        subject = self.subjects.subject(topic)
        if not declared.awaits_storing:
            reply = self.subjects.reply_subject(reply_to) if reply_to else ""
            sent = dict(headers) if headers else None
            await connection.guard(connection.client.publish(subject, body, reply=reply, headers=sent))
            self.count_published(len(body))
            return 0
        size = wire_size(Outgoing(topic, body, headers or {}))
        async with self._paced(size):
            answer = await connection.request(subject, body, connection.within(PUBLISH_TIMEOUT), headers)
        sequence = stored_at(answer.data, topic)
        self.count_published(len(body))
        return sequence

    async def publish_raw(self, topic: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Publish to a topic that need not be declared. Raises Refused if no subject can be made of it."""
        require_plain(topic)
        publishing = self.connection.client.publish(self.subjects.subject(topic), body, headers=dict(headers))
        await self.connection.guard(publishing)
        self.count_published(len(body))

    async def publish_all(self, events: Sequence[Outgoing]) -> None:
        """Publish several events as one atomic batch (NATS ADR-50)."""
        if len(events) == 1:
            await super().publish_all(events)
            return
        batch = self._world.new_id()
        for each in events:
            require_declared(each.topic, each.body)
        size = sum(map(wire_size, events))
        async with self._paced(size):
            await self.connection.guard(
                self._publish_batch(batch, events), self.subjects.subject(events[-1].topic),
                self.connection.within(PUBLISH_TIMEOUT), size,
            )  # fmt: skip
        self.count_published(sum(len(each.body) for each in events), len(events))

    @asynccontextmanager
    async def _paced(self, size: int) -> AsyncIterator[None]:
        """Let the link's pace know how long it takes until the broker has stored ``size`` bytes."""
        began = self._world.monotonic()
        try:
            yield
        except LinkDown:
            self.link.pace.lost()
            raise
        self.link.pace.acknowledged(size, self._world.monotonic() - began)

    async def _publish_batch(self, batch: str, events: Sequence[Outgoing]) -> None:
        client = self.connection.client
        for place, each in enumerate(events, 1):
            subject = self.subjects.subject(each.topic)
            headers = {**each.headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(place)}
            if place < len(events):
                await client.publish(subject, each.body, headers=headers)
                continue
            headers["Nats-Batch-Commit"] = "1"
            answer = await client.request(subject, each.body, timeout=FOR_EVER, headers=headers)
            if json.loads(answer.data).get("error", {}).get("err_code") == _DUPLICATE_IN_BATCH:
                raise Conflict(f"{each.topic}: the stream has some of these events")
            stored_at(answer.data, each.topic)

    async def request(self, topic: str, body: bytes, timeout: float = 5.0) -> Message:
        require_declared(topic, body)
        answer = await self.connection.request(self.subjects.subject(topic), body, timeout)
        self.count_published(len(body))
        return Message(self.subjects.address(answer.subject), answer.data)

    def subscribe(self, *patterns: str, queue: str = "") -> Subscription:
        return self._subscribe(patterns, queue)

    @asynccontextmanager
    async def _subscribe(self, patterns: tuple[str, ...], queue: str) -> AsyncIterator[AsyncIterator[Message]]:
        arrivals = Arrivals(self)
        subjects = self.subjects
        in_accounts = self.connection.url.credentials.file is not None

        async def put(message: Msg) -> None:
            headers = message.headers or {}
            # in one account with its senders, whoever sends the header has written it
            sender = sender_of(headers.pop(SENDER)) if in_accounts and SENDER in headers else None
            arrivals.put(
                Message(
                    subjects.address(message.subject),
                    message.data,
                    reply_to=subjects.reply_address(message.reply) or None,
                    headers=headers,
                    sender=sender,
                )
            )

        await self.link.wait_up()
        connection = self.connection
        async with contextlib.AsyncExitStack() as stack:
            for pattern in patterns:
                subject = subjects.subject(pattern)
                refusal = Refused("forbidden", topic=pattern, expected="permission to subscribe",
                                  got="a refusal by the broker")  # fmt: skip
                stack.enter_context(connection.on_refusal("subscription", subject, partial(arrivals.fail, refusal)))
                made = connection.client.subscribe(subject, queue=queue, cb=put, pending_bytes_limit=PENDING_BYTES)
                stack.push_async_callback(connection.unsubscribe, await connection.guard(made))
            with contextlib.suppress(*DOWN):
                await connection.settle()
            arrivals.check()
            yield arrivals

    def consume(
        self, pattern: str, *, durable: str = "", start: int = 1, window: int = 256, max_bytes: int = 0, name: str = ""
    ) -> Subscription:
        return consume(self.connection, pattern, durable, start, window, max_bytes, name)

    async def last_of(self, pattern: str) -> Message | None:
        return await self.last(pattern)  # the broker takes a pattern for an address here

    async def last(self, topic: str) -> Message | None:
        stream, subject = self.subjects.stream_of(topic), self.subjects.subject(topic)
        answer = await self.connection.request(f"$JS.API.DIRECT.GET.{stream}.{subject}")
        if is_missing(answer):
            return None
        headers = answer.headers or {}
        return Message(topic, answer.data, headers=headers, sequence=int(headers.get(SEQUENCE, 0)))

    async def last_sequence(self, stream: str) -> int:
        answer = await self.connection.ask(f"$JS.API.STREAM.INFO.{self.subjects.stream_name(stream)}")
        return int(answer.get("state", {}).get("last_seq", 0))

    async def newest_kept(self, pattern: str) -> int:
        wanted = json.dumps({"last_by_subj": self.subjects.subject(pattern)}).encode()
        answer = await self.connection.request(f"$JS.API.DIRECT.GET.{self.subjects.stream_of(pattern)}", wanted)
        return 0 if is_missing(answer) else int((answer.headers or {})[SEQUENCE])

    async def kv(self, bucket: str) -> KeyValue:
        from heliograph.bus.nats.key_value import NatsKeyValue

        if bucket not in self._kvs:
            bucket_made = NatsKeyValue(self.connection, self.subjects.stream_name(bucket))
            if self.makes_buckets:
                await bucket_made.prepare()
            self._kvs[bucket] = bucket_made
        return self._kvs[bucket]

    async def blobs(self, bucket: str) -> BlobStore:
        if bucket in self._stores:
            return self._stores[bucket]
        from heliograph.bus.nats.blobs import NatsBlobs

        # an upload is useless without the event that names it: it expires with that event if nobody deletes it
        uploads = topics.MODEL_UPDATE.stream if is_upload_bucket(bucket) else None
        max_age, most = (uploads.max_age, UPLOADS_MAX) if uploads is not None else (0, OTHERS_MAX)
        writer = "" if self.makes_buckets else self._id
        name = self.subjects.stream_name(bucket)
        store = NatsBlobs(self.connection, self._links, name, bucket, most, max_age, writer)
        if self.makes_buckets:
            await store.prepare()
        self._stores[bucket] = store
        return store

    async def existing_blobs(self, bucket: str) -> BlobStore | None:
        stream = f"OBJ_{self.subjects.stream_name(bucket)}"
        if bucket in self._stores or await self.connection.stream_config(stream) is not None:
            return await self.blobs(bucket)
        return None

    async def fetch_from(
        self, holder: BlobHolder, ref: WeightsRef, target: Path, check: Check | None = None
    ) -> Path:
        if target.exists():
            return target
        from heliograph.bus.nats.blob_transfers import receive
        from heliograph.bus.nats.bulk import Unanswered

        # the same id again where nothing has come yet: what was asked for may be on its way
        id = self._silences.transfer(holder.name, ref.digest) or self._world.new_id()
        subject = self.subjects.subject(holder.ask_at)
        inbox = self.subjects.subject(holder.chunks_at(id))
        blob = ArrivingBlob(ref, target, holder.chunk, holder.name, holder.batches, check)

        def transfer(link: BulkLink, stop: threading.Event) -> None:
            asked = False

            def ask(due: ChunkAsk) -> None:
                nonlocal asked
                # the answer to the first ask is the broker's, where nobody listens; all others come as chunks
                send = link.post if asked else link.publish
                asked = True
                send(subject, holder.ask(id, due))

            receive(link, inbox, blob, ask, stop, self._silences.of(holder.name))

        try:
            await self._links.run(transfer)
        except Unanswered:
            self._silences.lengthen(holder.name, ref.digest, id)
            raise
        return target

    async def send_parts(self, to: str, file: Path, ask: ChunkAsk, chunk: int) -> None:
        from heliograph.bus.nats.blob_transfers import send_parts

        subject = self.subjects.subject(to)
        await self._links.run(send_parts, subject, file, ask, chunk)

    async def send_status(self, to: str, code: str) -> None:
        subject = self.subjects.subject(to)
        await self.connection.guard(self.connection.client.publish(subject, b"", headers=status(code)))

    async def forget(self, topic: str) -> None:
        stream, subject = self.subjects.stream_of(topic), self.subjects.subject(topic)
        await self.connection.ask(f"$JS.API.STREAM.PURGE.{stream}", {"filter": subject})

    async def delete_blobs(self, bucket: str) -> None:
        await self.connection.ask(f"$JS.API.STREAM.DELETE.OBJ_{self.subjects.stream_name(bucket)}")
        self._stores.pop(bucket, None)

    async def store_use(self) -> list[StoreUse]:
        from heliograph.bus.nats.store_use import account_use, bucket_use

        name = self.subjects.stream_name
        buckets = [(bucket, f"KV_{name(bucket)}") for bucket in sorted(self._kvs)]
        buckets += [(bucket, f"OBJ_{name(bucket)}") for bucket in sorted(self._stores)]
        return [*await account_use(self.connection), *await bucket_use(self.connection, buckets)]

    async def server_use(self) -> list[StoreUse]:
        """Return how much is taken of what the server's store may take. For a login of the system account."""
        from heliograph.bus.nats.store_use import server_use

        return await server_use(self.connection)

    async def bound_mqtt(self) -> None:
        from heliograph.bus.nats.mqtt_streams import bound_mqtt_streams

        if not self._bounded:
            self._bounded = await bound_mqtt_streams(self.connection)

    async def drop_retained(self) -> int:
        from heliograph.bus.nats.mqtt_streams import purge_retained

        return await purge_retained(self.connection, self.subjects)

    async def prepare(self) -> None:
        from heliograph.bus.nats.streams import prepare_streams

        await prepare_streams(self.connection, self._world)
