"""A TCP relay that simulates a link: slow, narrow, unplugged or reset, unnoticed by both ends.

The relay uses non-blocking sockets with the event loop's readers and writers instead of transports: a transport goes on
flushing its own write buffer, so that a cut would let some hundred kilobytes through, and it copies once more.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Literal

from heliograph.core.world import World

READ = 256 * 1024
"""Bytes moved at once on a link without limits; also the memory of one direction of one connection."""
WINDOW = 16 * 1024 * 1024
"""Bytes in flight in one direction of one connection on a link with latency."""

_RESET = struct.pack("ii", 1, 0)


class Relay:
    """A relay from ``host:port`` to ``target_host:target_port``.

    Args:
        target_host: name or address, resolved once by ``start``.
        world: clock and sleep.
        port: port to listen on; 0 picks a free one, which ``port`` names after ``start``.
        others: host and port of further targets. Where one takes no connection, the next connection goes to the next.
        buffer: bytes that each socket of the relay takes in ahead of the link, about, so that its clients see how fast
            the link is; 0 leaves that to the kernel, which takes megabytes.

    Attributes:
        latency: seconds added to each byte in each direction; may change at any time.
        bandwidth: bytes per second of the link in each direction, more than 0, shared by its connections; None sets
            no limit. ``bandwidth_down`` is that towards the clients, where it differs.
        bytes_up, bytes_down: bytes passed on to the target, and to the clients.
    """

    def __init__(
        self, target_host: str, target_port: int, world: World, host: str = "127.0.0.1", port: int = 0,
        others: Sequence[tuple[str, int]] = (), buffer: int = 0,
    ) -> None:  # fmt: skip
        self.host = host
        self.port = port
        self.latency = 0.0
        self.bandwidth: float | None = None
        self.bandwidth_down: float | None = None
        self.buffer = buffer
        self.bytes_up = 0
        self.bytes_down = 0
        self.world = world
        self.state: Literal["up", "blackhole", "reset"] = "up"
        self._targets = [(target_host, target_port), *others]
        self._addresses: list[tuple[socket.AddressFamily, Any]] = []
        self._failed = 0
        """Number of connections that no target has taken."""
        self._listener: socket.socket | None = None
        self._connections: dict[_Connection, None] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._idle_at = {True: 0.0, False: 0.0}  # when the link, up and down, has sent all bytes queued on it

    async def start(self) -> None:
        """Start to listen. Raise OSError if the port is taken or the target's name is unknown."""
        loop = asyncio.get_running_loop()
        for target in self._targets[len(self._addresses) :]:
            found = await loop.getaddrinfo(*target, type=socket.SOCK_STREAM)
            self._addresses.append((socket.AddressFamily(found[0][0]), found[0][4]))
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.create_server((self.host, self.port), family=family, backlog=1024)
        self._listener.setblocking(False)
        if self.buffer:  # before the connections: they begin with a window of this size
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer)
        self.port = self._listener.getsockname()[1]
        self.spawn(self._accept(self._listener))

    async def stop(self) -> None:
        """Stop listening, reset all connections, and return when all tasks have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._reset_all()
        if self._listener is not None:
            _close(self._listener)
            self._listener = None

    def cut(self, mode: Literal["blackhole", "reset"] = "blackhole") -> None:
        """Cut the link at once, for present and new connections.

        ``blackhole`` simulates an unplugged cable: connections stay open, bytes in flight are lost, and nothing passes
        in either direction, not even an end or a reset. ``reset`` simulates a dead peer: every connection is reset.
        """
        self.state = mode
        if mode == "reset":
            self._reset_all()
        for connection in self._connections:
            connection.freeze()

    def restore(self) -> None:
        """Restore the link. Connections from before or during a cut are reset: their far side has given them up."""
        if self.state != "up":
            self.state = "up"
            self._idle_at = dict.fromkeys(self._idle_at, 0.0)
            self._reset_all()

    def due(self, size: int, up: bool) -> float:
        """Queue ``size`` bytes on the link and return when they arrive, in ``World.monotonic`` seconds."""
        sent = self.world.monotonic()
        if (bandwidth := self._bandwidth(up)) is not None:
            sent = self._idle_at[up] = max(sent, self._idle_at[up]) + size / bandwidth
        return sent + self.latency

    def count(self, sent: int, up: bool) -> None:
        """Count bytes passed on."""
        if up:
            self.bytes_up += sent
        else:
            self.bytes_down += sent

    @property
    def sockets(self) -> list[socket.socket]:
        """Sockets of all open connections: of each its client's, and its target's once that is there."""
        return [each for connection in self._connections for each in (connection.client, connection.target) if each]

    @property
    def in_flight(self) -> int:
        """Bytes read from one side and not yet passed on to the other."""
        return sum(flow.size for connection in self._connections for flow in connection.flows)

    def limits(self, up: bool) -> tuple[int, int]:
        """Return the bytes that one direction of one connection may read at once, and have in flight."""
        if (bandwidth := self._bandwidth(up)) is None:
            return READ, WINDOW
        # 10 and 50 ms of the link: other connections wait behind the bytes that one connection has queued
        share = int(bandwidth * 0.01)
        return min(READ, max(64, share)), min(WINDOW, max(64, int(bandwidth * (self.latency + 0.05))))

    @property
    def ideal(self) -> bool:
        """True if the link has neither latency nor a limited bandwidth."""
        return not self.latency and self.bandwidth is None and self.bandwidth_down is None

    def _bandwidth(self, up: bool) -> float | None:
        return self.bandwidth if up or self.bandwidth_down is None else self.bandwidth_down

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that ``stop`` cancels."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task

    def drop(self, connection: _Connection, reset: bool = True) -> None:
        """Close a connection, with a reset unless both ends have closed it."""
        self._connections.pop(connection, None)
        connection.close(reset)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:  # no file descriptor left: try again later
                await self.world.sleep(0.1)
                continue
            connection = _Connection(self, client)
            self._connections[connection] = None
            if self.state == "reset":
                self.drop(connection)
            elif self.state == "up":
                connection.opening = self.spawn(self._open(connection))

    async def _open(self, connection: _Connection) -> None:
        turn = self._failed
        if not await connection.open(*self._addresses[turn % len(self._addresses)]):
            self._failed = turn + 1

    def _reset_all(self) -> None:
        for connection in list(self._connections):
            self.drop(connection)


class _Connection:
    """The sockets to both ends, and the flow in each direction between them."""

    def __init__(self, relay: Relay, client: socket.socket) -> None:
        self.relay = relay
        self.client = client
        self.target: socket.socket | None = None
        self.flows: list[_Flow] = []
        self.opening: asyncio.Task[None] | None = None

    async def open(self, family: socket.AddressFamily, address: Any) -> bool:
        """Connect to a target; return False where it takes no connection."""
        self.target = socket.socket(family, socket.SOCK_STREAM)
        self.target.setblocking(False)
        if self.relay.buffer:
            self.target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.relay.buffer)
        try:
            for each in (self.client, self.target):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(self.target, address)
        except OSError:
            self.relay.drop(self)
            return False
        self.flows = [_Flow(self, self.client, self.target, up=True), _Flow(self, self.target, self.client, up=False)]
        for flow in self.flows:
            flow.read()
        return True

    def freeze(self) -> None:
        """Stop all transfers and leave the sockets open."""
        if self.opening is not None:
            self.opening.cancel()
        for flow in self.flows:
            flow.freeze()

    def close(self, reset: bool) -> None:
        self.freeze()
        for each in (self.client, self.target):
            if each is not None and each.fileno() >= 0:
                if reset:  # an orderly end would present a part of the data as the whole
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                _close(each)


class _Flow:
    """One direction of a connection. It stops reading while its buffer or its window is full."""

    def __init__(self, connection: _Connection, source: socket.socket, sink: socket.socket, up: bool) -> None:
        self.connection = connection
        self.relay = connection.relay
        self.source = source
        self.sink = sink
        self.up = up
        self.loop = asyncio.get_running_loop()
        self.ended = False
        self._reading = False
        self._source_ended = False
        self._buffer = memoryview(bytearray(READ))
        self._rest = self._buffer[:0]
        self._in_flight: deque[tuple[float, bytes]] = deque()
        self.size = 0  # bytes in flight
        self._delivery: asyncio.Task[None] | None = None

    def read(self, on: bool = True) -> None:
        """Start or stop watching the source."""
        on = on and not self._source_ended
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
        self._in_flight.clear()

    def _readable(self) -> None:
        most, window = self.relay.limits(self.up)
        try:
            count = self.source.recv_into(self._buffer, most)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.relay.drop(self.connection)
            return
        if count == 0:
            self._source_ended = True
            self.read(False)
        if not self.relay.ideal or self._delivery is not None:
            self._in_flight.append((self.relay.due(count, self.up), bytes(self._buffer[:count])))
            self.size += count
            self.read(self.size < window)
            self._delivery = self._delivery or self.relay.spawn(self._deliver())
        elif count == 0:
            self._end()
        else:
            self._rest = self._buffer[:count]
            if not self._send():
                self.read(False)
                self.loop.add_writer(self.sink, self._writable)

    def _send(self) -> bool:
        """Pass on the last read bytes; return False if the sink does not accept all of them."""
        try:
            sent = self.sink.send(self._rest)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self.relay.drop(self.connection)
            return True
        self.relay.count(sent, self.up)
        self._rest = self._rest[sent:]
        return not self._rest

    def _writable(self) -> None:
        if self._send() and self.sink.fileno() >= 0:
            self.loop.remove_writer(self.sink)
            self.read()

    async def _deliver(self) -> None:
        """Pass on the bytes in flight, each part when it is due."""
        while self._in_flight:
            due, part = self._in_flight[0]
            if (wait := due - self.relay.world.monotonic()) > 0:
                await self.relay.world.sleep(wait)
            if not part:
                self._end()
                return
            try:
                await self.loop.sock_sendall(self.sink, part)
            except OSError:
                self.relay.drop(self.connection)
                return
            self.relay.count(len(part), self.up)
            self._in_flight.popleft()
            self.size -= len(part)
            self.read(self.size < self.relay.limits(self.up)[1])
        self._delivery = None

    def _end(self) -> None:
        """Pass on the source's end; close the connection when both ends have ended."""
        self.ended = True
        try:
            self.sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.relay.drop(self.connection)
            return
        if all(flow.ended for flow in self.connection.flows):
            self.relay.drop(self.connection, reset=False)


def _close(each: socket.socket) -> None:
    """Close a socket, removed from the loop first: the loop would watch the next file with the same number."""
    loop = asyncio.get_running_loop()
    loop.remove_reader(each)
    loop.remove_writer(each)
    each.close()
