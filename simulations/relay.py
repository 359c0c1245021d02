"""A TCP relay that stands for a link: it can be slow, narrow, unplugged or reset while both ends believe in it.

It works on bare non-blocking sockets under the event loop's readers and writers, not on transports: a transport goes
on flushing its own write buffer, so a cut would let some hundred kilobytes through, and it copies once more.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Coroutine
from typing import Any, Literal

from heliograph.bus.world import World

READ = 256 * 1024
"""Bytes moved at once on a link without limits; also the memory of one direction of one connection."""
SLICE = 16 * 1024
"""Bytes read at once where bandwidth is limited, so that connections take turns."""
WINDOW = 16 * 1024 * 1024
"""Bytes of one direction of one connection that may be under way on a link with latency."""

_RESET = struct.pack("ii", 1, 0)


class Relay:
    """Relays every connection to ``host:port`` on to ``target_host:target_port``.

    Args:
        target_host: name or address, looked up once, at the start.
        world: clock and sleep.
        port: 0 takes a free one; see ``port`` after ``start``.

    Attributes:
        latency: seconds each byte is under way, one way, on top of the real link's. May be changed at any time.
        bandwidth: bytes per second of the link in each direction, shared by its connections; None is no limit.
        bytes_up, bytes_down: bytes handed to the target, and to those who connected.
    """

    def __init__(
        self, target_host: str, target_port: int, world: World, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.host = host
        self.port = port
        self.latency = 0.0
        self.bandwidth: float | None = None
        self.bytes_up = 0
        self.bytes_down = 0
        self.world = world
        self.state: Literal["up", "blackhole", "reset"] = "up"
        self._target = (target_host, target_port)
        self._family = socket.AF_INET
        self._address: Any = None
        self._listener: socket.socket | None = None
        self._connections: dict[_Connection, None] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._free = {"up": 0.0, "down": 0.0}  # when the link has sent all that was given to it

    async def start(self) -> None:
        """Listens. Raises OSError where the port is taken or the target's name is unknown."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(*self._target, type=socket.SOCK_STREAM)
        self._family, self._address = socket.AddressFamily(found[0][0]), found[0][4]
        self._listener = socket.create_server((self.host, self.port), backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._run(self._accept(self._listener))

    async def stop(self) -> None:
        """Stops listening and resets all connections; returns when nothing runs any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._reset_all()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def cut(self, mode: Literal["blackhole", "reset"] = "blackhole") -> None:
        """Cuts the link, at once and for new connections too.

        ``blackhole`` is an unplugged cable: connections stay open, what is under way is lost, nothing passes in either
        direction, not even an end or a reset. ``reset`` is a peer that died: every connection is reset.
        """
        self.state = mode
        if mode == "reset":
            self._reset_all()
        for connection in self._connections:
            connection.freeze()

    def restore(self) -> None:
        """Mends the link. Connections from before or during a cut are reset: their far side has given them up."""
        if self.state != "up":
            self.state = "up"
            self._free = dict.fromkeys(self._free, 0.0)
            self._reset_all()

    def due(self, direction: str, size: int) -> float:
        """When ``size`` bytes that are given to the link now will have come through, in ``World.monotonic`` seconds."""
        sent = self.world.monotonic()
        if self.bandwidth is not None:
            sent = max(sent, self._free[direction]) + size / self.bandwidth
            self._free[direction] = sent
        return sent + self.latency

    @property
    def window(self) -> int:
        """Bytes that one direction of one connection may have under way."""
        if self.bandwidth is None:
            return WINDOW
        # beyond latency only 50 ms of the link: others wait behind what one connection has queued
        return min(WINDOW, max(SLICE, int(self.bandwidth * (self.latency + 0.05))))

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:  # no file descriptors left: later, perhaps
                await self.world.sleep(0.1)
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(self, client)
            self._connections[connection] = None
            if self.state == "reset":
                self.forget(connection)
            elif self.state == "up":
                connection.task = self._run(connection.connect(self._family, self._address))

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task

    def deliver(self, flow: _Flow) -> asyncio.Task[None]:
        """Starts the task that hands over what is under way on a flow."""
        return self._run(flow.deliver())

    def forget(self, connection: _Connection) -> None:
        """Resets a connection."""
        self._connections.pop(connection, None)
        connection.close(reset=True)

    def finished(self, connection: _Connection) -> None:
        """Closes a connection that both ends have ended."""
        self._connections.pop(connection, None)
        connection.close(reset=False)

    def _reset_all(self) -> None:
        for connection in list(self._connections):
            self.forget(connection)


class _Connection:
    """Two sockets and the flow in each direction between them."""

    def __init__(self, relay: Relay, client: socket.socket) -> None:
        self.relay = relay
        self.sockets = [client]
        self.flows: list[_Flow] = []
        self.task: asyncio.Task[None] | None = None

    async def connect(self, family: socket.AddressFamily, address: Any) -> None:
        upstream = socket.socket(family, socket.SOCK_STREAM)
        upstream.setblocking(False)
        self.sockets.append(upstream)
        try:
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(upstream, address)
        except OSError:
            self.relay.forget(self)
            return
        client = self.sockets[0]
        self.flows = [_Flow(self, client, upstream, "up"), _Flow(self, upstream, client, "down")]
        for flow in self.flows:
            flow.read()

    def ended(self) -> None:
        if all(flow.ended for flow in self.flows):
            self.relay.finished(self)

    def freeze(self) -> None:
        if self.task is not None:
            self.task.cancel()
        for flow in self.flows:
            flow.freeze()

    def close(self, reset: bool) -> None:
        self.freeze()
        for each in self.sockets:
            if reset:  # an orderly end would pass off what has arrived as the whole
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            each.close()


class _Flow:
    """One direction of a connection: at most one buffer, or one window, between source and sink."""

    def __init__(self, connection: _Connection, source: socket.socket, sink: socket.socket, direction: str) -> None:
        self.connection = connection
        self.relay = connection.relay
        self.source = source
        self.sink = sink
        self.direction = direction
        self.ended = False
        self.loop = asyncio.get_running_loop()
        self.buffer = memoryview(bytearray(READ))
        self.rest = self.buffer[:0]  # read, not taken by the sink yet
        self.under_way: deque[tuple[float, bytes]] = deque()
        self.queued = 0
        self.delivery: asyncio.Task[None] | None = None
        self.reading = False
        self.writable: asyncio.Future[None] | None = None

    def read(self) -> None:
        if not self.reading:
            self.reading = True
            self.loop.add_reader(self.source, self.readable)

    def pause(self) -> None:
        if self.reading:
            self.reading = False
            self.loop.remove_reader(self.source)

    def freeze(self) -> None:
        """Nothing is read, written or waited for any more; what is under way is lost."""
        self.pause()
        self.loop.remove_writer(self.sink) if self.sink.fileno() >= 0 else None
        if self.delivery is not None:
            self.delivery.cancel()
        self.under_way.clear()

    def readable(self) -> None:
        relay = self.relay
        shaped = bool(relay.latency or relay.bandwidth is not None or self.under_way or self.delivery)
        try:
            count = self.source.recv_into(self.buffer, SLICE if relay.bandwidth is not None else READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            relay.forget(self.connection)
            return
        if shaped:
            self.queue(count)
        elif count == 0:
            self.end()
        else:
            self.rest = self.buffer[:count]
            self.send()

    def send(self) -> None:
        """Hands ``rest`` to the sink; what it does not take holds back the source."""
        try:
            sent = self.sink.send(self.rest)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.relay.forget(self.connection)
            return
        self.count(sent)
        waiting = len(self.rest) > 0 and not self.reading
        self.rest = self.rest[sent:]
        if self.rest and self.reading:
            self.pause()
            self.loop.add_writer(self.sink, self.send)
        elif not self.rest and waiting:
            self.loop.remove_writer(self.sink)
            self.read()

    def count(self, sent: int) -> None:
        if self.direction == "up":
            self.relay.bytes_up += sent
        else:
            self.relay.bytes_down += sent

    def end(self) -> None:
        """The source has said all; the other direction may go on."""
        self.pause()
        self.ended = True
        try:
            self.sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.relay.forget(self.connection)
            return
        self.connection.ended()
