"""The best model of a job outlives its rounds, in virtual time: behind a slow evaluation, and through a kill."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from heliograph.bus.contract import weights_file
from heliograph.bus.transport import Bus
from heliograph.simulations.virtual.loop import VirtualLoop, run
from heliograph.simulations.virtual.virtual_cluster import COORDINATOR, EdgeSpec, VirtualCluster
from heliograph.workers.aggregation import blocks
from tests.simulations.virtual.jobs import HELD_OUT, Status, ask, create, ended, until
from tests.simulations.virtual.walk_workload import Walk

ROUNDS = 14


async def _blobs(bus: Bus, expected: set[str]) -> set[str]:
    """Return the digests in the bucket of models, once they are the expected ones, or have had time to be."""
    for _ in range(100):
        found = set(await (await bus.blobs("models")).digests())
        if found == expected:
            break
        await asyncio.sleep(0.1)
    return found


@pytest.mark.parametrize("inline", [100, 256 * 1024])
@pytest.mark.parametrize("end", ["succeeds", "stopped", "coordinator killed"])
def test_it_is_a_version_of_its_own_at_the_end(monkeypatch: pytest.MonkeyPatch, inline: int, end: str) -> None:
    for module in (weights_file, blocks):
        monkeypatch.setattr(module, "INLINE", inline)

    async def main(loop: VirtualLoop) -> tuple[Status, dict[str, Any], set[str]]:
        edges = [EdgeSpec(f"edge-{number}") for number in (1, 2, 3)]
        # an evaluation takes as long as three rounds and a bit: what it says is about a model whose blob would be gone
        cluster = VirtualCluster(loop, edges, Walk(evaluation_seconds=3.5), 1, held_out=HELD_OUT)
        await cluster.start()
        async with cluster.client() as bus:
            await create(bus, "job", evaluated=True, rounds=ROUNDS)
            if end == "coordinator killed":
                await until(bus, "job", lambda status: status.get("best", {}).get("round", 0) > 1)
                cluster.kill(COORDINATOR)
                await asyncio.sleep(20)
                cluster.start_process(COORDINATOR)
            if end == "stopped":
                await until(bus, "job", lambda status: status["round"] >= ROUNDS - 2)
                await ask(bus, "jobs", "stop", {"name": "job"})
            status = await until(bus, "job", ended)
            model = (await ask(bus, "models", "get", {"name": "job"}))["status"]
            kept = {each["weights"]["digest"] for each in (*model["versions"], *model.get("unfinished", ()))}
            there = await _blobs(bus, kept)
        assert cluster.worker_failures == []
        await cluster.stop()
        return status, model, there

    status, model, there = run(main)
    measured = {each["round"]: each["evaluation"]["accuracy"] for each in status["rounds"] if each.get("evaluation")}
    round = max(measured, key=lambda number: (measured[number], -number))
    best = status["best"]
    assert (best["metric"], best["round"], best["value"]) == ("accuracy", round, measured[round])
    assert 1 < len(measured) < status["modelRound"], "the evaluation lags behind"
    assert round < status["modelRound"] - 2, "its blob would be gone"
    versions = model["versions"] if end != "stopped" else model["unfinished"]
    assert [each["round"] for each in versions] == [round, status["modelRound"]]
    assert model["aliases"] == {"best": versions[0]["version"]}
    assert versions[0]["metrics"] == {"accuracy": measured[round]}
    kept = {each["weights"]["digest"] for each in versions}
    assert there >= kept if end == "coordinator killed" else there == kept  # what a kill leaves is garbage later
    assert bool(model["versions"]) == (end != "stopped")
