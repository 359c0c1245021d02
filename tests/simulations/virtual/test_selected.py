"""Rounds whose participants a strategy selects, in virtual time: through a takeover, a restart, and a late edge."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from heliograph.bus.contract import close_record
from heliograph.coordinator.features.federated.participation.memory import load
from heliograph.simulations.virtual.loop import VirtualLoop, run
from heliograph.simulations.virtual.virtual_cluster import COORDINATOR, EdgeSpec, VirtualCluster
from tests.simulations.virtual.jobs import Status, ask, create, ended, until
from tests.simulations.virtual.walk_workload import Walk

ROUNDS = 16
EDGES = [f"edge-{number}" for number in range(1, 7)]


def _played(selection: dict[str, Any], *, kill: bool = False, stop: bool = False, late: str = "") -> Status:
    """Return the status of a job in which three of six edges take part in each round."""

    async def main(loop: VirtualLoop) -> Status:
        cluster = VirtualCluster(loop, [EdgeSpec(name) for name in EDGES], Walk(), 1)
        await cluster.start()
        if late:
            cluster.kill(late)
        async with cluster.client() as bus:
            if late:
                await asyncio.sleep(10)
            await create(bus, "job", rounds=ROUNDS, participants={"count": 3, "selection": selection})
            await until(bus, "job", lambda status: status["round"] >= 6)
            if late:
                cluster.start_process(late)
            if kill:
                cluster.kill(COORDINATOR)
                await asyncio.sleep(10)
                cluster.start_process(COORDINATOR)
            if stop:
                await ask(bus, "jobs", "stop", {"name": "job"})
                await until(bus, "job", ended)
                await ask(bus, "jobs", "start", {"name": "job"})
            status = await until(bus, "job", ended)
            uid = (await ask(bus, "jobs", "get", {"name": "job"}))["metadata"]["uid"]
            rounds = await bus.kv("rounds")
            entry = await rounds.get(close_record.participation_key(uid))
            assert entry is not None
            memory = load(entry.value)
            assert (memory.round, set(memory.edges)) == (ROUNDS, set(EDGES))
            await ask(bus, "jobs", "delete", {"name": "job"})
            for _ in range(100):
                if not [key for key in await rounds.keys() if key.startswith(uid)]:
                    break
                await asyncio.sleep(0.1)
            assert not [key for key in await rounds.keys() if key.startswith(uid)]
        assert cluster.worker_failures == []
        await cluster.stop()
        return status

    return run(main)


def _asked(status: Status) -> list[list[str]]:
    return [each["edges"] for each in status["rounds"]]


@pytest.mark.parametrize("strategy", ["oort", "power-of-choice"])
def test_a_coordinator_that_takes_over_and_a_job_that_goes_on_select_the_same_edges(strategy: str) -> None:
    selection = {"strategy": strategy}
    whole = _played(selection)
    assert whole["phase"] == "Succeeded"
    assert all(len(each) == 3 for each in _asked(whole))
    assert len(_asked(whole)) == ROUNDS and {edge for each in _asked(whole) for edge in each} == set(EDGES)
    assert _asked(_played(selection, kill=True)) == _asked(whole)
    assert _asked(_played(selection, stop=True)) == _asked(whole)


def test_no_edge_waits_longer_than_it_may() -> None:
    asked = _asked(_played({"strategy": "oort", "atLeastEvery": 3}))
    for edge in EDGES:
        rounds = [0, *(number for number, edges in enumerate(asked, 1) if edge in edges), ROUNDS + 1]
        assert max(later - earlier for earlier, later in pairwise(rounds)) <= 3


def test_an_edge_that_comes_late_is_asked_as_one_that_was_never_counted() -> None:
    asked = _asked(_played({"strategy": "power-of-choice", "parameters": [{"key": "candidates", "value": 6}]},
                           late="edge-4"))  # fmt: skip
    first = next(number for number, edges in enumerate(asked, 1) if "edge-4" in edges)
    assert 7 <= first <= 9, "it is there in the next round but one, at the latest"
