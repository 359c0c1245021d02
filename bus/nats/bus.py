"""The NATS transport: the cloud and the wide-area link, with JetStream behind events, state and blobs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from heliograph.bus.contract import registry, topics
from heliograph.bus.contract.permissions import is_upload_bucket
from heliograph.bus.contract.sizes import check_size
from heliograph.bus.nats.blobs import NatsBlobs
from heliograph.bus.nats.key_value import NatsKeyValue
from heliograph.bus.transport import (
    PENDING_BYTES,
    Arrivals,
    BlobStore,
    Bus,
    KeyValue,
    Message,
    Outgoing,
    Subscription,
)
from heliograph.core.errors import Conflict, Forbidden, HeliographError, LinkDown, NobodyAnswers, Refused, Unreachable
from heliograph.core.tasks import cancel_and_wait, unswallowed
from heliograph.core.world import World

logging.getLogger("nats").addHandler(logging.NullHandler())  # what it says of lost connections is said by us

RECONNECT_WAIT = 0.1
"""Seconds between two attempts to reach the broker: replay starts at once when the link returns."""
PUBLISH_TIMEOUT = 10.0
_FORBIDDEN = re.compile(r'permissions violation for subscription to "([^"]+)"', re.IGNORECASE)
_FORBIDDEN_TO_PUBLISH = re.compile(r'permissions violation for publish to "([^"]+)"', re.IGNORECASE)
_DUPLICATE_IN_BATCH = 10201
_DOWN = (nats.errors.Error, OSError, asyncio.TimeoutError)


class NatsBus(Bus):
    """A connection to a NATS server. The URL's user and password are the credentials."""

    durable = True

    def __init__(self, url: str, root: str, world: World, name: str, inbox: str = "") -> None:
        super().__init__(url, root)
        self._world = world
        self._name = name
        self._inbox = inbox or "_INBOX"
        self._dotted_root = root.replace("/", ".") + "."
        self._nc = _Client()
        self._connecting: asyncio.Task[None] | None = None
        self._forbidden: set[str] = set()
        self._not_to_publish: set[str] = set()
        self._waiting: dict[asyncio.Timeout, str] = {}
        """What is awaited, and of which subject."""
        self.unheard = 0
        """How many messages the broker did not take, for want of a permission, whose publisher did not ask."""
        self._kvs: dict[str, KeyValue] = {}
        self._stores: dict[str, NatsBlobs] = {}
        self.last_error = ""

    async def open(self) -> None:
        self._connecting = asyncio.create_task(self._connect())

    async def close(self) -> None:
        if self._connecting is not None:
            await cancel_and_wait(self._connecting)
        with contextlib.suppress(*_DOWN):
            if self._nc.is_connected:
                await self._nc.flush(timeout=1)
        running = self._client_tasks()
        with contextlib.suppress(*_DOWN):
            await self._nc.close()
        await cancel_and_wait(*running)
        for store in self._stores.values():
            await store.close()
        self.link.set(False)

    def _client_tasks(self) -> list[asyncio.Task[Any]]:
        """What the client runs. It cancels these once and gives up on one that would try to reconnect for ever."""
        nc = self._nc
        tasks = [nc._reconnection_task, nc._reading_task, nc._ping_interval_task, nc._flusher_task]
        tasks += [each._wait_for_msgs_task for each in nc._subs.values()]
        return [task for task in tasks if task is not None]

    async def _connect(self) -> None:
        parts = urlsplit(self.url)
        server = f"{parts.scheme}://{parts.hostname}:{parts.port or 4222}"
        while True:
            try:
                await self._nc.connect(
                    server,
                    name=self._name,
                    user=unquote(parts.username) if parts.username else None,
                    password=unquote(parts.password) if parts.password else None,
                    inbox_prefix=self._inbox,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_WAIT,  # type: ignore[arg-type]
                    connect_timeout=2,
                    ping_interval=1,
                    max_outstanding_pings=2,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_down,
                    reconnected_cb=self._on_up,
                    closed_cb=self._on_down,
                )
            except _DOWN as error:
                self.last_error = str(error) or type(error).__name__
                await self._world.sleep(RECONNECT_WAIT)
                self._nc = _Client()
            else:
                self.link.set(True)
                return

    async def _on_error(self, error: Exception) -> None:
        self.last_error = str(error) or type(error).__name__
        if match := _FORBIDDEN.search(self.last_error):
            self._forbidden.add(match.group(1))
        if match := _FORBIDDEN_TO_PUBLISH.search(self.last_error):
            self._on_forbidden(match.group(1))
        if isinstance(error, nats.errors.SlowConsumerError):
            self.dropped += 1

    def _on_forbidden(self, subject: str) -> None:
        """A publish was refused: an answer that is awaited to it will not come."""
        declared, _ = registry.lookup(self.address(subject))
        if subject.startswith(self._dotted_root) and (declared is None or declared.stream is None):
            self.unheard += 1
        now = asyncio.get_running_loop().time()
        subject = subject.lower()
        for waiting, awaited in self._waiting.items():
            if awaited.lower() == subject:  # the client library tells errors in lower case
                self._not_to_publish.add(awaited)
                waiting.reschedule(now)

    async def _on_down(self) -> None:
        now = asyncio.get_running_loop().time()
        ended, self._waiting = self._waiting, {}
        for waiting in ended:  # the answers are lost with the connection: to wait on would delay a replay
            waiting.reschedule(now)
        self.link.set(False)

    async def _on_up(self) -> None:
        self.link.set(True)

    def subject(self, pattern: str) -> str:
        """The NATS spelling of a topic or pattern below the root."""
        words = [{"+": "*", "#": ">"}.get(word, word) for word in pattern.split("/")]
        return ".".join([*self.root.split("/"), *words])

    def address(self, subject: str) -> str:
        """The topic below the root of a NATS subject."""
        return subject.removeprefix(self._dotted_root).replace(".", "/")

    def is_inbox(self, subject: str) -> bool:
        return subject.startswith(("_INBOX.", f"{self._dotted_root}reply."))

    def _reply_subject(self, address: str) -> str:
        return address if self.is_inbox(address) else self.subject(address)

    def _reply_address(self, subject: str) -> str:
        return subject if self.is_inbox(subject) else self.address(subject)

    @property
    def client(self) -> Client:
        """The connected client. Raises Unreachable where the link is down."""
        if not self._nc.is_connected:
            raise Unreachable(f"{safe_url(self.url)} is not connected ({self.last_error or 'link down'})")
        return self._nc

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
        if self.is_inbox(topic):
            await self.guard(self.client.publish(topic, body))
            return 0
        declared, _ = registry.find(topic)
        check_size(declared, topic, body)
        subject = self.subject(topic)
        hdrs = dict(headers) if headers else None
        if declared.stream is None or declared.node_only:
            reply = self._reply_subject(reply_to) if reply_to else ""
            await self.guard(self.client.publish(subject, body, reply=reply, headers=hdrs))
            return 0
        call = self.client.request(subject, body, timeout=PUBLISH_TIMEOUT, headers=hdrs)
        answer = await self.guard(call, subject)
        return stored_at(answer.data, topic)

    async def publish_raw(self, topic: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Publishes to a topic that need not be declared. Raises Refused where no subject can be made of it."""
        require_plain(topic)
        await self.guard(self.client.publish(self.subject(topic), body, headers=dict(headers)))

    async def publish_all(self, events: Sequence[Outgoing]) -> None:
        """Several at once are an atomic batch (NATS ADR-50)."""
        if len(events) == 1:
            await super().publish_all(events)
            return
        batch = self._world.new_id()
        for each in events:
            check_size(registry.find(each.topic)[0], each.topic, each.body)
        await self.guard(self._publish_batch(batch, events), self.subject(events[-1].topic))

    async def _publish_batch(self, batch: str, events: Sequence[Outgoing]) -> None:
        client = self.client
        for place, each in enumerate(events, 1):
            headers = {**each.headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(place)}
            if place < len(events):
                await client.publish(self.subject(each.topic), each.body, headers=headers)
                continue
            headers["Nats-Batch-Commit"] = "1"
            subject = self.subject(each.topic)
            answer = await client.request(subject, each.body, timeout=PUBLISH_TIMEOUT, headers=headers)
            if json.loads(answer.data).get("error", {}).get("err_code") == _DUPLICATE_IN_BATCH:
                raise Conflict(f"{each.topic}: the stream has some of these events")
            stored_at(answer.data, each.topic)

    async def raw_request(
        self, subject: str, body: bytes = b"", timeout: float = 5.0, headers: dict[str, str] | None = None
    ) -> Msg:
        """A request to the server itself (``$JS.API.…``, ``$SYS.…``)."""
        answer: Msg = await self.guard(self.client.request(subject, body, timeout=timeout, headers=headers), subject)
        return answer

    async def request(self, topic: str, body: bytes, timeout: float = 5.0) -> Message:
        declared, _ = registry.find(topic)
        check_size(declared, topic, body)
        answer: Msg = await self.guard(self.client.request(self.subject(topic), body, timeout=timeout))
        return Message(self.address(answer.subject), answer.data)

    async def guard(self, call: Any, subject: str = "") -> Any:
        """Awaits what the client offers; its errors become ours. ``subject``: what is published there."""
        waiting = asyncio.timeout(None)
        self._waiting[waiting] = subject
        try:
            async with waiting:
                return await unswallowed(call)
        except nats.errors.NoRespondersError:
            raise NobodyAnswers(f"{safe_url(self.url)}: nobody answers; is the coordinator running?") from None
        except nats.errors.MaxPayloadError:
            limit = self._nc.max_payload
            raise Refused("too-large", expected=f"at most {limit} bytes, the broker's max_payload") from None
        except _DOWN as error:
            if subject in self._not_to_publish and waiting.expired() and self._nc.is_connected:
                self._not_to_publish.discard(subject)
                raise Forbidden(f"{safe_url(self.url)}: this login may not publish to {subject}") from None
            what = "no answer in time" if isinstance(error, TimeoutError) else (str(error) or type(error).__name__)
            if waiting.expired() or not self._nc.is_connected:
                raise LinkDown(f"{safe_url(self.url)}: the link went down") from None
            raise Unreachable(f"{safe_url(self.url)}: {what}") from None
        except RuntimeError as error:  # uvloop's word for a socket that has closed under the client's hands
            if "closed" not in str(error):
                raise
            raise LinkDown(f"{safe_url(self.url)}: the link went down") from None
        finally:
            self._waiting.pop(waiting, None)

    def subscribe(self, *patterns: str, queue: str = "") -> Subscription:
        return self._subscribe(patterns, queue)

    @asynccontextmanager
    async def _subscribe(self, patterns: tuple[str, ...], queue: str) -> AsyncIterator[AsyncIterator[Message]]:
        arrivals = Arrivals(self)

        async def put(message: Msg) -> None:
            arrivals.put(
                Message(
                    self.address(message.subject),
                    message.data,
                    reply_to=self._reply_address(message.reply) or None,
                    headers=message.headers or {},
                )
            )

        await self.link.wait_up()
        subjects = {self.subject(pattern): pattern for pattern in patterns}
        self._forbidden -= subjects.keys()
        subscriptions = []
        try:
            for subject in subjects:
                asked = self.client.subscribe(subject, queue=queue, cb=put, pending_bytes_limit=PENDING_BYTES)
                subscriptions.append(await self.guard(asked))
            with contextlib.suppress(*_DOWN):
                await self.settle()
            for subject, pattern in subjects.items():
                if subject in self._forbidden:
                    expected = "permission to subscribe"
                    raise Refused("forbidden", topic=pattern, expected=expected, got="a refusal by the broker")
            yield arrivals
        finally:
            for subscription in subscriptions:
                with contextlib.suppress(*_DOWN):
                    await subscription.unsubscribe()

    async def settle(self) -> None:
        """Returns when the broker has dealt with all that was sent before."""
        for _ in range(2):  # nats-py's first PING overtakes what it has still buffered
            await unswallowed(self._nc.flush(timeout=2))

    def consume(self, pattern: str, *, durable: str = "", start: int = 1, window: int = 256) -> Subscription:
        from heliograph.bus.nats.consumer import consume

        return consume(self, pattern, durable, start, window)

    def stream_of(self, pattern: str) -> str:
        """The JetStream stream that holds a pattern's messages. Raises Refused where none does."""
        for topic in registry.declared().find_by_filter(pattern):
            if topic.stream is not None:
                return self.stream_name(topic.stream.name)
        raise Refused("no-stream", topic=pattern, expected="a topic whose events are kept in a stream")

    def stream_name(self, name: str) -> str:
        prefix = "" if self.root == topics.DEFAULT_ROOT else self.root.replace("/", "-") + "-"
        return prefix + name

    async def last(self, topic: str) -> Message | None:
        stream = self.stream_of(topic)
        answer = await self.raw_request(f"$JS.API.DIRECT.GET.{stream}.{self.subject(topic)}")
        headers = answer.headers or {}
        if headers.get("Status") == "404":
            return None
        return Message(topic, answer.data, headers=headers, sequence=int(headers.get("Nats-Sequence", 0)))

    async def kv(self, bucket: str) -> KeyValue:
        if bucket in self._kvs:
            return self._kvs[bucket]
        name = self.stream_name(bucket)
        config = {
            "name": f"KV_{name}",
            "subjects": [f"$KV.{name}.>"],
            "storage": "file",
            "max_msgs_per_subject": 1,
            "discard": "new",
            "allow_rollup_hdrs": True,
            "allow_direct": True,
            "num_replicas": 1,
        }
        await self.ensure_stream(config)
        self._kvs[bucket] = NatsKeyValue(self, name)
        return self._kvs[bucket]

    async def blobs(self, bucket: str) -> BlobStore:
        if bucket in self._stores:
            return self._stores[bucket]
        # an upload is of no use without the event that names it: what nobody deleted goes when that has gone
        uploads = topics.MODEL_UPDATE.stream if is_upload_bucket(bucket) else None
        store = NatsBlobs(
            self.url, self.stream_name(bucket), bucket, self._inbox, self.raw_request, self._world,
            uploads.max_age if uploads is not None else 0,
        )  # fmt: skip
        await store.prepare()
        self._stores[bucket] = store
        return store

    async def prepare(self) -> None:
        for topic in registry.declared().topics:
            if topic.stream is None:
                continue
            stream = topic.stream
            config = {
                "name": self.stream_name(stream.name),
                "subjects": [self.subject(topic.filter())],
                "storage": "file",
                "retention": "limits",
                "discard": "old",
                "max_msgs_per_subject": 1 if stream.last_value else -1,
                "max_bytes": stream.max_bytes,
                "max_age": int(stream.max_age * 1e9),
                "allow_direct": True,
                "allow_atomic": True,
                "num_replicas": 1,
                "max_msg_size": topic.max_size + 4096,
            }
            await self.ensure_stream(config)

    async def last_sequence(self, stream: str) -> int:
        answer = await self.raw_request(f"$JS.API.STREAM.INFO.{self.stream_name(stream)}")
        return int(json.loads(answer.data).get("state", {}).get("last_seq", 0))

    async def ensure_stream(self, config: dict[str, Any]) -> None:
        """Creates the stream, or updates it where it differs."""
        body = json.dumps(config).encode()
        answer = json.loads((await self.raw_request(f"$JS.API.STREAM.CREATE.{config['name']}", body)).data)
        if answer.get("error", {}).get("err_code") == 10058:  # exists with another configuration
            answer = json.loads((await self.raw_request(f"$JS.API.STREAM.UPDATE.{config['name']}", body)).data)
        if "error" in answer:
            raise HeliographError(f"stream {config['name']}: {answer['error'].get('description')}")


class _Client(Client):
    """Reads headers in a third of the time: the client library looks at each character of each name by itself."""

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        found = {}
        for line in raw.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            name = name.strip()
            if colon and name.isascii() and len(name.split()) < 2:
                found[name.decode()] = value.strip().decode("utf-8", "replace")
        return found


def safe_url(url: str) -> str:
    """The URL without its credentials, fit for a log."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port}" if parts.hostname else parts.scheme


def require_plain(topic: str) -> None:
    """Raises Refused where a topic reads otherwise on MQTT than on NATS, or is a pattern."""
    words = topic.split("/")
    if not all(words) or set(topic) & set(".*>+#\0") or any(map(str.isspace, topic)):
        expected = "words without dots, spaces and wildcards"
        raise Refused("invalid", topic=topic, expected=expected, got=topic)


def stored_at(answer: bytes, what: str) -> int:
    """The sequence under which a stream stored a message. Raises Unreachable where it did not."""
    reply = json.loads(answer)
    if "error" in reply:
        raise Unreachable(f"{what} was not stored: {reply['error'].get('description')}")
    return int(reply["seq"])
