"""A job that is stopped and started again makes the bits of one that was never stopped, in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract import weights_file
from heliograph.bus.contract.resources import WeightsRef
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.bus.transport import Bus
from heliograph.simulations.virtual.loop import VirtualLoop, run
from heliograph.simulations.virtual.virtual_cluster import COORDINATOR, EdgeSpec, VirtualCluster
from heliograph.workers.aggregation import blocks
from tests.simulations.virtual.jobs import Status, ask, create, ended, until
from tests.simulations.virtual.walk_workload import Walk

ROUNDS = 9


async def _weights(bus: Bus, ref: dict[str, Any], place: Path) -> dict[str, Any]:
    weights = WeightsRef.model_validate(ref)
    file = await (await bus.blobs("models")).fetch(weights, place / weights.digest)
    with TensorFile(file) as opened:
        return {name: array.copy() for name, array in opened.arrays().items()}


def _played(place: Path, algorithm: str, stops: tuple[int, ...], kill: bool = False) -> tuple[Status, dict[str, Any]]:
    """Return status and weights of a job that is stopped in each of those rounds, and started again."""

    async def main(loop: VirtualLoop) -> tuple[Status, dict[str, Any]]:
        cluster = VirtualCluster(loop, [EdgeSpec(f"edge-{number}") for number in range(1, 6)], Walk(), 1)
        await cluster.start()
        async with cluster.client() as bus:
            workers = [{"name": f"edge-{number}", "nodeName": f"edge-{number}"} for number in range(1, 6)]
            workers[0]["workerSpec"] = {"trainScriptBootFile": "simulated.py"}  # type: ignore[assignment]
            await create(bus, "job", algorithm=algorithm, rounds=ROUNDS, trainingWorkers=workers,
                         participants={"count": 3}, best={"metric": "loss", "mode": "min"})  # fmt: skip
            for round in stops:
                await until(bus, "job", lambda status, round=round: status["round"] >= round)  # type: ignore[misc]
                await ask(bus, "jobs", "stop", {"name": "job"})
                stopped = await until(bus, "job", ended)
                if kill:
                    cluster.kill(COORDINATOR)
                    await asyncio.sleep(10)
                    cluster.start_process(COORDINATOR)
                await asyncio.sleep(30)
                await ask(bus, "jobs", "start", {"name": "job"})
                running = await until(bus, "job", lambda status: status["phase"] == "Running")
                assert running["round"] == stopped["modelRound"] + 1
            status = await until(bus, "job", ended)
            model = (await ask(bus, "models", "get", {"name": "job"}))["status"]
            weights = await _weights(bus, model["versions"][-1]["weights"], place)
        assert cluster.worker_failures == []
        await cluster.stop()
        return status, weights

    return run(main)


@pytest.mark.parametrize(
    ("algorithm", "stops", "kill"), [("FedAvg", (4,), False), ("FedAdam", (3, 6), True), ("FedAvgM", (2,), False)]
)
@pytest.mark.parametrize("inline", [100, 256 * 1024])
def test_it_goes_on_from_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, algorithm: str, stops: tuple[int, ...], kill: bool, inline: int
) -> None:
    for module in (weights_file, blocks):
        monkeypatch.setattr(module, "INLINE", inline)
    whole, expected = _played(tmp_path, algorithm, ())
    status, weights = _played(tmp_path, algorithm, stops, kill)
    assert (status["phase"], whole["phase"]) == ("Succeeded", "Succeeded")
    assert [(each["round"], each["edges"], each["metrics"]) for each in status["rounds"]] == [
        (each["round"], each["edges"], each["metrics"]) for each in whole["rounds"]
    ]  # fmt: skip
    assert {name: array.tobytes() for name, array in weights.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }  # fmt: skip
    assert np.isfinite(weights["w"]).all() and weights["w"].any()
    assert (status["best"]["round"], status["best"]["value"]) == (whole["best"]["round"], whole["best"]["value"])
