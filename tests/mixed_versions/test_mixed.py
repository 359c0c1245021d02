"""The release before and this one in one cluster: a coordinator of one, agents and workers of the other, each way.

The release before is built from its revision in this repository's history and run from its unpacked wheel, with the
packages that this environment has. ``make test-mixed`` runs this; a shallow clone has no such history, and fails.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph import __version__
from heliograph.bus.contract import topics
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.client import AsyncClient
from heliograph.core.names import CLOUD
from heliograph.local.cluster import COORDINATOR, LocalCluster

pytestmark = pytest.mark.mixed

REVISION = "832f9d6"
"""The last one of the release before, 0.1."""
ROOT = Path(__file__).parents[2]
CODE = ROOT / "tests" / "data" / "code"
ANSWER = np.array([1.0, -2.0, 0.5], np.float32)
EDGES = ["edge-1", "edge-2"]
ENDED_WITHIN = 90
Words = Callable[[str], Sequence[str]]


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel of the release before."""
    work = tmp_path_factory.mktemp("before")
    archive = subprocess.run(["git", "archive", REVISION], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.fail(
            f"revision {REVISION}, from which the release before is built, is not in this clone's history: "
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


def _words(before: Path, old: Callable[[str], bool]) -> Words:
    """For a node's name or ``coordinator`` the command there: the release before where ``old`` says so."""
    own = (sys.executable, "-m", "heliograph.cli.main")
    return lambda name: ("env", f"PYTHONPATH={before}", *own) if old(name) else own


@pytest.mark.parametrize(
    ("what", "old"),
    [
        ("a new coordinator, old agents", lambda name: name != COORDINATOR),
        ("an old coordinator, new agents", lambda name: name == COORDINATOR),
        ("an old edge beside new ones", lambda name: name == "edge-1"),
    ],
    ids=["agents-are-old", "coordinator-is-old", "one-edge-is-old"],
)
async def test_a_job_succeeds(tmp_path: Path, before: Path, what: str, old: Callable[[str], bool]) -> None:
    datasets = {edge: {"data": _data(tmp_path, edge, seed)} for seed, edge in enumerate(EDGES)}
    datasets[CLOUD] = {"held-out": _data(tmp_path, CLOUD, 7)}
    cluster = LocalCluster(
        tmp_path / "cluster", EDGES, datasets=datasets, code=(CODE,), program=_words(before, old),
        log=tmp_path / "log.txt",
    )  # fmt: skip
    async with cluster, AsyncClient(cluster.server) as client:
        versions = {each["metadata"]["name"]: each["status"]["version"] for each in await _all_edges(client)}
        assert versions == {name: "0.1.0" if old(name) else __version__ for name in (*EDGES, CLOUD)}
        await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        await client.jobs.create(_job())
        status: dict[str, Any] = {}
        async with asyncio.timeout(ENDED_WITHIN):
            async for document in client.jobs.watch("line"):
                status = document["status"]
        said = f"{what}: {status}\n{(tmp_path / 'log.txt').read_text()[-4000:]}"
        assert status["phase"] == "Succeeded", said
        assert [each["counted"] for each in status["rounds"]] == [2, 2, 2], said
        assert status["evaluation"]["error"] < 1e-3, said
        with TensorFile(await client.download("line", tmp_path / "model.safetensors")) as file:
            np.testing.assert_allclose(file.numpy("w"), ANSWER, atol=0.02)


async def _all_edges(client: AsyncClient) -> list[dict[str, Any]]:
    """The edges, once each has reported its version."""
    async with asyncio.timeout(30), client.bus.subscribe(topics.STATUS.filter(resource="edges")) as changes:
        while True:
            found = await client.edges.list()
            if len(found) == len(EDGES) + 1 and all(each["status"].get("version") for each in found):
                return found
            await anext(changes)


def _data(directory: Path, name: str, seed: int) -> Path:
    x = np.random.default_rng(seed).normal(size=(50, 3)).astype(np.float32)
    path = directory / f"{name}.npz"
    np.savez(path, x=x, y=x @ ANSWER)
    return path


def _job() -> dict[str, Any]:
    worker = {"dataset": {"name": "data"}, "trainScriptBootFile": "train.py"}
    return {
        "apiVersion": "edgeai.io/v1alpha1",
        "kind": "FederatedTask",
        "metadata": {"name": "line"},
        "spec": {
            "aggregationWorker": {"model": {"name": "line"}},
            "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in EDGES],
            "evaluationWorker": {"dataset": {"name": "held-out"}},
            "rounds": 3,
        },
    }
