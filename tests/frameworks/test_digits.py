"""The same task in each framework: its example, trained over real edges to the required accuracy.

``make quality`` runs those with an installed framework.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.weights_file import TensorFile
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

EXAMPLES = Path(__file__).parents[2] / "examples"
WEIGHTS = {
    "numpy": ("w1", (64, 256)),
    "sklearn": ("coefs_/0", (64, 64)),
    "torch": ("1.weight", (64, 64)),
    "keras": ("sequential/dense/kernel", (64, 64)),
    "jax": ("params/hidden/kernel", (64, 64)),
}
"""Name and shape of the first layer's weights in each script's model."""


@pytest.fixture
def digits(tmp_path: Path) -> dict[str, dict[str, Path]]:
    """Return scikit-learn's digits in three parts: one for each edge, and one for the cloud's evaluation."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int64)
    parts = {"edge-1": ("digits", slice(0, 500)), "edge-2": ("digits", slice(500, 1400)),
             "cloud": ("held-out", slice(1400, None))}  # fmt: skip
    datasets = {}
    for node, (name, part) in parts.items():
        path = tmp_path / f"{node}.npz"
        np.savez(path, x=x[part], y=y[part])
        datasets[node] = {name: path}
    return datasets


def task(name: str, script: str, rounds: int) -> dict[str, Any]:
    worker = {"dataset": {"name": "digits"}, "trainScriptBootFile": script}
    spec = {
        "aggregationWorker": {"model": {"name": "digits"}},
        "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in ("edge-1", "edge-2")],
        "evaluationWorker": {"dataset": {"name": "held-out"}},
        "rounds": rounds,
    }
    return {"kind": "FederatedTask", "metadata": {"name": name}, "spec": spec}


async def ended(client: AsyncClient, name: str) -> dict[str, Any]:
    document: dict[str, Any] = {}
    async with asyncio.timeout(HANGS):  # three processes import a framework at once
        async for document in client.jobs.watch(name):  # noqa: B007 the last one counts
            pass
    return document["status"]


@pytest.mark.quality
@pytest.mark.parametrize("name", WEIGHTS)
async def test_an_example_learns_over_two_edges_and_goes_on_from_its_model(
    name: str, framework: Callable[[str], ModuleType], digits: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    framework(name)
    cluster = LocalCluster(tmp_path / "cluster", ["edge-1", "edge-2"], datasets=digits, code=(EXAMPLES,))
    async with cluster, AsyncClient(cluster.server, timeout=HANGS) as client:
        await client.models.create({"kind": "Model", "metadata": {"name": "digits"}})
        accuracy = []
        for job, rounds in (("first", 1), ("second", 3)):  # the second job starts from the first one's model
            await client.jobs.create(task(job, f"{name}_digits.py", rounds))
            status = await ended(client, job)
            assert status["phase"] == "Succeeded", status
            assert [each["counted"] for each in status["rounds"]] == [2] * rounds
            assert [each["numSamples"] for each in status["rounds"]] == [1400] * rounds
            accuracy.append(status["evaluation"]["accuracy"])
        assert 0.2 < accuracy[0] < accuracy[1], accuracy
        assert accuracy[1] > 0.8, accuracy
        path = await client.download("digits", tmp_path / "model.safetensors")
        with TensorFile(path) as file:
            weights, shape = WEIGHTS[name]
            assert file.numpy(weights).shape == shape
            assert all(np.isfinite(array).all() for array in file.arrays().values())
