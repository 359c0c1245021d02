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

from heliograph.core.world import World

READ = 256 * 1024
"""Bytes moved at once on a link without limits; also the memory of one direction of one connection."""
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
        bandwidth: bytes per second of the link in each direction, more than 0, shared by its connections; None sets
            no limit.
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
        self._free = {True: 0.0, False: 0.0}  # when the link, up and down, has sent all that was given to it

    async def start(self) -> None:
        """Listens. Raises OSError where the port is taken or the target's name is unknown."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(*self._target, type=socket.SOCK_STREAM)
        self._family, self._address = socket.AddressFamily(found[0][0]), found[0][4]
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.create_server((self.host, self.port), family=family, backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self.run(self._accept(self._listener))

    async def stop(self) -> None:
        """Stops listening and resets all connections; returns when nothing runs any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._reset_all()
        if self._listener is not None:
            _close(self._listener)
            self._listener = None

    def cut(self, mode: Literal["blackhole", "reset"] = "blackhole") -> None:
        """Cuts the link, at once and for new connections too.

        ``blackhole`` is an unplugged cable: connections stay open, what is under way is lost, and nothing passes in
        either direction, not even an end or a reset. ``reset`` is a peer that died: every connection is reset.
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

    def due(self, size: int, up: bool) -> float:
        """When ``size`` bytes given to the link now will have come through, in ``World.monotonic`` seconds."""
        sent = self.world.monotonic()
        if self.bandwidth is not None:
            sent = self._free[up] = max(sent, self._free[up]) + size / self.bandwidth
        return sent + self.latency

    def count(self, sent: int, up: bool) -> None:
        """Notes bytes handed on."""
        if up:
            self.bytes_up += sent
        else:
            self.bytes_down += sent

    @property
    def limits(self) -> tuple[int, int]:
        """Bytes that one direction of one connection may read at once, and have under way."""
        if self.bandwidth is None:
            return READ, WINDOW
        # 10 and 50 ms of the link: the others wait behind what one connection has queued
        share = int(self.bandwidth * 0.01)
        return min(READ, max(64, share)), min(WINDOW, max(64, int(self.bandwidth * (self.latency + 0.05))))

    @property
    def ideal(self) -> bool:
        """Whether nothing slows the link."""
        return not self.latency and self.bandwidth is None

    def run(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts a task that ends at ``stop`` at the latest."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task

    def forget(self, connection: _Connection, reset: bool = True) -> None:
        """Closes a connection: with a reset, unless both ends have ended it."""
        self._connections.pop(connection, None)
        connection.close(reset)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:  # no file descriptor left: later, perhaps
                await self.world.sleep(0.1)
                continue
            connection = _Connection(self, client)
            self._connections[connection] = None
            if self.state == "reset":
                self.forget(connection)
            elif self.state == "up":
                connection.opening = self.run(connection.open(self._family, self._address))

    def _reset_all(self) -> None:
        for connection in list(self._connections):
            self.forget(connection)


class _Connection:
    """The sockets to both ends, and the flow in each direction between them."""

    def __init__(self, relay: Relay, client: socket.socket) -> None:
        self.relay = relay
        self.client = client
        self.target: socket.socket | None = None
        self.flows: list[_Flow] = []
        self.opening: asyncio.Task[None] | None = None

    async def open(self, family: socket.AddressFamily, address: Any) -> None:
        self.target = socket.socket(family, socket.SOCK_STREAM)
        self.target.setblocking(False)
        try:
            for each in (self.client, self.target):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(self.target, address)
        except OSError:
            self.relay.forget(self)
            return
        self.flows = [_Flow(self, self.client, self.target, up=True), _Flow(self, self.target, self.client, up=False)]
        for flow in self.flows:
            flow.read()

    def freeze(self) -> None:
        """Nothing passes any more, and nothing is waited for; the sockets stay open."""
        if self.opening is not None:
            self.opening.cancel()
        for flow in self.flows:
            flow.freeze()

    def close(self, reset: bool) -> None:
        self.freeze()
        for each in (self.client, self.target):
            if each is not None and each.fileno() >= 0:
                if reset:  # an orderly end would pass off what has arrived as the whole
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                _close(each)


class _Flow:
    """One direction of a connection. It reads no more while its buffer, or its window, is full."""

    def __init__(self, connection: _Connection, source: socket.socket, sink: socket.socket, up: bool) -> None:
        self.connection = connection
        self.relay = connection.relay
        self.source = source
        self.sink = sink
        self.up = up
        self.loop = asyncio.get_running_loop()
        self.ended = False
        self._reading = False
        self._said_all = False
        self._buffer = memoryview(bytearray(READ))
        self._rest = self._buffer[:0]
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._size = 0  # bytes under way
        self._delivery: asyncio.Task[None] | None = None

    def read(self, on: bool = True) -> None:
        """Watches the source, or no longer."""
        on = on and not self._said_all
        if on and not self._reading:
            self.loop.add_reader(self.source, self._readable)
        elif self._reading and not on:
            self.loop.remove_reader(self.source)
        self._reading = on

    def freeze(self) -> None:
        if self.sink.fileno() >= 0:
            self.read(False)
            self.loop.remove_writer(self.sink)
        if self._delivery is not None:
            self._delivery.cancel()
        self._under_way.clear()

    def _readable(self) -> None:
        most, window = self.relay.limits
        try:
            count = self.source.recv_into(self._buffer, most)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.relay.forget(self.connection)
            return
        if count == 0:
            self._said_all = True
            self.read(False)
        if not self.relay.ideal or self._delivery is not None:
            self._under_way.append((self.relay.due(count, self.up), bytes(self._buffer[:count])))
            self._size += count
            self.read(self._size < window)
            self._delivery = self._delivery or self.relay.run(self._deliver())
        elif count == 0:
            self._end()
        else:
            self._rest = self._buffer[:count]
            if not self._send():
                self.read(False)
                self.loop.add_writer(self.sink, self._writable)

    def _send(self) -> bool:
        """Hands on what was read last; False where the sink does not take all of it."""
        try:
            sent = self.sink.send(self._rest)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self.relay.forget(self.connection)
            return True
        self.relay.count(sent, self.up)
        self._rest = self._rest[sent:]
        return not self._rest

    def _writable(self) -> None:
        if self._send() and self.sink.fileno() >= 0:
            self.loop.remove_writer(self.sink)
            self.read()

    async def _deliver(self) -> None:
        """Hands on what is under way, each part when it is due."""
        while self._under_way:
            due, part = self._under_way[0]
            if (wait := due - self.relay.world.monotonic()) > 0:
                await self.relay.world.sleep(wait)
            if not part:
                self._end()
                return
            try:
                await self.loop.sock_sendall(self.sink, part)
            except OSError:
                self.relay.forget(self.connection)
                return
            self.relay.count(len(part), self.up)
            self._under_way.popleft()
            self._size -= len(part)
            self.read(self._size < self.relay.limits[1])
        self._delivery = None

    def _end(self) -> None:
        """The source has said all; the connection is closed when the other end has, too."""
        self.ended = True
        try:
            self.sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.relay.forget(self.connection)
            return
        if all(flow.ended for flow in self.connection.flows):
            self.relay.forget(self.connection, reset=False)


def _close(each: socket.socket) -> None:
    """Closes a socket; first off the loop, which would otherwise watch whatever gets its number next."""
    loop = asyncio.get_running_loop()
    loop.remove_reader(each)
    loop.remove_writer(each)
    each.close()
