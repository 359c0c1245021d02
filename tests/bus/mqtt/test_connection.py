"""Connections that end at the worst moment: the client always comes back, and at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.mqtt import connection
from heliograph.core.world import World
from heliograph.local.mosquitto import Mosquitto
from tests.bus.bad_connections import LOOPS, badly_served, relayed, reset, run
from tests.bus.meeting import EVENT, following
from tests.patience import HANGS

ACCEPTED = bytes((0x20, 3, 0, 0, 0))
"""A CONNACK of MQTT 5."""


def accept_and_reset(client: socket.socket) -> None:
    """Accept the login and reset the connection, so that the client finds both together."""

    def accept() -> None:
        client.sendall(ACCEPTED)
        reset(client)

    asyncio.get_running_loop().call_later(0.01, accept)  # the client has sent its login by now


def accept_and_end(client: socket.socket) -> None:
    client.sendall(ACCEPTED)
    client.shutdown(socket.SHUT_WR)


def end_unanswered(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


pytestmark = pytest.mark.mosquitto
everyhow = pytest.mark.parametrize("end", [accept_and_reset, accept_and_end, end_unanswered])
on_each_loop = pytest.mark.parametrize("loop", LOOPS)


@everyhow
@on_each_loop
def test_a_client_comes_back_after_connections_that_end_with_the_broker_s_answer(
    loop: str, end: Callable[[socket.socket], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "TIMEOUT", 10 * HANGS)
    monkeypatch.setattr(connection, "KEEPALIVE", 60_000)

    async def main() -> None:
        broker = Mosquitto(tmp_path / "mosquitto", world=World())
        async with relayed(broker) as relay, connect(f"mqtt://127.0.0.1:{relay.port}") as bus:
            await bus.link.wait_up(HANGS)
            async with bus.subscribe("event/#") as messages:
                await relay.stop()
                await bus.link.wait_down()
                async with badly_served(relay.port, end) as several:
                    await several
                await relay.start()
                await bus.link.wait_up(HANGS)
                await bus.publish(EVENT, b"{}")
                assert (await following(messages)).body == b"{}"

    run(loop, main())


@on_each_loop
def test_a_reset_behind_the_last_message_is_noticed_at_once(
    loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message and the reset arrive together, and no ping runs that would notice the reset."""
    monkeypatch.setattr(connection, "KEEPALIVE", 60_000)
    ended: list[socket.socket] = []

    def accept_and_reset_later(client: socket.socket) -> None:
        client.sendall(ACCEPTED)
        ended.append(client)

    async def main() -> None:
        async with relayed(Mosquitto(tmp_path / "mosquitto", world=World())) as relay:
            await relay.stop()
            async with connect(f"mqtt://127.0.0.1:{relay.port}") as bus:
                async with badly_served(relay.port, accept_and_reset_later):
                    await bus.link.wait_up(HANGS)
                    ended[0].sendall(bytes((0x30, 6, 0, 1, ord("t"), 0)) + b"{}")
                    reset(ended[0])
                    await bus.link.wait_down()
                await relay.start()
                await bus.link.wait_up(HANGS)

    run(loop, main())
