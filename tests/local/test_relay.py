"""The relay between real sockets: transfers, cuts, latency and bandwidth."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from heliograph.core.world import World
from heliograph.local.relay import WINDOW, Relay

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[int], Awaitable[Client]]


class Server:
    """An echo server that records the bytes received and the ends of connections."""

    def __init__(self) -> None:
        self.port = 0
        self.received = 0
        self.accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.may_read = asyncio.Event()
        self.may_read.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.put_nowait(writer)
        try:
            while True:
                await self.may_read.wait()
                data = await reader.read(1 << 20)
                if not data:
                    break
                self.received += len(data)
                writer.write(data)
                await writer.drain()
            self.ended.put_nowait("end")
        except ConnectionError:
            self.ended.put_nowait("reset")
        finally:
            writer.close()


class FakeClock:
    """A clock that stands still until ``advance`` moves it; sleepers wake in order."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.asked = asyncio.Event()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self.world = World(monotonic=lambda: self.time, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time + seconds, id(woken), woken))
        self.asked.set()
        await woken

    def advance(self, seconds: float) -> None:
        self.time += seconds
        while self._sleepers and self._sleepers[0][0] <= self.time:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)
        if not self._sleepers:
            self.asked.clear()

    def advance_to_next(self) -> None:
        self.advance(max(0.0, min(due for due, _, woken in self._sleepers if not woken.done()) - self.time))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server().running() as server:
        yield server


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    writers = []

    async def connect(port: int) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.close()


@asynccontextmanager
async def relaying(port: int, world: World | None = None) -> AsyncIterator[Relay]:
    relay = Relay("127.0.0.1", port, world or World())
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


@pytest.fixture
async def relay(server: Server) -> AsyncIterator[Relay]:
    async with relaying(server.port) as relay:
        yield relay


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def slow(server: Server, clock: FakeClock) -> AsyncIterator[Relay]:
    """Return a relay on a link that the test makes slow; its bytes advance with ``clock``."""
    async with relaying(server.port, clock.world) as relay:
        yield relay


@pytest.fixture
async def client(relay: Relay, connect: Connect) -> Client:
    """Return a connection through the relay that has echoed bytes."""
    client = await connect(relay.port)
    assert await echo(client, b"before") == b"before"
    return client


async def echo(client: Client, data: bytes) -> bytes:
    client[1].write(data)
    return await client[0].readexactly(len(data))


async def let_run(server: Server) -> None:
    """Make round trips that bypass the relay, so that it gets turns on this loop."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for _ in range(50):
        await echo((reader, writer), b"x")
        server.received -= 1
    writer.close()
    assert await server.ended.get() == "end"


async def read_end(client: Client) -> str:
    try:
        return "end" if await client[0].read() == b"" else "data"
    except ConnectionError:
        return "reset"


async def test_relays_and_counts(relay: Relay, connect: Connect) -> None:
    first, second = await connect(relay.port), await connect(relay.port)
    assert await echo(first, b"hello") == b"hello"
    assert await echo(second, b"you") == b"you"
    assert (relay.bytes_up, relay.bytes_down) == (8, 8)


@pytest.mark.parametrize("latency", [0.0, 0.001])
async def test_large_data_arrives_whole(relay: Relay, connect: Connect, latency: float) -> None:
    data = os.urandom(1 << 20) * 24
    relay.latency = latency
    reader, writer = await connect(relay.port)
    writer.write(data)
    writer.write_eof()
    assert hashlib.sha256(await reader.read()).digest() == hashlib.sha256(data).digest()
    assert (relay.bytes_up, relay.bytes_down) == (len(data), len(data))


async def test_one_direction_may_end_before_the_other(server: Server, relay: Relay, connect: Connect) -> None:
    reader, writer = await connect(relay.port)
    writer.write(b"last words")
    writer.write_eof()
    assert await reader.read() == b"last words"
    assert await server.ended.get() == "end"


async def test_sets_no_delay_on_both_sides(relay: Relay, connect: Connect) -> None:
    await echo(await connect(relay.port), b"x")
    assert len(relay.sockets) == 2
    for each in relay.sockets:
        assert each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("latency", [0.0, 60.0])
async def test_memory_is_bounded_while_the_target_does_not_read(server: Server, relay: Relay, latency: float) -> None:
    server.may_read.clear()
    relay.latency = latency
    sender = socket.create_connection(("127.0.0.1", relay.port))
    sender.setblocking(False)
    part, sent, quiet = bytes(1 << 20), 0, 0
    while quiet < 3:
        try:
            sent += sender.send(part)
            quiet = 0
        except BlockingIOError:
            quiet += 1
            await let_run_past(server)
        assert sent < WINDOW + (48 << 20)
    assert relay.in_flight <= WINDOW + (1 << 20)
    sender.close()
    server.may_read.set()


async def let_run_past(server: Server) -> None:
    """Give the relay turns on this loop while the server does not read."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.close()
    await writer.wait_closed()


class TestCut:
    async def test_a_black_hole_passes_nothing_and_stays_unnoticed(
        self, server: Server, relay: Relay, connect: Connect, client: Client
    ) -> None:
        far = await server.accepted.get()
        relay.cut()
        client[1].write(b"up")
        far.write(b"down")
        late = await connect(relay.port)
        late[1].write(b"late")
        pending = [asyncio.ensure_future(each[0].read(1)) for each in (client, late)]
        await let_run(server)
        assert server.received == len(b"before")
        assert not any(each.done() for each in pending)
        assert server.accepted.qsize() == 1  # let_run's; the relay did not pass on the late one
        assert (relay.bytes_up, relay.bytes_down) == (6, 6)
        assert server.ended.empty()
        for each in pending:
            each.cancel()

    async def test_a_black_hole_hides_that_a_side_has_ended(self, server: Server, relay: Relay, client: Client) -> None:
        relay.cut()
        client[1].close()
        await let_run(server)
        assert server.ended.empty()

    async def test_a_black_hole_drops_bytes_in_flight(self, server: Server, connect: Connect) -> None:
        target = socket.create_server(("127.0.0.1", 0))
        target.setblocking(False)
        async with relaying(target.getsockname()[1]) as relay:
            _, writer = await connect(relay.port)
            writer.write(bytes(64 << 20))
            far, _ = await asyncio.get_running_loop().sock_accept(target)
            await let_run(server)  # fills all buffers, since the target does not read
            relay.cut()
            passed, received = relay.bytes_up, 0
            while received < passed:
                received += len(far.recv(1 << 20))
            await let_run(server)
            with pytest.raises(BlockingIOError):
                far.recv(1)
            assert received == relay.bytes_up == passed < 64 << 20
        far.close()
        target.close()

    async def test_restoring_resets_old_connections_and_serves_new_ones(
        self, server: Server, relay: Relay, connect: Connect, client: Client
    ) -> None:
        relay.cut()
        late = await connect(relay.port)
        await let_run(server)
        relay.restore()
        assert await read_end(client) == "reset"
        assert await read_end(late) == "reset"
        assert await server.ended.get() == "reset"
        assert await echo(await connect(relay.port), b"after") == b"after"

    async def test_a_reset_reaches_both_sides_and_new_connections_until_restored(
        self, server: Server, relay: Relay, connect: Connect, client: Client
    ) -> None:
        relay.cut("reset")
        assert await read_end(client) == "reset"
        assert await server.ended.get() == "reset"
        assert await read_end(await connect(relay.port)) == "reset"
        relay.restore()
        assert await echo(await connect(relay.port), b"after") == b"after"

    async def test_from_black_hole_to_reset_and_back(
        self, server: Server, relay: Relay, connect: Connect, client: Client
    ) -> None:
        relay.cut()
        relay.cut("reset")
        assert await read_end(client) == "reset"
        assert await server.ended.get() == "reset"
        relay.cut()
        waiting = await connect(relay.port)
        await let_run(server)
        assert not waiting[0].at_eof()
        relay.restore()
        relay.restore()
        assert await read_end(waiting) == "reset"
        assert await echo(await connect(relay.port), b"after") == b"after"

    async def test_restoring_a_working_link_changes_nothing(self, relay: Relay, client: Client) -> None:
        relay.restore()
        assert await echo(client, b"y") == b"y"


async def test_a_missing_target_resets_the_connection(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with relaying(port) as relay:
        assert await read_end(await connect(relay.port)) == "reset"
        assert not relay.sockets


async def test_a_reset_of_one_side_is_passed_on(server: Server, relay: Relay) -> None:
    client = socket.create_connection(("127.0.0.1", relay.port))
    await server.accepted.get()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    assert await server.ended.get() == "reset"


async def test_stop_leaves_nothing(server: Server, connect: Connect) -> None:
    before = len(asyncio.all_tasks())
    relay = Relay("127.0.0.1", server.port, World())
    await relay.start()
    relay.latency = 60.0
    client = await connect(relay.port)
    client[1].write(b"never")
    await server.accepted.get()
    await relay.stop()
    assert await read_end(client) == "reset"
    assert await server.ended.get() == "reset"
    assert len(asyncio.all_tasks()) <= before
    with pytest.raises(ConnectionRefusedError):
        await connect(relay.port)
    await relay.stop()


class TestSlow:
    async def test_latency_delays_each_direction(
        self, server: Server, clock: FakeClock, slow: Relay, connect: Connect
    ) -> None:
        slow.latency = 3.0
        reader, writer = await connect(slow.port)
        writer.write(b"ping")
        await clock.asked.wait()
        clock.advance(2.9)
        await let_run(server)
        assert server.received == 0
        clock.advance(0.2)
        await clock.asked.wait()  # the answer is in flight
        assert server.received == 4
        answer = asyncio.ensure_future(reader.readexactly(4))
        await let_run(server)
        assert not answer.done()
        clock.advance(3.0)
        assert await answer == b"ping"

    async def test_a_cut_loses_bytes_in_flight(
        self, server: Server, clock: FakeClock, slow: Relay, connect: Connect
    ) -> None:
        slow.latency = 3.0
        _, writer = await connect(slow.port)
        writer.write(b"ping")
        await clock.asked.wait()
        slow.cut()
        clock.advance(10.0)
        await let_run(server)
        assert server.received == slow.bytes_up == 0

    async def test_order_is_kept_when_latency_falls(
        self, server: Server, clock: FakeClock, slow: Relay, connect: Connect
    ) -> None:
        slow.latency = 3.0
        reader, writer = await connect(slow.port)
        writer.write(b"first ")
        await clock.asked.wait()
        slow.latency = 0.0
        writer.write(b"second")
        await let_run(server)
        assert server.received == 0
        clock.advance(3.0)
        assert await reader.readexactly(12) == b"first second"

    @pytest.mark.parametrize("connections", [1, 3])
    async def test_bandwidth_is_shared_by_all(
        self, server: Server, clock: FakeClock, slow: Relay, connect: Connect, connections: int
    ) -> None:
        slow.bandwidth = 1e6
        size = 600_000 // connections
        start = clock.time
        clients = [await connect(slow.port) for _ in range(connections)]
        for _, writer in clients:
            writer.write(bytes(size))
        answers = asyncio.gather(*(reader.readexactly(size) for reader, _ in clients))
        while not answers.done():
            asked = asyncio.ensure_future(clock.asked.wait())
            await asyncio.wait([asked, answers], return_when=asyncio.FIRST_COMPLETED)
            if asked.done() and not answers.done():
                await let_run(server)  # the relay queues the sockets' bytes before the clock moves on
                clock.advance_to_next()
            asked.cancel()
        # the answers follow the requests closely: a full link in each direction, and a few parts
        assert 0.6 <= clock.time - start < 0.75
