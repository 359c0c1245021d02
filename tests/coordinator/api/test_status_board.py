"""Retained status: every door gets the newest value of each resource, even after lost links. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import Dataset, FederatedTask, Metadata, Model, Resource
from heliograph.bus.contract.topics import DEFAULT_ROOT, STATUS
from heliograph.bus.contract.weights_file import write
from heliograph.bus.memory.bus import MemoryBus
from heliograph.bus.memory.hub import Hub
from heliograph.bus.transport import Message
from heliograph.coordinator.api.status_board import (
    ENTRIES_SHOWN,
    SMALL_BETWEEN,
    SWEEP_EVERY,
    StatusBoard,
    public_document,
    shortened,
)
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.simulations.virtual.loop import VirtualLoop, run

SOURCE = "cloud/coordinator/1"
SMALL = write({"w": np.zeros(2)}, Path("/nonexistent"))


class Doors:
    """Two brokers with one status board, and the messages that a subscriber of each has received."""

    def __init__(self, loop: VirtualLoop) -> None:
        ids = count(1)
        self.loop = loop
        self.world = World(monotonic=loop.time, now=loop.time, new_id=lambda: f"{next(ids):032x}")
        self.hubs = [Hub(loop.time), Hub(loop.time)]
        self.buses = [MemoryBus("memory://door", DEFAULT_ROOT, self.world, "status", hub) for hub in self.hubs]
        self.board = StatusBoard(self.buses, self.world, SOURCE, print)
        self.received: list[list[Message]] = [[], []]
        for hub, received in zip(self.hubs, self.received, strict=True):
            hub.receivers.add("status/#", "", received.append)

    def phases(self, door: int) -> list[str]:
        return [decode(each.body).data["status"]["phase"] for each in self.received[door] if each.body]

    def retained(self, door: int) -> dict[str, Message]:
        return {each.topic: each for each in self.hubs[door].retained("status/#")}


def _on_doors(test: Callable[[Doors], Awaitable[None]]) -> None:
    async def with_board(loop: VirtualLoop) -> None:
        doors = Doors(loop)
        running = asyncio.ensure_future(doors.board.run())
        await loop.wait_until_idle()
        try:
            await test(doors)
        finally:
            await cancel_and_wait(running)

    run(with_board)


def _job(phase: str, name: str = "one") -> FederatedTask:
    spec = {"aggregationWorker": {"model": {"name": "m"}}, "trainingWorkers": [{"name": "w"}]}
    task = parse_resource({"kind": "FederatedTask", "metadata": {"name": name}, "spec": spec})
    assert isinstance(task, FederatedTask)
    return task.model_copy(update={"status": task.status.model_copy(update={"phase": phase})})


def test_a_status_is_an_event_retained_on_every_door() -> None:
    async def test(doors: Doors) -> None:
        for bus in doors.buses:
            await bus.open()
        doors.board.show(_job("Pending"))
        await doors.loop.wait_until_idle()
        for door in (0, 1):
            message = doors.retained(door)["status/jobs/one"]
            event = decode(message.body)
            assert (event.source, event.type, event.subject) == (SOURCE, STATUS.type, "status/jobs/one")
            assert event.data == public_document(_job("Pending"))

    _on_doors(test)


def test_a_replaced_value_is_not_sent() -> None:
    async def test(doors: Doors) -> None:
        await doors.buses[0].open()
        for phase in ("Pending", "Running", "Succeeded"):
            doors.board.show(_job(phase))
        await asyncio.sleep(10 * SWEEP_EVERY)
        assert doors.phases(0) == ["Succeeded"]

    _on_doors(test)


def test_a_door_that_was_away_gets_the_newest_of_each_and_the_other_does_not_wait() -> None:
    async def test(doors: Doors) -> None:
        await doors.buses[0].open()
        doors.board.show(_job("Pending"))
        doors.board.show(_job("Running", "two"))
        await asyncio.sleep(10 * SWEEP_EVERY)
        doors.board.show(_job("Running"))
        await asyncio.sleep(10 * SWEEP_EVERY)
        assert doors.phases(0) == ["Pending", "Running", "Running"]
        assert doors.received[1] == []
        await doors.buses[1].open()
        await asyncio.sleep(10 * SWEEP_EVERY)
        assert sorted(doors.retained(1)) == ["status/jobs/one", "status/jobs/two"]
        assert doors.phases(1) == ["Running", "Running"]

    _on_doors(test)


def test_a_broker_that_lost_its_retained_values_gets_them_again() -> None:
    async def test(doors: Doors) -> None:
        await doors.buses[0].open()
        doors.board.show(_job("Running"))
        await asyncio.sleep(10 * SWEEP_EVERY)
        doors.buses[0].drop()
        doors.hubs[0].retain("status/jobs/one", None)
        await doors.buses[0].open()
        await asyncio.sleep(10 * SWEEP_EVERY)
        assert decode(doors.retained(0)["status/jobs/one"].body).data["status"]["phase"] == "Running"

    _on_doors(test)


def test_a_deleted_resource_has_no_status() -> None:
    async def test(doors: Doors) -> None:
        await doors.buses[0].open()
        doors.board.show(_job("Running"))
        await asyncio.sleep(10 * SWEEP_EVERY)
        doors.board.clear(_job("Running"))
        await asyncio.sleep(10 * SWEEP_EVERY)
        assert doors.retained(0) == {}
        assert doors.received[0][-1].body == b""

    _on_doors(test)


def test_a_status_that_is_too_large_shows_its_first_entries_and_says_how_many_there_are() -> None:
    async def test(doors: Doors) -> None:
        await doors.buses[0].open()
        task = _job("Running")
        many = {f"worker-{number:05d}-{'x' * 40}": f"edge-{number:05d}" for number in range(10_000)}
        task = task.model_copy(update={"status": task.status.model_copy(update={"assignments": many})})
        doors.board.show(task)
        await asyncio.sleep(10 * SWEEP_EVERY)
        body = doors.retained(0)["status/jobs/one"].body
        assert len(body) <= STATUS.max_size
        status = decode(body).data["status"]
        assert status["assignments"] == dict([*many.items()][:ENTRIES_SHOWN])
        assert status["shortened"] == {"status.assignments": 10_000}
        assert status["phase"] == "Running"

    _on_doors(test)


def test_lists_within_lists_are_shortened_by_their_place() -> None:
    workers = [{"tags": [*range(ENTRIES_SHOWN + 1)]}] * (ENTRIES_SHOWN + 2)
    tree: dict[str, Any] = {"spec": {"workers": workers}, "status": {"round": 1}}
    short = shortened(tree)
    assert len(short["spec"]["workers"]) == ENTRIES_SHOWN
    assert all(len(each["tags"]) == ENTRIES_SHOWN for each in short["spec"]["workers"])
    cut = {"spec.workers": ENTRIES_SHOWN + 2, "spec.workers.tags": ENTRIES_SHOWN + 1}
    assert short["status"] == {"round": 1, "shortened": cut}
    assert len(tree["spec"]["workers"]) == ENTRIES_SHOWN + 2  # the document itself stays whole


@pytest.mark.parametrize(
    "resource",
    [
        Model.model_validate({"metadata": {"name": "m"}, "spec": {"weights": SMALL}}),
        Dataset(metadata=Metadata(name="d")),
    ],
)
def test_people_see_weights_by_digest_and_never_their_bytes(resource: Resource) -> None:
    shown = public_document(resource)
    assert "inline" not in str(shown)
    assert shown["metadata"]["name"] == resource.name
    if isinstance(resource, Model):
        assert shown["spec"]["weights"] == {"digest": SMALL.digest, "size": SMALL.size}


def _fat(number: int) -> Dataset:
    notes = {f"note-{place}": 20_000 * "x" for place in range(40)}
    return Dataset(metadata=Metadata(name=f"fat-{number}", annotations=notes))


def test_large_statuses_wait_for_small_ones_and_are_cut_until_they_fit() -> None:
    async def test(doors: Doors) -> None:
        await doors.buses[0].open()
        for number in range(20):
            doors.board.show(_fat(number))
        doors.board.show(_job("Running"))
        await doors.loop.wait_until_idle()  # no time passes: nothing is tried again
        order = [each.topic for each in doors.received[0]]
        assert order[0] == "status/jobs/one"
        assert sorted(order[1:]) == sorted(f"status/datasets/fat-{number}" for number in range(20))
        body = doors.retained(0)["status/datasets/fat-3"].body
        assert len(body) <= STATUS.max_size
        shown = decode(body).data
        assert shown["metadata"]["name"] == "fat-3"
        assert shown["status"]["shortened"]["metadata.annotations.note-0"] == 20_000
        for _ in range(40):  # now known to be large
            doors.board.show(_fat(3))
        doors.board.show(_job("Succeeded"))
        await asyncio.sleep(10 * SWEEP_EVERY)
        assert [each.topic for each in doors.received[0]][21:] == ["status/jobs/one", "status/datasets/fat-3"]

    _on_doors(test)


def test_large_statuses_come_too_while_small_ones_keep_coming() -> None:
    async def test(doors: Doors) -> None:
        await doors.buses[0].open()
        doors.board.show(_fat(1))
        for number in range(200):
            doors.board.show(_job("Running", f"job-{number}"))
        await asyncio.sleep(10 * SWEEP_EVERY)
        place = [each.topic for each in doors.received[0]].index("status/datasets/fat-1")
        assert 0 < place <= SMALL_BETWEEN + 1

    _on_doors(test)


def test_a_status_of_long_texts_in_every_place_fits_too() -> None:
    async def test(doors: Doors) -> None:
        await doors.buses[0].open()
        texts = {f"{number:03d}" + 1000 * "k": 1000 * "v" for number in range(64)}
        notes = dict.fromkeys(texts, 65000 * "n")
        doors.board.show(Dataset(metadata=Metadata(name="long", labels=texts, annotations=notes)))
        await doors.loop.wait_until_idle()
        body = doors.retained(0)["status/datasets/long"].body
        assert len(body) <= STATUS.max_size
        assert decode(body).data["metadata"]["name"] == "long"

    _on_doors(test)
