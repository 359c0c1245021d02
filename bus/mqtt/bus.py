"""The MQTT transport: a node's broker, and the public door. MQTT 5 where the broker speaks it, otherwise 3.1.1."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import aiomqtt
import msgpack
from paho.mqtt.client import MQTT_ERR_SUCCESS, error_string
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from heliograph.bus.contract import registry
from heliograph.bus.contract.event import parse
from heliograph.bus.contract.sizes import check_size
from heliograph.bus.nats.bus import require_plain, safe_url
from heliograph.bus.transport import Arrivals, Bus, Message, Subscription
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.core.names import matches
from heliograph.core.tasks import cancel_and_wait, unswallowed
from heliograph.core.world import World

KEEPALIVE = 5
RECONNECT_WAIT = 0.1
_ROUTES = 1024
_BEST_EFFORT = ("log", "inference")
_FAILED = (aiomqtt.MqttError, OSError, ValueError, asyncio.TimeoutError)


class MqttBus(Bus):
    """A connection to an MQTT broker. The URL's user and password are the credentials."""

    durable = False

    def __init__(self, url: str, root: str, world: World, name: str) -> None:
        super().__init__(url, root)
        self._world = world
        self._name = name
        self._client: aiomqtt.Client | None = None
        self._version: int | None = None
        self._running: asyncio.Task[None] | None = None
        self._wanted: dict[str, list[Callable[[Message], None]]] = {}
        self._routes: dict[str, list[Callable[[Message], None]]] = {}
        self._asked: dict[str, asyncio.Future[Message]] = {}
        self._waiting: set[asyncio.Timeout] = set()
        self._own = f"reply/{name}-{world.new_id()[:12]}"
        self.last_error = ""

    async def open(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._running is not None:
            await cancel_and_wait(self._running)
        self.link.set(False)

    def client(self, version: int, on_message: Callable[[Any], None], **more: Any) -> aiomqtt.Client:
        """A client that hands each message on as it arrives, rather than through a queue and a task."""
        parts = urlsplit(self.url)
        return aiomqtt.Client(
            parts.hostname or "127.0.0.1",
            parts.port or 1883,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            protocol=aiomqtt.ProtocolVersion(version),
            queue_type=_handing_to(on_message),
            keepalive=KEEPALIVE,
            timeout=5,
            max_inflight_messages=1000,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            **more,
        )

    async def connect_some(self, on_message: Callable[[Any], None]) -> aiomqtt.Client:
        """A connected client of the newest version that the broker speaks."""
        for version in (self._version,) if self._version else (5, 4):
            client = self.client(version, on_message)
            try:
                await client.__aenter__()
                client._client.on_publish = None
            except aiomqtt.MqttError as error:
                if version == 4 or not _is_version_refused(error):
                    raise
            else:
                self._version = version
                return client
        raise Unreachable(f"{safe_url(self.url)} speaks neither MQTT 5 nor 3.1.1")

    async def _run(self) -> None:
        while True:
            try:
                client = await self.connect_some(self._arrived)
            except (*_FAILED, HeliographError) as error:
                self.last_error = str(error) or type(error).__name__
                await self._world.sleep(RECONNECT_WAIT)
                continue
            self._client = client
            try:
                for pattern in list(self._wanted):
                    await self._subscribe_at_broker(pattern)
                self.link.set(True)
                async for _ in client.messages:  # never one: this ends when the connection does
                    pass
            except (*_FAILED, HeliographError) as error:
                self.last_error = str(error) or type(error).__name__
            finally:
                self._client = None
                for each in self._waiting:  # for an acknowledgement that can not come any more
                    each.reschedule(0)
                self.link.set(False)
                with contextlib.suppress(*_FAILED):
                    await client.__aexit__(None, None, None)
            await self._world.sleep(RECONNECT_WAIT)

    def full(self, pattern: str) -> str:
        return f"{self.root}/{pattern}"

    def below(self, topic: str) -> str:
        return topic.removeprefix(self.root + "/")

    def as_message(self, arrived: Any) -> Message:
        properties = arrived.properties
        response = getattr(properties, "ResponseTopic", None)
        return Message(
            self.below(str(arrived.topic)),
            arrived.payload if isinstance(arrived.payload, bytes) else b"",
            reply_to=self.below(response) if response else None,
            headers=dict(getattr(properties, "UserProperty", ())),
            correlation=getattr(properties, "CorrelationData", None),
            retained=arrived.retain,
        )

    def _arrived(self, arrived: Any) -> None:
        message = self.as_message(arrived)
        if message.topic.startswith(self._own):
            waiting = self._asked.get(message.topic)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
            return
        for receive in self._receivers(message.topic):
            receive(message)

    def _receivers(self, topic: str) -> list[Callable[[Message], None]]:
        """Who wants a topic's messages; remembered, for most come on few topics."""
        found = self._routes.get(topic)
        if found is None:
            if len(self._routes) >= _ROUTES:
                self._routes.clear()
            matched = [pattern for pattern in self._wanted if matches(pattern, topic)]
            found = self._routes[topic] = [receive for pattern in matched for receive in self._wanted[pattern]]
        return found

    async def _subscribe_at_broker(self, pattern: str) -> None:
        assert self._client is not None
        codes = await unswallowed(self._client.subscribe(self.full(pattern), qos=1))
        for code in codes:
            value = code if isinstance(code, int) else code.value
            if value >= 128:
                raise Refused("forbidden", topic=pattern, expected="permission to subscribe", got=f"SUBACK {value}")

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
        declared, _ = registry.find(topic)
        check_size(declared, topic, body)
        at_once = not sure or declared.node_only or declared.delivery in _BEST_EFFORT
        return await self._publish(topic, body, headers, retain, reply_to, correlation, at_once)

    async def publish_raw(self, topic: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Publishes to a topic that need not be declared. Raises Refused where it is a pattern."""
        require_plain(topic)
        await self._publish(topic, body, headers, False, None, None, False)

    async def _publish(
        self,
        topic: str,
        body: bytes,
        headers: Mapping[str, str] | None,
        retain: bool,
        reply_to: str | None,
        correlation: bytes | None,
        at_once: bool,
    ) -> int:
        client = self._client
        if client is None:
            raise Unreachable(f"{safe_url(self.url)} is not connected ({self.last_error or 'link down'})")
        properties = None
        if self._version == 5 and (headers or reply_to or correlation):
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            if reply_to:
                properties.ResponseTopic = self.full(reply_to)
            if correlation:
                properties.CorrelationData = correlation
            if headers:
                properties.UserProperty = list(headers.items())
        if at_once:
            # nothing to wait for: handed to the socket at once, as fast as events come
            sent = client._client.publish(self.full(topic), body, 0, retain, properties)
            if sent.rc != MQTT_ERR_SUCCESS:
                raise Unreachable(f"{safe_url(self.url)}: {error_string(sent.rc)}")
            return 0
        try:
            async with asyncio.timeout(None) as waiting:
                self._waiting.add(waiting)
                client._client.on_publish = client._on_publish
                await unswallowed(
                    client.publish(self.full(topic), body, qos=1, retain=retain, properties=properties)
                )
        except _FAILED as error:
            raise Unreachable(f"{safe_url(self.url)}: {str(error) or 'the link was cut'}") from None
        finally:
            self._waiting.discard(waiting)
            if not self._waiting:  # for QoS 0 too the client library would build an acknowledgement, to tell nobody
                client._client.on_publish = None
        return 0

    def subscribe(self, *patterns: str, queue: str = "") -> Subscription:
        return self._subscribe(patterns)

    @asynccontextmanager
    async def _subscribe(self, patterns: tuple[str, ...]) -> AsyncIterator[AsyncIterator[Message]]:
        arrivals = Arrivals(self)
        await self.link.wait_up()
        mine: list[str] = []
        try:
            for pattern in patterns:
                self._wanted.setdefault(pattern, []).append(arrivals.put)
                self._routes.clear()
                mine.append(pattern)
                if self._client is not None:
                    with contextlib.suppress(*_FAILED):
                        await self._subscribe_at_broker(pattern)
            yield arrivals
        finally:  # also of what was refused: asked for again at a reconnect, it would end that connection too
            for pattern in mine:
                self._wanted[pattern].remove(arrivals.put)
                self._routes.clear()
                if not self._wanted[pattern]:
                    del self._wanted[pattern]
                    if self._client is not None:
                        with contextlib.suppress(*_FAILED):
                            await self._client.unsubscribe(self.full(pattern))

    async def request(self, topic: str, body: bytes, timeout: float = 5.0) -> Message:
        declared, _ = registry.find(topic)
        check_size(declared, topic, body)
        await self.link.wait_up(timeout)
        replies = f"{self._own}/+"
        if replies not in self._wanted:  # only who asks needs the right to read replies
            self._wanted[replies] = []
            await self._subscribe_at_broker(replies)
        reply_to = f"{self._own}/{self._world.new_id()}"
        answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[reply_to] = answered
        try:
            if self._version == 5:
                await self.publish(topic, body, reply_to=reply_to)
            else:  # no response topic in MQTT 3.1.1: it stands in the document
                tree = parse(body or b"{}", topic)
                if not isinstance(tree, dict):
                    raise Refused("invalid", topic=topic, expected="a mapping, to put reply_to into", got=tree)
                tree["reply_to"] = self.full(reply_to)
                is_json = (body or b"{}")[:1] == b"{"
                await self.publish(topic, json.dumps(tree).encode() if is_json else msgpack.packb(tree))
            async with asyncio.timeout(timeout):
                return await answered
        except TimeoutError:
            raise Unreachable(f"{safe_url(self.url)}: no answer to {topic} in {timeout:g} s") from None
        finally:
            del self._asked[reply_to]

    def consume(self, pattern: str, *, durable: str = "", start: int = 1, window: int = 256) -> Subscription:
        return self._consume(pattern, durable)

    @asynccontextmanager
    async def _consume(self, pattern: str, durable: str) -> AsyncIterator[AsyncIterator[Message]]:
        """A session of its own that the broker keeps, acknowledged by hand; QoS 1's guarantee and no more."""
        if not durable:
            raise Refused("unsupported", topic=pattern, expected="a durable name: an MQTT broker keeps no past")
        await self.link.wait_up()
        arrivals = Arrivals(self)

        def receive(raw: Any) -> None:
            message = self.as_message(raw)

            async def acknowledge() -> None:
                client._client.ack(raw.mid, 1)

            message.acknowledge = acknowledge
            arrivals.put(message)

        client = self.client(4, receive, identifier=durable, clean_session=False)
        client._client.manual_ack_set(True)
        async with client:
            await client.subscribe(self.full(pattern), qos=1)
            yield arrivals


def _handing_to(receive: Callable[[Any], None]) -> Any:
    class Handing(asyncio.Queue):  # type: ignore[type-arg]
        def put_nowait(self, item: Any) -> None:
            receive(item)

    return Handing


def _is_version_refused(error: aiomqtt.MqttError) -> bool:
    code = getattr(error, "rc", None)
    text = str(error).lower()
    return "protocol" in text or "code:1" in text or getattr(code, "value", code) in (1, 132) or "disconnect" in text
