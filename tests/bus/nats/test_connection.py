"""Connections that end at the worst moment: the client always comes back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import with_credentials
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError
from heliograph.local.nats_server import Broker, User
from heliograph.local.relay import Relay
from tests.bus.bad_connections import LOOPS, badly_served, relayed, reset, run
from tests.bus.meeting import EVENT
from tests.patience import HANGS

INFO = b'INFO {"server_id":"N","version":"2.10.0","headers":true,"max_payload":1048576}\r\n'


def reset_at_once(client: socket.socket) -> None:
    """Send the server's greeting and a reset, so that the client finds both together."""

    def greet_and_reset() -> None:
        client.sendall(INFO)
        reset(client)

    asyncio.get_running_loop().call_later(0.01, greet_and_reset)  # the client has noticed the connection by now


def end_at_once(client: socket.socket) -> None:
    """Send the server's greeting and the connection's end."""
    client.sendall(INFO)
    client.shutdown(socket.SHUT_WR)


def speak_another_protocol(client: socket.socket) -> None:
    """Answer with one line beyond the client's limit, as no NATS server does."""
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        client.send(b"x" * 1_000_000)


def greet_without_content(client: socket.socket) -> None:
    client.sendall(b"INFO\r\n")


ENDS = [reset_at_once, end_at_once, speak_another_protocol, greet_without_content]


@pytest.mark.parametrize("before", [True, False], ids=["connected before", "first connections"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_connects_after_connections_that_end_during_the_handshake(
    loop: str, end: Callable[[socket.socket], None], before: bool, tmp_path: Path
) -> None:
    async def main() -> None:
        broker = broker_in(tmp_path)
        async with relayed(broker) as relay:
            if not before:
                await relay.stop()
            async with connect(through(relay, broker)) as bus:
                if before:
                    await answers(bus)
                    await relay.stop()
                async with badly_served(relay.port, end) as several:
                    await several
                await relay.start()
                await answers(bus)

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_that_the_network_has_forgotten_is_replaced(loop: str, tmp_path: Path) -> None:
    """Bytes wait on a connection that never resets, as behind a router that has lost its state."""

    async def main() -> None:
        broker = broker_in(tmp_path)
        async with relayed(broker) as relay, connect(through(relay, broker)) as bus:
            await bus.link.wait_up(HANGS)
            relay.cut("blackhole")
            lost = [asyncio.create_task(bus.publish(EVENT, b"0" * 1_000_000)) for _ in range(40)]
            await bus.link.wait_down()
            relay.state = "up"  # applies to new connections only
            await answers(bus)
            found = await asyncio.gather(*lost, return_exceptions=True)
            assert all(isinstance(each, HeliographError) for each in found)

    run(loop, main())


async def answers(bus: Bus) -> None:
    """Wait until the broker answers on a bus."""
    async with asyncio.timeout(HANGS):
        while True:
            await bus.link.wait_up()
            with contextlib.suppress(HeliographError):  # this is the old connection; its end is not known yet
                await bus.last_sequence("telemetry")
                return


def broker_in(directory: Path) -> Broker:
    return Broker(directory / "broker", "node", (User("coordinator", "x", "coordinator"),))


def through(relay: Relay, broker: Broker) -> str:
    return with_credentials(f"nats://127.0.0.1:{relay.port}", broker.login_file("coordinator"))
