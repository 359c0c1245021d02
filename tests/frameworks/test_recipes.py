"""The recipes of ``examples/`` in a job: each edge counts in each round, and the model comes out as the recipe says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from heliograph.bus.contract.weights_file import TensorFile
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

EXAMPLES = Path(__file__).parents[2] / "examples"
EDGES = ("edge-1", "edge-2")
_BOTH = {"key": "min_node_number", "value": 2}
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Meeting:
    """A cluster with digits on two edges, and others to measure on in the cloud."""

    client: AsyncClient
    files: dict[str, Path]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def meeting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Meeting]:
    from sklearn.datasets import load_digits

    directory = tmp_path_factory.mktemp("recipes")
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int64)
    files = {}
    for node, part in (("edge-1", slice(0, 200)), ("edge-2", slice(200, 500)), ("cloud", slice(1400, None))):
        files[node] = directory / f"{node}.npz"
        np.savez(files[node], x=x[part], y=y[part])
    datasets = {node: {"held-out" if node == "cloud" else "digits": path} for node, path in files.items()}
    cluster = LocalCluster(directory / "cluster", EDGES, datasets=datasets, code=(EXAMPLES,))
    async with cluster, AsyncClient(cluster.server, timeout=HANGS) as client:
        yield Meeting(client, files)


@pytest.mark.parametrize(("script", "needs", "holds", "lacks"), [
    ("numpy_digits.py", "numpy", "w1", "rng"),
    ("sklearn_digits.py", "sklearn", "coefs_/0", "loss_"),
    ("torch_digits.py", "torch", "0.running_mean", "optimizer"),
    ("keras_digits.py", "keras", "sequential/batch_normalization/moving_mean", "SGD"),
    ("jax_digits.py", "jax", "params/hidden/kernel", "key"),
    ("sklearn_pipeline.py", "sklearn", "standardscaler/mean_", "standardscaler/var_"),
    ("project/train.py", "numpy", "second", "biases"),
    ("keras_callbacks.py", "keras", "sequential/dense/kernel", "learning_rate"),
    ("lightning_digits.py", "pytorch_lightning", "layers.0.weight", "trainer"),
    ("lora_digits.py", "peft", "base_model.model.classifier.weight", "base_model.model.bert.embeddings"),
    ("xgboost_leaves.py", "xgboost", "coef_", "trees"),
])  # fmt: skip
async def test_a_recipe_in_a_job(
    script: str, needs: str, holds: str, lacks: str, meeting: Meeting, framework: Callable[[str], ModuleType],
    tmp_path: Path,
) -> None:  # fmt: skip
    framework(needs)
    name = Path(script).with_suffix("").as_posix().replace("/", "-").replace("_", "-")
    worker = {"dataset": {"name": "digits"}, "trainScriptBootFile": script}
    spec = {
        # an edge that falls silent for a while, on a machine that loads two frameworks at once, is waited for
        "aggregationWorker": {"model": {"name": name}, "workerSpec": {"parameters": [_BOTH]}},
        "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in EDGES],
        "evaluationWorker": {"dataset": {"name": "held-out"}},
        "rounds": 2,
    }
    await meeting.client.models.create({"kind": "Model", "metadata": {"name": name}})
    await meeting.client.jobs.create({"kind": "FederatedTask", "metadata": {"name": name}, "spec": spec})
    document: dict[str, Any] = {}
    async with asyncio.timeout(HANGS):
        async for document in meeting.client.jobs.watch(name):  # noqa: B007 the last one counts
            pass
    status = document["status"]
    assert status["phase"] == "Succeeded", status
    assert [each["counted"] for each in status["rounds"]] == [2, 2], status
    assert "accuracy" in status["evaluation"]
    with TensorFile(await meeting.client.download(name, tmp_path / "model.safetensors")) as file:
        found = {key: array.copy() for key, array in file.arrays().items()}
    assert holds in found
    assert not [key for key in found if key.startswith(lacks)]
    if script == "sklearn_pipeline.py":  # the scaler of the whole, though the edges' rows differ
        rows = [np.load(meeting.files[edge])["x"].astype(np.float64) for edge in EDGES]
        np.testing.assert_allclose(found[holds], np.concatenate(rows).mean(0), atol=1e-9)
