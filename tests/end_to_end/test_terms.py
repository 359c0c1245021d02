"""Algorithms that add a term to the local training, in jobs of real processes."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract import topics
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.edge_agent.confinement.site_policy import SitePolicy
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

CODE = Path(__file__).parent.parent / "data" / "code"
EDGES = ("edge-1", "edge-2", "edge-3")
OPTIMUM, CURVATURE = np.array([1.0, -2.0, 4.0]), np.array([0.5, 1.0, 2.0])
STEPS, RATE, ROUNDS = 5, 0.1, 4


def _scaffold(rounds: int) -> float:
    """Return what algorithm 1 of the paper comes to, all edges taking part."""
    x, c, own = 0.0, 0.0, np.zeros(3)
    for _ in range(rounds):
        y = np.full(3, x)
        for _ in range(STEPS):
            y = y - RATE * (CURVATURE * (y - OPTIMUM) - own + c)
        after = own - c + (x - y) / (STEPS * RATE)
        x, c, own = x + float(np.mean(y - x)), c + float(np.mean(after - own)), after
    return x


def _job(algorithm: str, script: str, *arguments: str, **spec: Any) -> dict[str, Any]:
    worker = {"trainScriptBootFile": script, "trainScriptArguments": list(arguments)}
    return {
        "kind": "FederatedTask",
        "metadata": {"name": "job"},
        "spec": {
            "aggregationWorker": {"model": {"name": "m"}, "workerSpec": {"aggregationAlgorithm": algorithm, **spec}},
            "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in EDGES],
            "rounds": ROUNDS,
        },
    }


async def _offered(client: AsyncClient, algorithm: str) -> None:
    """Wait until the cloud has reported the algorithm: before, the coordinator cannot check a job's parameters."""
    async with asyncio.timeout(HANGS), client.bus.subscribe(topics.STATUS.filter(resource="algorithms")) as changes:
        while not any(each["metadata"]["name"] == algorithm and "cloud" in each["status"]["edges"]
                      for each in await client.algorithms.list()):  # fmt: skip
            await anext(changes)


async def _ended(client: AsyncClient) -> dict[str, Any]:
    document: dict[str, Any] = {}
    async with asyncio.timeout(HANGS):
        async for document in client.jobs.watch("job"):  # noqa: B007 the last one counts
            pass
    return dict(document["status"])


async def test_scaffold_goes_on_from_its_edges_states_though_workers_are_killed(tmp_path: Path) -> None:
    code, kills = tmp_path / "code", tmp_path / "kills"
    code.mkdir()
    kills.mkdir()
    shutil.copy(CODE / "quadratic.py", code)
    for each in ("edge-1-2", "edge-3-3"):
        (kills / each).touch()
    cluster = LocalCluster(tmp_path / "cluster", list(EDGES), code=(code,), site_policy=SitePolicy(write=(kills,)))
    async with cluster as local, AsyncClient(local.server, timeout=HANGS) as client:
        await client.models.create({"kind": "Model", "metadata": {"name": "m"}})
        await _offered(client, "krum")
        too_few = r"field spec\.trainingWorkers: expected at least 5: Krum needs 2 × byzantine \+ 3 updates"
        with pytest.raises(Refused, match=too_few):
            await client.jobs.create(_job("Krum", "quadratic.py"))
        await client.jobs.create(_job("SCAFFOLD", "quadratic.py", str(kills)))
        status = await _ended(client)
        assert status["phase"] == "Succeeded", status
        assert [each["counted"] for each in status["rounds"]] == [3] * ROUNDS
        assert not list(kills.iterdir())
        with TensorFile(await client.download("m", tmp_path / "model")) as file:
            np.testing.assert_allclose(file.numpy("w"), _scaffold(ROUNDS), rtol=1e-5)


async def test_a_script_whose_steps_nobody_sees_ends_the_job_in_its_first_round(
    tmp_path: Path, regression: Any
) -> None:
    datasets = {edge: {"data": regression(edge)} for edge in EDGES}
    cluster = LocalCluster(tmp_path / "cluster", list(EDGES), datasets=datasets, code=(CODE,))
    async with cluster as local, AsyncClient(local.server, timeout=HANGS) as client:
        await client.models.create({"kind": "Model", "metadata": {"name": "m"}})
        await _offered(client, "fedprox")
        await client.jobs.create(_job("FedProx", "train.py"))
        status = await _ended(client)
    assert (status["phase"], status["round"]) == ("Failed", 1)
    ended = next(each for each in status["conditions"] if each["type"] == "Complete")
    assert "FedProx adds a term to their gradients, got a round without one" in ended["message"]
    assert "r.correct(gradients)" in ended["message"]


async def test_updates_travel_as_their_job_says(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    shutil.copy(CODE / "quadratic.py", code)
    job = _job("FedAvg", "quadratic.py")
    job["spec"]["updateEncoding"] = {"delta": True, "dtype": "int8", "topK": 0.5}
    cluster = LocalCluster(tmp_path / "cluster", list(EDGES), code=(code,))
    async with cluster as local, AsyncClient(local.server, timeout=HANGS) as client:
        await client.models.create({"kind": "Model", "metadata": {"name": "m"}})
        await client.jobs.create(job)
        status = await _ended(client)
        assert status["phase"] == "Succeeded", status
        assert [each["counted"] for each in status["rounds"]] == [3] * ROUNDS
        assert status["countedUpdates"].keys() == set(EDGES)
        with TensorFile(await client.download("m", tmp_path / "model")) as file:
            model = file.numpy("w")
    # all weights are alike on an edge, so that it sends the same two of three each time their error is largest
    assert len(set(np.round(model, 4))) > 1 and (np.abs(model) < np.abs(OPTIMUM).max()).all()
