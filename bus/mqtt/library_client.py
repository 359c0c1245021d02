"""The client library's client, with the changes that this transport needs."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import aiomqtt
from paho.mqtt.client import MQTT_ERR_SUCCESS, time_func
from paho.mqtt.enums import MessageType

from heliograph.bus.link_life import LinkLife
from heliograph.bus.socket_backlog import unacknowledged
from heliograph.core.world import World

MISC_EVERY = 1.0
"""Seconds between two looks at a connection."""
_PUBACK = b"\x40\x02"
"""The beginning of an acknowledgement (MQTT 3.1.1, 3.4): its message's id follows."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message as it came.

    Attributes:
        topic: with U+FFFD for bytes that are no UTF-8.
        mid: the message's id in this session; 0 at QoS 0.
        again: whether the broker has sent it before, under the same id, and got no acknowledgement.
    """

    topic: str
    payload: Any
    retain: bool
    mid: int
    properties: Any
    qos: int = 0
    again: bool = False


class HeliographClient(aiomqtt.Client):
    """A client that notices each end of its connection, and that never touches another connection's socket.

    The library registers its sockets with the event loop later, by their number. A socket that has been closed by then
    leaves its number to another one.

    Its keep-alive is that of ``life``: the library ends a connection whose answer to a ping is late, also while what
    stands before the ping is still passing.

    Attributes:
        life: that of its connection; set before it connects.
        world: its clock.
        on_session: called when the broker has let it in, before any message comes, with whether the broker had kept
            its session from before.
    """

    life: LinkLife
    world: World
    on_session: Callable[[bool], None] | None = None

    async def __aenter__(self) -> Self:
        """Connect. Raise MqttError also if the connection ended at once, which the library forgets."""
        client = self._client
        client._create_socket_connection = self._connect_socket  # type: ignore[method-assign]
        self._queue_packet, client._packet_queue = client._packet_queue, self._count_packet  # type: ignore[method-assign]
        self._receive, client._sock_recv = client._sock_recv, self._note_received  # type: ignore[method-assign, assignment]
        await super().__aenter__()
        if not self._client.is_connected():
            raise aiomqtt.MqttError("the connection ended at once")
        return self

    def _connect_socket(self) -> socket.socket:
        """Connect without binding to an address first, as the library does: a confined worker may not."""
        client = self._client
        host: Any = client._host
        if host.isascii():
            host = host.encode()  # of a text Python makes the same by tables of Unicode, which stay in memory
        return socket.create_connection((host, client._port), client._connect_timeout)

    def _count_packet(self, command: int, packet: Any, *rest: Any, **more: Any) -> Any:
        if command != MessageType.PINGREQ:
            self.life.wrote(len(packet))
        return self._queue_packet(command, packet, *rest, **more)

    def _note_received(self, most: int) -> bytes:
        received = self._receive(most)
        if received:
            self.life.heard(self.world.monotonic())
        return received

    def look(self) -> None:
        """Note what the connection has taken."""
        client = self._client
        if (sock := client.socket()) is not None:
            queued = sum(packet["to_process"] for packet in list(client._out_packet))
            self.life.look(queued + unacknowledged(sock), self.world.monotonic())

    async def _misc_loop(self) -> None:
        """Let the library ping, and end the connection where it does not live."""
        client, due = self._client, self.world.monotonic()
        while True:
            self.look()
            now = self.world.monotonic()
            self.life.stood(max(0.0, now - due), now)
            if client._ping_t and not self.life.is_cut(now):
                client._ping_t = client._last_bytes_received = time_func()
            if client.loop_misc() != MQTT_ERR_SUCCESS:
                return
            due = self.world.monotonic() + MISC_EVERY
            await self.world.sleep(MISC_EVERY)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        """Hand over a message whatever its topic is. The library raises where it is no UTF-8 or has a wildcard, which a
        broker passes on that speaks other protocols too; the connection would end, and again with a retained one."""
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = message._topic.decode(errors="replace")
        properties = getattr(message, "properties", None)
        arrived = Arrived(topic, message.payload, message.retain, message.mid, properties, message.qos, message.dup)
        self._queue.put_nowait(arrived)  # type: ignore[arg-type]

    def acknowledge(self, ids: Iterable[int]) -> None:
        """Acknowledge messages that came at QoS 1, in this order and by one write; the library makes a write of each.
        For a client whose acknowledgements are left to it (``manual_ack_set``)."""
        packets = b"".join(_PUBACK + id.to_bytes(2, "big") for id in ids)
        self._client._packet_queue(MessageType.PUBACK, packets, 0, 1)

    def pause(self) -> None:
        """Read nothing more from the broker, which then keeps what it has."""
        if (sock := self._client.socket()) is not None:
            self._loop.remove_reader(sock.fileno())

    def resume(self) -> None:
        """Read again."""
        if (sock := self._client.socket()) is not None:
            self._loop.add_reader(sock.fileno(), self._run, self._read)
            self._loop.call_soon(self._run, self._read)  # what TLS has decrypted already wakes no reader

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        if self.on_session is not None and not reason_code.is_failure:
            self.on_session(bool(flags.session_present))
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._start, sock)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._watch_for_room, sock)

    def _on_disconnect(self, *arguments: Any) -> None:
        if self._connected.cancelled():  # nobody waits any more, and the library would raise an error
            return
        super()._on_disconnect(*arguments)
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()  # nobody may wait for it yet
        self._loop.call_soon_threadsafe(self._end_connecting)  # the library would wait until its time is up

    def _end_connecting(self) -> None:
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError("the connection ended before the broker answered"))
            self._connected.exception()  # nobody may wait for it any more

    def _start(self, sock: Any) -> None:
        if self._is_open(sock):
            self._errors = select.poll()
            self._errors.register(sock, 0)
            self._loop.add_reader(sock.fileno(), self._run, self._read)
            self._misc_task = self._loop.create_task(self._misc_loop())

    def _watch_for_room(self, sock: Any) -> None:
        if self._is_open(sock) and self._client.want_write():
            self._loop.add_writer(sock.fileno(), self._run, self._client.loop_write)

    def _is_open(self, sock: Any) -> bool:
        return self._client.socket() is sock

    def _read(self) -> None:
        client = self._client
        client.loop_read()
        while (pending := getattr(client.socket(), "pending", None)) and pending():  # read from the socket, decrypted
            client.loop_read()
        # uvloop reports a reset once, and never again what arrived before it
        while client.socket() is not None and self._errors.poll(0):
            client.loop_read()

    def _run(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:  # whatever it is, the connection is broken
            if not self._disconnected.done():
                self._disconnected.set_exception(error)
