"""The previous release and this one in one cluster: a coordinator of one, agents and workers of the other, each way.

The previous release is built from its revision in this repository's history and run from its unpacked wheel, with the
packages of this environment. ``make test-mixed`` runs this test; it fails in a shallow clone, which lacks the history.
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
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import COORDINATOR
from tests.patience import HANGS

pytestmark = pytest.mark.mixed

REVISION, RELEASE = "832f9d6", "0.1.0"
"""The last revision of the previous release, and its version."""
ROOT = Path(__file__).parents[2]
CODE = ROOT / "tests" / "data" / "code"
ANSWER = np.array([1.0, -2.0, 0.5], np.float32)
EDGES = ["edge-1", "edge-2"]
ENDED_WITHIN = HANGS
LOG = "log.txt"
Words = Callable[[str], Sequence[str]]


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


def _words(before: Path, old: Callable[[str], bool]) -> Words:
    """Return a function from a node's name or ``coordinator`` to its command; ``old`` selects the previous release."""
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
    async with _cluster(tmp_path, _words(before, old)) as cluster, AsyncClient(cluster.server) as client:
        await _reported(client, {name: RELEASE if old(name) else __version__ for name in (*EDGES, CLOUD)})
        await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        status = await _train(client, "line", 3, tmp_path, what)
        assert status["evaluation"]["error"] < 1e-3
        with TensorFile(await client.download("line", tmp_path / "model.safetensors")) as file:
            np.testing.assert_allclose(file.numpy("w"), ANSWER, atol=0.02)


async def test_a_cluster_is_upgraded_in_place_a_part_at_a_time(tmp_path: Path, before: Path) -> None:
    old = {COORDINATOR, CLOUD, *EDGES}
    async with _cluster(tmp_path, _words(before, old.__contains__)) as cluster, AsyncClient(cluster.server) as client:
        await _reported(client, dict.fromkeys((CLOUD, *EDGES), RELEASE))
        await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        await _train(client, "all-old", 1, tmp_path, "all old")
        await cluster.kill(COORDINATOR)
        old.remove(COORDINATOR)
        await cluster.start_coordinator()
        await cluster.wait_ready()
        await _train(client, "new-coordinator", 1, tmp_path, "a new coordinator over what the old one left")
        for name in (CLOUD, *EDGES):
            await cluster.kill(name)
            old.remove(name)
            await cluster.start_agent(name)
        await _reported(client, dict.fromkeys((CLOUD, *EDGES), __version__))
        await _train(client, "all-new", 1, tmp_path, "new agents over what the old ones left")
        assert [each["status"]["phase"] for each in await client.jobs.list()] == ["Succeeded"] * 3


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
    assert "of version 3, this agent reads up to 1. Install the newer heliograph again." in refused.stderr


def _cluster(directory: Path, program: Words) -> LocalCluster:
    datasets = {edge: {"data": _data(directory, edge, seed)} for seed, edge in enumerate(EDGES)}
    datasets[CLOUD] = {"held-out": _data(directory, CLOUD, 7)}
    return LocalCluster(directory / "cluster", EDGES, datasets=datasets, code=(CODE,), program=program,
                        log=directory / LOG)  # fmt: skip


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
