"""What closed rounds have told of each edge: folded, stored, and the same for each coordinator."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.connect import connect
from heliograph.bus.contract import close_record
from heliograph.bus.contract.payloads import Aggregation, EdgeMeasure
from heliograph.bus.contract.resources import FederatedTask
from heliograph.coordinator.features.federated.participation.memory import (
    NOTHING,
    EdgeMemory,
    Memory,
    after,
    dump,
    load,
)
from heliograph.coordinator.features.federated.participation_memory import ParticipationMemory
from heliograph.core.errors import Refused
from heliograph.core.world import World
from tests.coordinator.features.federated.test_state_machine import _running

OORT = {"count": 2, "selection": {"strategy": "oort"}}
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
EDGES = st.sampled_from(["edge-1", "edge-2", "edge-3"])
MEASURES = st.dictionaries(
    EDGES, st.just(EdgeMeasure()) | st.builds(EdgeMeasure, num_samples=st.integers(0, 99), loss=NUMBERS,
                                              received_loss=NUMBERS, seconds=NUMBERS))  # fmt: skip


def _closed(round: int, measured: dict[str, EdgeMeasure], uid: str = "uid") -> Aggregation:
    return Aggregation(job="j", job_uid=uid, round=round, counted={}, reason="complete", measured=measured)


@given(st.lists(MEASURES, max_size=6))
def test_it_has_the_newest_that_was_told_of_each_edge_and_outlives_its_bytes(
    rounds: list[dict[str, EdgeMeasure]],
) -> None:
    memory = NOTHING
    for round, measured in enumerate(rounds, 1):
        closed = _closed(round, measured)
        memory = after(memory, closed)
        assert after(memory, closed) is memory
    for edge in ("edge-1", "edge-2", "edge-3"):
        asked = [round for round, measured in enumerate(rounds, 1) if edge in measured]
        counted = [round for round in asked if rounds[round - 1][edge].num_samples is not None]
        found = memory.of(edge)
        assert (found.asked, found.counted) == (max(asked, default=0), max(counted, default=0))
        if counted:
            told = rounds[counted[-1] - 1][edge]
            assert found[2:] == (told.num_samples, told.loss, told.received_loss, told.seconds)
    assert load(dump(memory)) == memory


@pytest.mark.parametrize("value", [b"", b"x", zlib.compress(b"[1]"), zlib.compress(b'[1,{"a":[1,2]}]x'),
                                   zlib.compress(b'[1,{"a":["b",0,0,null,null,null]}]'),
                                   zlib.compress(b" " * (40 << 20))])  # fmt: skip
def test_what_is_no_memory_is_refused(value: bytes) -> None:
    with pytest.raises(Refused):
        load(value)


def test_the_memory_of_ten_thousand_edges_is_small() -> None:
    edges = {f"edge-{number:05}": EdgeMemory(number % 100, number % 97, number, number / 7, None, number / 3)
             for number in range(10_000)}  # fmt: skip
    assert len(dump(Memory(100, edges))) < 400_000


@pytest.fixture
async def rounds() -> Any:
    world = World()
    async with connect(f"memory://memories-{world.new_id()}", world=world) as bus:
        yield await bus.kv("rounds")


def _task(**spec: Any) -> FederatedTask:
    return _running(rounds=9, participants=OORT, **spec)


async def test_another_coordinator_reads_what_one_has_taken(rounds: Any) -> None:
    task, measured = _task(), {"edge-1": EdgeMeasure(num_samples=5, loss=1.0)}
    first, second = ParticipationMemory(rounds, print), ParticipationMemory(rounds, print)
    for each in (first, second, first):  # both take the same record: the second one after a crash
        await each.take(task, _closed(1, measured))
        assert each.known(task).of("edge-1") == EdgeMemory(1, 1, 5, 1.0)
    third = ParticipationMemory(rounds, print)
    assert third.known(task) is NOTHING
    await third.read(task)
    assert third.known(task) == first.known(task)


async def test_only_the_present_round_of_a_task_whose_strategy_compares_edges_is_taken(rounds: Any) -> None:
    memory, measured = ParticipationMemory(rounds, print), {"edge-1": EdgeMeasure(num_samples=5)}
    for task, closed in ((_task(), _closed(2, measured)), (_task(), _closed(1, measured, "other")),
                         (_running(participants={"count": 2}), _closed(1, measured)),
                         (_running(participants={"count": 2, "selection": {"strategy": "random"}}),
                          _closed(1, measured))):  # fmt: skip
        await memory.take(task, closed)
        await memory.read(task)
        assert memory.known(task) == NOTHING
    assert await rounds.keys() == []
    floor = _running(participants={"count": 2, "selection": {"atLeastEvery": 3}})
    await memory.take(floor, _closed(1, measured))
    assert await rounds.keys() == [close_record.participation_key("uid")]


async def test_a_run_that_goes_on_has_it_and_a_damaged_one_begins_anew(rounds: Any) -> None:
    said: list[str] = []
    memory, task = ParticipationMemory(rounds, said.append), _task()
    await memory.carry(task, "nothing")
    await memory.take(task, _closed(1, {"edge-1": EdgeMeasure(num_samples=5)}))
    await memory.carry(task, "again")
    again = task.model_copy(update={"metadata": task.metadata.model_copy(update={"uid": "again"})})
    await memory.read(again)
    assert memory.known(again) == memory.known(task)
    memory.forget("uid")
    assert memory.known(task) is NOTHING
    assert sorted(await rounds.keys()) == ["again.participation", "uid.participation"]
    await rounds.put("uid.participation", b"damaged")
    await memory.take(task, _closed(1, {"edge-2": EdgeMeasure()}))
    assert memory.known(task) == Memory(1, {"edge-2": EdgeMemory(1)})
    assert said == ["uid.participation: field participation: expected what rounds have told of edges, got error; it "
                    "begins anew"]  # fmt: skip
