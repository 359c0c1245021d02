"""A server whose connections end at the worst moment, and the event loops on which clients meet it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from heliograph.core.world import World
from heliograph.local.mosquitto import Mosquitto
from heliograph.local.nats_server import Broker
from heliograph.local.relay import Relay
from tests.patience import HANGS

RESET = struct.pack("ii", 1, 0)
SEVERAL = 3
"""Number of connections that end badly before a good one."""
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def run(loop: str, main: Coroutine[Any, Any, None]) -> None:
    """Run on the named event loop; uvloop, the agents' loop, reports closed connections differently."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main)


def reset(client: socket.socket) -> None:
    """Reset a connection."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


@asynccontextmanager
async def relayed(broker: Broker | Mosquitto) -> AsyncIterator[Relay]:
    """Start a broker and a relay before it."""
    await broker.start()
    relay = Relay("127.0.0.1", broker.port, World())
    try:
        await relay.start()
        yield relay
    finally:
        await relay.stop()
        await broker.kill()


@asynccontextmanager
async def badly_served(port: int, end: Callable[[socket.socket], None]) -> AsyncIterator[Awaitable[None]]:
    """Serve a port badly; yield an awaitable that ends after several connections."""
    loop = asyncio.get_running_loop()
    several = loop.create_future()
    opened: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.setblocking(False)

        def accept() -> None:
            client, _ = listener.accept()
            opened.append(client)
            end(client)
            if len(opened) == SEVERAL:
                several.set_result(None)

        loop.add_reader(listener, accept)
        try:
            async with asyncio.timeout(HANGS):
                yield several
        finally:
            loop.remove_reader(listener)
            for client in opened:
                client.close()
