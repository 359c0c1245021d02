"""A connection to an MQTT broker: it reconnects without end, and reports what the broker refuses.

It speaks MQTT 5 if the broker does, otherwise 3.1.1. Only MQTT 5 reports a refused publish: in the PUBACK (MQTT 5,
3.4.2.1), or in the DISCONNECT that ends the connection (3.14.2.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

import aiomqtt
from paho.mqtt.client import MQTT_ERR_SUCCESS, error_string
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.link import Link
from heliograph.bus.link_life import AnswerWait, LinkLife
from heliograph.bus.link_pace import LinkPace
from heliograph.bus.mqtt.library_client import HeliographClient
from heliograph.bus.reconnecting import Reconnecting
from heliograph.bus.tls_context import TlsContext
from heliograph.core.errors import Forbidden, HeliographError, LinkDown, Refused, Unreachable
from heliograph.core.tasks import cancel_and_wait, keep_cancellation
from heliograph.core.world import World

KEEPALIVE = 5
TIMEOUT = 5.0
"""Seconds to wait for the broker's acknowledgement, on a link that is fast."""
FAILED = (aiomqtt.MqttError, OSError, ValueError, asyncio.TimeoutError)
"""Errors of the client library when the broker is away or does not answer."""
FAILURE = 128
"""The smallest reason code of a failure."""
_NOT_AUTHORIZED = (134, 135)
"""Bad user name or password, and not authorized. The client library translates MQTT 3.1.1's codes to these."""


@dataclass(frozen=True, slots=True)
class PersistentSession:
    """A session that the broker keeps while its client is away, with the messages at QoS 1 that come meanwhile. The
    client acknowledges each by ``MqttConnection.acknowledge``, and by nothing else.

    Attributes:
        client: its id at the broker. Of two clients with one id the broker ends the earlier one's connection.
        window: messages that may be under way, where broker and client speak MQTT 5.
        kept: seconds for which the broker keeps it, where they do; else the broker decides.
        begins: called at each connect before any message comes, with whether the broker had kept the session.
    """

    client: str
    window: int
    kept: int
    begins: Callable[[bool], None]


class MqttConnection:
    """A connection to one broker.

    Args:
        link: set up and down with the connection.
        on_message: called with each arriving message of the client library.
        on_connect: subscribes again; awaited at each connect before the link counts as up.
        session: a session that outlives the connection; None for one that ends with it.
    """

    def __init__(
        self,
        url: ConnectionUrl,
        world: World,
        link: Link,
        on_message: Callable[[Any], None],
        on_connect: Callable[[], Awaitable[None]],
        session: PersistentSession | None = None,
    ) -> None:
        self._session = session
        self.url = url
        self.link = link
        link.pace = LinkPace()
        self._world = world
        self._on_message = on_message
        self._on_connect = on_connect
        self._tls = TlsContext(url.tls)
        self._client: HeliographClient | None = None
        self._version: int | None = None
        self._reconnecting = Reconnecting(world, len(url.places))
        self._tried = 0
        """Number of attempts to connect that have failed, and of connections that have ended: each is followed by an
        attempt at the next server."""
        self._running: asyncio.Task[None] | None = None
        self._unacknowledged: dict[int, asyncio.Future[int]] = {}
        """Message id of each publish under way to the reason code of its PUBACK."""
        self._unsubscribing: set[asyncio.Timeout] = set()

    async def open(self) -> None:
        """Start connecting and return at once. Raises Refused if the TLS files cannot be read."""
        if self.url.secure:
            self._tls.current()
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._running is not None:
            await cancel_and_wait(self._running)
        self.link.set(False)

    @property
    def speaks_mqtt5(self) -> bool:
        return self._version == 5

    def acknowledge(self, ids: Iterable[int]) -> bool:
        """Acknowledge messages of a persistent session, in this order. Return False while there is no connection."""
        if self._client is None:
            return False
        self._client.acknowledge(ids)
        return True

    def pause(self) -> None:
        """Read nothing more until ``resume``. A pause of more than two ``KEEPALIVE`` ends the connection: no answer to
        a ping is read. The next one reads."""
        if self._client is not None:
            self._client.pause()

    def resume(self) -> None:
        if self._client is not None:
            self._client.resume()

    def client(self, version: int, on_message: Callable[[Any], None], **more: Any) -> HeliographClient:
        """Return a client that passes on each message as it arrives, without a queue and a task. Raise Refused if the
        URL names a file of credentials that has none."""
        user, password = self.url.credentials.of_mqtt()
        host, port = self.url.places[self._tried % len(self.url.places)]
        made = HeliographClient(
            host,
            port,
            username=user or None,
            password=password or None,
            protocol=aiomqtt.ProtocolVersion(version),
            queue_type=_queue_calling(on_message),
            keepalive=max(KEEPALIVE, math.ceil(self.url.patience)),
            timeout=max(TIMEOUT, self._reconnecting.limit) + self.link.pace.allowance(),
            max_inflight_messages=1000,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            tls_context=self._tls.current() if self.url.secure else None,
            **more,
        )
        made.world = self._world
        made.life = LinkLife(self.link.pace, 2 * made._keepalive, self._world.monotonic())
        return made

    def send(self, topic: str, body: bytes, retain: bool, properties: Properties | None) -> None:
        """Publish at QoS 0: write to the socket at once, without waiting. Raises Unreachable."""
        sent = self._connected()._client.publish(topic, body, 0, retain, properties)
        if sent.rc != MQTT_ERR_SUCCESS:
            raise Unreachable(f"{self.url.shown}: {error_string(sent.rc)}")

    async def publish(self, topic: str, body: bytes, retain: bool, properties: Properties | None) -> None:
        """Publish at QoS 1. Raises Forbidden if the broker reports that the login may not, Refused if it refuses the
        message, LinkDown if the connection breaks before the acknowledgement, Unreachable otherwise."""
        connected = self._connected()
        client = connected._client
        size = len(topic) + len(body)
        began = self._world.monotonic()
        wait = AnswerWait(connected.life, self.link.pace, TIMEOUT, size, began)
        acknowledged = asyncio.get_running_loop().create_future()
        client.on_publish = self._on_publish
        try:
            sent = client.publish(topic, body, 1, retain, properties)
        except ValueError as error:
            raise Refused("invalid", topic=topic, expected="a message that MQTT can carry", got=str(error)) from None
        if sent.rc != MQTT_ERR_SUCCESS:
            raise Unreachable(f"{self.url.shown}: {error_string(sent.rc)}")
        self._unacknowledged[sent.mid] = acknowledged
        try:
            while not acknowledged.done():
                connected.look()
                if (left := wait.due() - self._world.monotonic()) <= 0:
                    raise Unreachable(f"{self.url.shown}: no acknowledgement in {TIMEOUT:g} s")
                await asyncio.wait((acknowledged,), timeout=left)
            code = acknowledged.result()
        finally:
            self._unacknowledged.pop(sent.mid, None)
            if not self._unacknowledged:  # else the client library builds acknowledgements for QoS 0 too
                client.on_publish = None
        if code >= FAILURE:
            self._raise_refused(topic, code)
        self.link.pace.acknowledged(size, self._world.monotonic() - began)

    async def subscribe(self, pattern: str, qos: int = 1) -> int:
        """Subscribe; return the SUBACK's reason code, 128 or more if the broker refuses. Raises Unreachable."""
        client = self._connected()
        try:
            codes = await keep_cancellation(client.subscribe(pattern, qos=qos))
        except FAILED as error:
            raise Unreachable(f"{self.url.shown}: {str(error) or 'the link was cut'}") from None
        return max(map(_value, codes))

    async def unsubscribe(self, topic: str) -> None:
        """Unsubscribe; do nothing if the link is down, and wait no longer once it goes down."""
        if self._client is not None:
            waiting = asyncio.timeout(None)
            self._unsubscribing.add(waiting)
            try:
                with contextlib.suppress(*FAILED):
                    async with waiting:
                        await keep_cancellation(self._client.unsubscribe(topic))
            finally:
                self._unsubscribing.discard(waiting)

    def _connected(self) -> HeliographClient:
        if self._client is None:
            if self.link.refused:
                raise Forbidden(f"{self.url.shown} refuses this login: {self.link.refused}")
            raise Unreachable(f"{self.url.shown} is not connected ({self.link.last_error or 'link down'})")
        return self._client

    def _raise_refused(self, topic: str, code: int) -> NoReturn:
        if code in _NOT_AUTHORIZED:
            raise Forbidden(f"{self.url.shown}: this login may not publish to {topic}")
        raise Refused("invalid", topic=topic, expected="a message that the broker accepts", got=f"PUBACK {code}")

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        acknowledged = self._unacknowledged.get(mid)
        if acknowledged is not None and not acknowledged.done():
            acknowledged.set_result(_value(reason))

    async def _run(self) -> None:
        while True:
            await self._reconnecting.pause()
            try:
                client = await self._connect_newest()
            except (*FAILED, HeliographError) as error:
                self._note(error)
                if _is_late(error):
                    self._reconnecting.late()
                self._tried += 1
                continue
            self._reconnecting.connected()
            self._client = client
            code = 0
            try:
                await self._on_connect()
                self.link.set(True)
                async for _ in client.messages:  # it yields nothing, and ends with the connection
                    pass
            except (*FAILED, HeliographError) as error:
                code = self._note(error)
            finally:
                self._client = None
                self._tried += 1
                self._reconnecting.lost()
                self._end_waiting(code)
                self.link.set(False)
                with contextlib.suppress(*FAILED):
                    await client.__aexit__(None, None, None)

    async def _connect_newest(self) -> HeliographClient:
        """Return a connected client of the newest version that the broker speaks."""
        for version in (self._version,) if self._version else (5, 4):
            client = self.client(version, self._on_message, **self._kept_session(version))
            if self._session is not None:
                client._client.manual_ack_set(True)
                client.on_session = self._session.begins
            began = self._world.monotonic()
            try:
                await client.__aenter__()
                client._client.on_publish = None
                self.link.pace.answered((self._world.monotonic() - began) / 2)  # of TCP's handshake, and of MQTT's
            except aiomqtt.MqttError as error:
                if version == 4 or not _is_version_refused(error):
                    raise
            else:
                self._version = version
                return client
        raise Unreachable(f"{self.url.shown} speaks neither MQTT 5 nor 3.1.1")

    def _kept_session(self, version: int) -> dict[str, Any]:
        """Return the options of a client with the persistent session, if there is one."""
        if self._session is None:
            return {}
        if version != 5:
            return {"identifier": self._session.client, "clean_session": False}
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._session.kept
        properties.ReceiveMaximum = self._session.window
        return {"identifier": self._session.client, "clean_start": False, "properties": properties}

    def _note(self, error: Exception) -> int:
        """Record the error that ended the connection; return its reason code if it is "not authorized", else 0."""
        cause = error if isinstance(error, aiomqtt.MqttCodeError) else error.__cause__  # the iterator's error has none
        code = _value(getattr(cause, "rc", 0))
        refused = code in _NOT_AUTHORIZED
        if refused:
            self.link.refused = str(error) or type(error).__name__
        self.link.fail(error)
        return code if refused else 0

    def _end_waiting(self, code: int) -> None:
        """End the calls that still wait for an acknowledgement; none can arrive any more."""
        for waiting in self._unsubscribing:
            if not waiting.expired():
                waiting.reschedule(asyncio.get_running_loop().time())
        for acknowledged in self._unacknowledged.values():
            if not acknowledged.done():
                if code:
                    acknowledged.set_result(code)
                else:
                    acknowledged.set_exception(LinkDown(f"{self.url.shown}: the link went down"))


def _is_late(error: Exception) -> bool:
    return isinstance(error, TimeoutError) or "timed out" in str(error).lower()


def _queue_calling(receive: Callable[[Any], None]) -> Any:
    class CallingQueue(asyncio.Queue):  # type: ignore[type-arg]
        def put_nowait(self, item: Any) -> None:
            receive(item)

    return CallingQueue


def _value(code: Any) -> int:
    """Return a reason code as a number; the client library returns several types."""
    value = getattr(code, "value", code)
    return value if isinstance(value, int) else 0


def _is_version_refused(error: aiomqtt.MqttError) -> bool:
    text = str(error).lower()
    return _value(getattr(error, "rc", 0)) in (1, 132) or "protocol" in text or "disconnect" in text
