"""The previous release and this one: a cluster of one, then of the other over what the first one left.

The previous release is built from its revision in this repository's history and run from its unpacked wheel, with the
packages of this environment. ``make test-mixed`` runs this test; it fails in a shallow clone, which lacks the history.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph import __version__
from heliograph.bus.contract import topics
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.client import AsyncClient
from heliograph.core.names import CLOUD
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

pytestmark = pytest.mark.mixed

REVISION, RELEASE = "832f9d6", "0.1.0"
"""The last revision of the previous release, and its version."""
ROOT = Path(__file__).parents[2]
CODE = ROOT / "tests" / "data" / "code"
ANSWER = np.array([1.0, -2.0, 0.5], np.float32)
EDGES = ["edge-1", "edge-2"]
ENDED_WITHIN = HANGS
STARTER = ROOT / "tests" / "data" / "mixed" / "cluster_of_0_1.py"
CLUSTER, LOG = "cluster", "log.txt"


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the previous release; return its unpacked wheel."""
    work = tmp_path_factory.mktemp("before")
    archive = subprocess.run(["git", "archive", REVISION], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.fail(
            f"revision {REVISION}, from which the previous release is built, is not in this clone's history: "
            f"{archive.stderr.decode().strip()}. Fetch all of it: git fetch --unshallow"
        )
    (work / "source").mkdir()
    subprocess.run(["tar", "-x", "-C", str(work / "source")], input=archive.stdout, check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--no-build-isolation", "--wheel-dir", str(work), str(work / "source")],
        check=True,
    )  # fmt: skip
    (wheel,) = work.glob("heliograph-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(work / "unpacked")
    return work / "unpacked"


async def test_a_cluster_is_upgraded_at_a_standstill(tmp_path: Path, before: Path) -> None:
    """0.1 and 0.2 do not work together: each part of a cluster is stopped, then each is started in the new version."""
    datasets = _datasets(tmp_path)
    async with _previous(before, tmp_path, datasets) as server, AsyncClient(server) as client:
        await _reported(client, dict.fromkeys((CLOUD, *EDGES), RELEASE))
        await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        await _train(client, "before", 1, tmp_path, "all old")
    now = LocalCluster(tmp_path / CLUSTER, EDGES, datasets=datasets, code=(CODE,), log=tmp_path / LOG)
    async with now as cluster, AsyncClient(cluster.server) as client:
        await _reported(client, dict.fromkeys((CLOUD, *EDGES), __version__))
        status = await _train(client, "after", 3, tmp_path, "all new, over what the old ones left")
        assert status["evaluation"]["error"] < 1e-3
        assert {each["metadata"]["name"]: each["status"]["phase"] for each in await client.jobs.list()} == {
            "before": "Succeeded", "after": "Succeeded",
        }  # fmt: skip
        with TensorFile(await client.download("line", tmp_path / "model.safetensors")) as file:
            np.testing.assert_allclose(file.numpy("w"), ANSWER, atol=0.02)


def test_the_previous_release_refuses_an_agents_state_of_this_one(tmp_path: Path, before: Path) -> None:
    state = tmp_path / "state"
    open_journal = (
        "import asyncio, sys; from pathlib import Path; from heliograph.edge_agent.journal import Journal; "
        "from heliograph{}.world import World\n"
        "async def main(): Journal(Path(sys.argv[1]) / 'journal.db', 'edge-1', World()).close()\n"
        "asyncio.run(main())"
    )
    subprocess.run([sys.executable, "-c", open_journal.format(".core"), str(state)], check=True)
    words = ["env", f"PYTHONPATH={before}", sys.executable, "-c", open_journal.format(".bus"), str(state)]
    refused = subprocess.run(words, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "of version 4, this agent reads up to 1. Install the newer heliograph again." in refused.stderr


@asynccontextmanager
async def _previous(before: Path, directory: Path, datasets: Mapping[str, Mapping[str, Path]]) -> AsyncIterator[str]:
    """Run a cluster of the previous release; yield its URL."""
    offered = {node: {name: str(file) for name, file in given.items()} for node, given in datasets.items()}
    words = [sys.executable, str(STARTER), str(directory / CLUSTER), str(CODE), json.dumps(offered)]
    with (directory / LOG).open("w") as log:
        running = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
            env=os.environ | {"PYTHONPATH": str(before)},
        )  # fmt: skip
        assert running.stdin is not None and running.stdout is not None
        try:
            line = await asyncio.wait_for(running.stdout.readline(), HANGS)
            assert line, (directory / LOG).read_text()[-4000:]
            yield line.decode().strip()
        finally:
            running.stdin.close()
            await asyncio.wait_for(running.wait(), HANGS)


def _datasets(directory: Path) -> dict[str, dict[str, Path]]:
    offered = {edge: {"data": _data(directory, edge, seed)} for seed, edge in enumerate(EDGES)}
    return {**offered, CLOUD: {"held-out": _data(directory, CLOUD, 7)}}


async def _train(client: AsyncClient, name: str, rounds: int, directory: Path, what: str) -> dict[str, Any]:
    """Run a job; check that each round counts both edges; return its status."""
    await client.jobs.create(_job(name, rounds))
    status: dict[str, Any] = {}
    async with asyncio.timeout(ENDED_WITHIN):
        async for document in client.jobs.watch(name):
            status = document["status"]
    said = f"{what}: {status}\n{(directory / LOG).read_text()[-4000:]}"
    assert status["phase"] == "Succeeded", said
    assert [each["counted"] for each in status["rounds"]] == [2] * rounds, said
    return status


async def _reported(client: AsyncClient, versions: dict[str, str]) -> None:
    """Wait until the agents have reported these versions."""
    async with asyncio.timeout(HANGS), client.bus.subscribe(topics.STATUS.filter(resource="edges")) as changes:
        while True:
            edges = await client.edges.list()
            if {each["metadata"]["name"]: each["status"].get("version") for each in edges} == versions:
                return
            await anext(changes)


def _data(directory: Path, name: str, seed: int) -> Path:
    x = np.random.default_rng(seed).normal(size=(50, 3)).astype(np.float32)
    path = directory / f"{name}.npz"
    np.savez(path, x=x, y=x @ ANSWER)
    return path


def _job(name: str, rounds: int) -> dict[str, Any]:
    worker = {"dataset": {"name": "data"}, "trainScriptBootFile": "train.py"}
    return {
        "apiVersion": "edgeai.io/v1alpha1",
        "kind": "FederatedTask",
        "metadata": {"name": name},
        "spec": {
            "aggregationWorker": {"model": {"name": "line"}},
            "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in EDGES],
            "evaluationWorker": {"dataset": {"name": "held-out"}},
            "rounds": rounds,
        },
    }
