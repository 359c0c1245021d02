"""Attempts to connect: pauses grow while nobody answers, and begin anew after a connection that lived."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.mqtt.library_client import MISC_EVERY
from heliograph.bus.reconnecting import FIRST_PAUSE, LIVED, LONGEST_PAUSE, Reconnecting
from heliograph.core.world import World
from heliograph.local.nats_server import free_ports
from tests.patience import HANGS


class Longest(random.Random):
    """Draws the longest pause each time."""

    def random(self) -> float:
        return 1.0


@dataclass
class Clock:
    """A clock that stands, and goes on by what is slept."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        if seconds != MISC_EVERY:  # a client that is being let in looks after its connection
            self.slept.append(round(seconds, 6))
        self.now += seconds

    def world(self) -> World:
        return World(monotonic=lambda: self.now, sleep=self.sleep, rng=Longest())


async def test_the_first_attempt_is_made_at_once_and_the_pauses_grow_to_the_longest() -> None:
    clock = Clock()
    attempts = Reconnecting(clock.world())
    for _ in range(9):
        await attempts.pause()
    assert clock.slept == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_PAUSE, LONGEST_PAUSE]


async def test_the_pauses_begin_anew_after_a_connection_that_lived() -> None:
    clock = Clock()
    attempts = Reconnecting(clock.world())
    for _ in range(6):
        await attempts.pause()
    attempts.connected()
    clock.now += LIVED
    attempts.lost()
    await attempts.pause()
    assert clock.slept[-1] == FIRST_PAUSE


async def test_a_broker_that_ends_each_connection_at_once_is_asked_more_and_more_seldom() -> None:
    clock = Clock()
    attempts = Reconnecting(clock.world())
    for _ in range(8):
        await attempts.pause()
        attempts.connected()
        clock.now += LIVED / 2
        attempts.lost()
    assert clock.slept[-1] == LONGEST_PAUSE


async def test_the_servers_of_a_cluster_are_tried_without_a_pause_between_them() -> None:
    clock = Clock()
    attempts = Reconnecting(clock.world(), servers=3)
    for _ in range(7):
        await attempts.pause()
    assert clock.slept == [0.1, 0.2]
    attempts.connected()
    clock.now += LIVED
    attempts.lost()
    for _ in range(3):
        await attempts.pause()
    assert clock.slept == [0.1, 0.2, 0.1]


@pytest.mark.parametrize("scheme", ["nats", "mqtt"])
async def test_a_client_without_a_broker_backs_off(scheme: str) -> None:
    clock, waited = Clock(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        if len(clock.slept) == 8:
            waited.set()
        await asyncio.sleep(0)

    world = World(monotonic=lambda: clock.now, sleep=sleep, rng=Longest())
    async with connect(f"{scheme}://127.0.0.1:{free_ports(1)[0]}", world=world), asyncio.timeout(HANGS):
        await waited.wait()
    assert clock.slept[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_PAUSE, LONGEST_PAUSE]


@pytest.mark.parametrize(("scheme", "hello"), [("nats", b"no NATS\r\n"), ("mqtt", b"\x20\x02\x00\x05")])
async def test_a_client_whom_a_server_takes_and_refuses_backs_off_too(scheme: str, hello: bytes) -> None:
    clock, waited, taken = Clock(), asyncio.Event(), 0

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        if len(clock.slept) == 7:
            waited.set()
        await asyncio.sleep(0)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        taken += 1
        if scheme == "mqtt":
            await reader.read(1)
        writer.write(hello)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    world = World(monotonic=lambda: clock.now, sleep=sleep, rng=Longest())
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, connect(f"{scheme}://127.0.0.1:{port}", world=world), asyncio.timeout(HANGS):
        await waited.wait()
    assert taken >= 7
    assert clock.slept[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_PAUSE]
