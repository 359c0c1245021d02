"""Links: their delays, and the effect of a cut on messages in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from heliograph.bus.contract.topics import DEFAULT_ROOT, TELEMETRY
from heliograph.bus.memory.hub import Hub
from heliograph.bus.transport import Bus
from heliograph.core.errors import Unreachable
from heliograph.core.world import World, seeded
from heliograph.simulations.virtual.loop import Process, VirtualLoop, run
from heliograph.simulations.virtual.network import NOTICED_AFTER, RECONNECTED_AFTER, Link, LinkedBus

ADDRESS = TELEMETRY.at(edge="edge-1", device="meter")
Play = Callable[[VirtualLoop, Link, LinkedBus, Bus], Awaitable[None]]


def play(scene: Play, **link: float) -> None:
    """Run ``scene`` with a link, a client behind it, and a client beside the hub."""

    async def main(loop: VirtualLoop) -> None:
        world = World(monotonic=loop.time, rng=seeded(1), new_id=lambda: "0" * 32)
        hub = Hub(loop.time)
        wire = Link(loop, world, **link)
        far = LinkedBus("memory://cloud", DEFAULT_ROOT, world, "agent-edge-1", hub, wire, Process("far"))
        near = LinkedBus("memory://cloud", DEFAULT_ROOT, world, "near", hub, Link(loop, world), Process("near"))
        await far.open()
        await near.open()
        await scene(loop, wire, far, near)

    run(main)


def test_latency_and_bandwidth() -> None:
    async def scene(loop: VirtualLoop, link: Link, far: LinkedBus, near: Bus) -> None:
        assert await far.publish(ADDRESS, b"x" * 1000) == 1
        assert loop.time() == pytest.approx(0.1 + 0.5 + 0.1)  # the message and its acknowledgement
        assert (link.carried_up, link.carried_down) == (1000, 0)

    play(scene, latency=0.1, bandwidth=2000)


def test_messages_stay_in_order_on_a_link() -> None:
    async def scene(loop: VirtualLoop, link: Link, far: LinkedBus, near: Bus) -> None:
        async with near.subscribe(ADDRESS) as messages:
            await asyncio.gather(far.publish(ADDRESS, b"x" * 5000), far.publish(ADDRESS, b"y"))
            assert [(await anext(messages)).body[:1] for _ in range(2)] == [b"x", b"y"]

    play(scene, latency=0.1, bandwidth=1000)


def test_a_short_cut_is_not_noticed_and_delays_messages_in_flight() -> None:
    async def scene(loop: VirtualLoop, link: Link, far: LinkedBus, near: Bus) -> None:
        link.cut()
        loop.call_later(NOTICED_AFTER / 2, link.restore)
        assert await far.publish(ADDRESS, b"x") == 1
        assert far.link.up
        assert loop.time() >= NOTICED_AFTER / 2

    play(scene, latency=0.01)


def test_a_noticed_cut_fails_messages_in_flight_and_the_link_reconnects() -> None:
    async def scene(loop: VirtualLoop, link: Link, far: LinkedBus, near: Bus) -> None:
        link.cut()
        with pytest.raises(Unreachable):
            await far.publish(ADDRESS, b"x")
        assert loop.time() == pytest.approx(NOTICED_AFTER)
        assert not far.link.up and near.link.up
        assert "agent-edge-1" not in far.hub.clients
        link.restore()
        await far.link.wait_up()
        assert loop.time() == pytest.approx(NOTICED_AFTER + RECONNECTED_AFTER)
        assert await far.publish(ADDRESS, b"x") == 1

    play(scene, latency=0.01)


def test_an_acknowledgement_can_be_lost_after_the_message_was_stored() -> None:
    async def scene(loop: VirtualLoop, link: Link, far: LinkedBus, near: Bus) -> None:
        loop.call_later(0.15, link.cut)
        with pytest.raises(Unreachable):
            await far.publish(ADDRESS, b"x")
        assert await near.last_sequence("TELEMETRY") == 1

    play(scene, latency=0.1)


def test_a_dropped_share_never_reaches_a_subscriber() -> None:
    async def scene(loop: VirtualLoop, link: Link, far: LinkedBus, near: Bus) -> None:
        link.dropped = 0.5
        got = 0

        async def count() -> None:
            nonlocal got
            async with far.subscribe(ADDRESS) as messages:
                async for _ in messages:
                    got += 1

        counting = asyncio.create_task(count())
        await asyncio.sleep(0.1)
        for _ in range(200):
            await near.publish(ADDRESS, b"x")
        await asyncio.sleep(1)
        counting.cancel()
        assert 60 < got < 140

    play(scene, latency=0.01)
