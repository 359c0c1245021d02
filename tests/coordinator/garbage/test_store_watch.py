"""A store without room is said before it refuses anything: which one, and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.payloads import Generation, Report
from heliograph.bus.contract.resources import Edge, Metadata
from heliograph.bus.transport import StoreUse
from heliograph.coordinator.edges.reported import edge_of
from heliograph.coordinator.garbage.store_watch import EVERY, StoreWatch, sentences
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.simulations.virtual.loop import VirtualLoop, run

NOW = "2026-03-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("use", "edge", "words"),
    [
        (StoreUse("the broker's store", 95, 10**10, "bytes"), "cloud",
         "the broker's store has no room left: more than 90% of 10.0 GB are taken; run 'heliograph gc', delete models "
         "and jobs that nobody needs, or give the broker more room"),
        (StoreUse("bucket models", 1, 2000, "chunks", "models"), "cloud", "2,000 chunks are taken; run 'heliograph gc"),
        (StoreUse("bucket rounds", 1, 10, "keys", "rounds"), "cloud", "and delete jobs that have ended"),
        (StoreUse("bucket resources", 1, 10, "keys", "resources"), "cloud", "delete jobs, models and other resources"),
        (StoreUse("bucket up-edge-7", 1, 10, "chunks", "up-edge-7"), "edge-7", "its updates wait until"),
    ],
)  # fmt: skip
def test_each_store_says_what_to_do(use: StoreUse, edge: str, words: str) -> None:
    ((whose, (sentence,)),) = sentences([use]).items()
    assert whose == edge
    assert words in sentence


def test_a_store_is_full_from_nine_tenths_on_and_has_room_again_a_little_below() -> None:
    told: list[Mapping[str, list[str]]] = []
    warned: list[str] = []
    used = 50

    async def main(loop: VirtualLoop) -> None:
        nonlocal used
        world = World(monotonic=loop.time, now=loop.time)
        bus = connect("memory://store-watch", world=world)

        async def store_use() -> list[StoreUse]:
            return [StoreUse("the account's store", used, 100, "bytes")]

        bus.store_use = store_use  # type: ignore[method-assign]
        watch = StoreWatch(bus, None, world, told.append, warned.append, Failures(warned.append))
        running = asyncio.create_task(watch.run())
        for used in (50, 91, 95, 86, 84, 20):  # noqa: B007 the watch reads it
            await asyncio.sleep(EVERY)
        await cancel_and_wait(running)

    run(main)
    assert [bool(each) for each in told] == [True, True, True, False]
    assert len(warned) == 1


def test_an_edge_shows_what_is_full_until_it_has_room() -> None:
    def shown(edge: Edge, *full: str, cloud: tuple[str, ...] = ()) -> tuple[Edge, Any]:
        report = Report(edge="edge-1", observed=Generation(), full=list(full))
        after = edge_of(edge, report, True, 0, NOW, full=cloud)
        return after, next(((each.status, each.reason, each.message) for each in after.status.conditions
                            if each.type == "HasRoom"), None)  # fmt: skip

    edge, room = shown(Edge(metadata=Metadata(name="edge-1")))
    assert room is None
    edge, room = shown(edge, "the disk is full", cloud=("its bucket is full",))
    assert room == ("False", "StoreFull", "the disk is full; its bucket is full")
    edge, room = shown(edge)
    assert room == ("True", "RoomAgain", "")
