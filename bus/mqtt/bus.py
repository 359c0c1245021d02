"""The MQTT transport: a node's broker and the public door."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgpack
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract.event import parse
from heliograph.bus.mqtt.connection import FAILURE, MqttConnection
from heliograph.bus.mqtt.library_client import Arrived
from heliograph.bus.transport import Arrivals, Bus, Message, Subscription, require_declared, require_plain
from heliograph.core.errors import Refused, Unreachable
from heliograph.core.names import is_label, matches
from heliograph.core.world import World

_ROUTES = 1024
_BEST_EFFORT = ("log", "inference")
_KEEPING_AGAIN = 0.5
"""Seconds until a cluster's broker is asked again to keep a subscription's messages."""
_KEEPING_WITHIN = 15.0
"""Seconds in which it does: servers elect one in place of a killed one within 9."""


class MqttBus(Bus):
    """A client of an MQTT broker."""

    durable = False

    def __init__(self, url: str, root: str, world: World, name: str) -> None:
        super().__init__(url, root, world.telemetry)
        parsed = ConnectionUrl.parse(url)
        self.connection = MqttConnection(parsed, world, self.link, self._arrived, self._subscribe_anew)
        self._world = world
        self._wanted: dict[str, list[Arrivals]] = {}
        self._routes: dict[str, list[Arrivals]] = {}
        self._asked: dict[str, asyncio.Future[Message]] = {}
        user = parsed.credentials.name  # a user reads only replies to that name
        self._own = f"reply/{user if is_label(user) else f'{name}-{world.new_id()[:12]}'}"

    async def open(self) -> None:
        await self.connection.open()

    async def close(self) -> None:
        await self.connection.close()

    def full(self, pattern: str) -> str:
        return f"{self.root}/{pattern}"

    def below(self, topic: str) -> str:
        return topic.removeprefix(self.root + "/")

    def as_message(self, arrived: Arrived) -> Message:
        properties = arrived.properties
        response = getattr(properties, "ResponseTopic", None)
        return Message(
            self.below(arrived.topic),
            arrived.payload if isinstance(arrived.payload, bytes) else b"",
            reply_to=self.below(response) if response else None,
            headers=dict(getattr(properties, "UserProperty", ())),
            correlation=getattr(properties, "CorrelationData", None),
            retained=arrived.retain,
        )

    def _arrived(self, arrived: Arrived) -> None:
        message = self.as_message(arrived)
        waiting = self._asked.get(message.topic)
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(message)
            return
        for arrivals in self._receivers(message.topic):
            arrivals.put(message)

    def _receivers(self, topic: str) -> list[Arrivals]:
        """Return the readers of a topic's messages. Cached, because most messages come on few topics."""
        found = self._routes.get(topic)
        if found is None:
            if len(self._routes) >= _ROUTES:
                self._routes.clear()
            matched = [pattern for pattern in self._wanted if matches(pattern, topic)]
            found = self._routes[topic] = [each for pattern in matched for each in self._wanted[pattern]]
        return found

    async def _subscribe_at_broker(self, pattern: str) -> None:
        """Subscribe. Raise Refused where the login may not, Unreachable where a cluster's servers do not keep the
        messages."""
        until = self._world.monotonic() + _KEEPING_WITHIN
        while (code := await self.connection.subscribe(self.full(pattern))) >= FAILURE:
            # nats-server answers alike where the login may not, and where a cluster has no server yet that keeps the
            # messages; without keeping any it refuses the former alone
            clustered = bool(self.connection.url.others)
            if not clustered or await self.connection.subscribe(self.full(pattern), qos=0) >= FAILURE:
                raise Refused("forbidden", topic=pattern, expected="permission to subscribe", got=f"SUBACK {code}")
            if self._world.monotonic() >= until:
                raise Unreachable(f"{self.connection.url.shown}: no server keeps the messages of {pattern} yet")
            await self._world.sleep(_KEEPING_AGAIN)

    async def _subscribe_anew(self) -> None:
        """Subscribe again after a reconnect. A subscription that the broker refuses now ends for its readers only."""
        for pattern in list(self._wanted):
            try:
                await self._subscribe_at_broker(pattern)
            except Refused as error:
                for arrivals in self._wanted.pop(pattern, ()):
                    arrivals.fail(error)
                self._routes.clear()

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
        declared = require_declared(topic, body)
        at_once = not sure or declared.node_only or declared.delivery in _BEST_EFFORT
        return await self._publish(topic, body, headers, retain, reply_to, correlation, at_once)

    async def publish_raw(self, topic: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Publish to a topic that need not be declared. Raises Refused if it is a pattern."""
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
        properties = None
        if self.connection.speaks_mqtt5 and (headers or reply_to or correlation):
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            if reply_to:
                properties.ResponseTopic = self.full(reply_to)
            if correlation:
                properties.CorrelationData = correlation
            if headers:
                properties.UserProperty = list(headers.items())
        if at_once:
            self.connection.send(self.full(topic), body, retain, properties)
        else:
            await self.connection.publish(self.full(topic), body, retain, properties)
        self.count_published(len(body))
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
                self._wanted.setdefault(pattern, []).append(arrivals)
                self._routes.clear()
                mine.append(pattern)
                with contextlib.suppress(Unreachable):  # the next reconnect subscribes
                    await self._subscribe_at_broker(pattern)
            yield arrivals
        finally:  # also after a refusal: a reconnect would repeat the refused subscription
            for pattern in mine:
                await self._forget(pattern, arrivals)

    async def _forget(self, pattern: str, arrivals: Arrivals) -> None:
        readers = self._wanted.get(pattern, [])
        if arrivals not in readers:
            return
        readers.remove(arrivals)
        self._routes.clear()
        if not readers:
            del self._wanted[pattern]
            await self.connection.unsubscribe(self.full(pattern))

    async def request(self, topic: str, body: bytes, timeout: float = 5.0) -> Message:
        require_declared(topic, body)
        await self.link.wait_up(timeout)
        replies = f"{self._own}/+"
        if replies not in self._wanted:  # a login that sends no requests may lack the right to read replies
            await self._subscribe_at_broker(replies)
            self._wanted.setdefault(replies, [])
        reply_to = f"{self._own}/{self._world.new_id()}"
        answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[reply_to] = answered
        try:
            async with asyncio.timeout(timeout):
                if self.connection.speaks_mqtt5:
                    await self.publish(topic, body, reply_to=reply_to)
                else:  # MQTT 3.1.1 has no response topic, and its acknowledgement does not tell of a refusal
                    await self.publish(topic, self._with_reply_to(topic, body, reply_to), sure=False)
                return await answered
        except TimeoutError:
            raise Unreachable(f"{self.connection.url.shown}: no answer to {topic} in {timeout:g} s") from None
        finally:
            del self._asked[reply_to]

    def _with_reply_to(self, topic: str, body: bytes, reply_to: str) -> bytes:
        """Return a request's document with its reply address in it."""
        body = body or b"{}"
        tree = parse(body, topic)
        if not isinstance(tree, dict):
            raise Refused("invalid", topic=topic, expected="a mapping, to put reply_to into", got=tree)
        tree["reply_to"] = self.full(reply_to)
        return json.dumps(tree).encode() if body[:1] == b"{" else bytes(msgpack.packb(tree))

    def consume(
        self, pattern: str, *, durable: str = "", start: int = 1, window: int = 256, max_bytes: int = 0, name: str = ""
    ) -> Subscription:
        return self._consume(pattern, durable)

    @asynccontextmanager
    async def _consume(self, pattern: str, durable: str) -> AsyncIterator[AsyncIterator[Message]]:
        """Consume by a persistent session of its own, acknowledged explicitly; the guarantee is that of QoS 1."""
        if not durable:
            raise Refused("unsupported", topic=pattern, expected="a durable name: an MQTT broker stores no stream")
        await self.link.wait_up()
        arrivals = Arrivals(self)

        def receive(raw: Arrived) -> None:
            message = self.as_message(raw)

            async def acknowledge() -> None:
                client._client.ack(raw.mid, 1)

            message.acknowledge = acknowledge
            arrivals.put(message)

        client = self.connection.client(4, receive, identifier=durable, clean_session=False)
        client._client.manual_ack_set(True)
        async with client:
            await client.subscribe(self.full(pattern), qos=1)
            yield arrivals
