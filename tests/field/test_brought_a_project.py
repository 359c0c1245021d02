"""A project of several files, as people have it, in a job: what ``python src/train.py`` finds, its script finds."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from heliograph.client import AsyncClient
from heliograph.edge_agent.confinement.site_policy import SitePolicy
from heliograph.local.cluster import LocalCluster
from tests.field.conftest import FIELD
from tests.patience import HANGS

TRAIN = """
import argparse, json, os, sys
from pathlib import Path
import numpy as np
import helpers.loss, module_of_the_path
from heliograph import FederatedLearning, parameters

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
fl = FederatedLearning({"w": np.zeros(3, np.float32)}, num_samples=4)
seen = {
    "lr": parser.parse_args().lr, "argv": sys.argv[1:], "file": __file__, "first": sys.path[0],
    "config": open("config/model.txt").read(), "helper": helpers.loss.NAME, "path": module_of_the_path.__file__,
    "environment": os.environ["OF_THE_USER"], "edge": fl.edge, "before": fl.round, "parameters": parameters(),
}
os.makedirs("checkpoints", exist_ok=True)
epochs = []
for epoch in fl.rounds(10):
    epochs.append([epoch, fl.round])
    np.save(f"checkpoints/{epoch:03d}.npy", np.zeros(epoch + 1))
Path("seen.json").write_text(json.dumps(seen | {"epochs": epochs}))
print("saved to", os.path.abspath("seen.json"))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project's directory: the script in ``src``, its configuration beside that, and people's scripts."""
    root = tmp_path_factory.mktemp("brought").resolve() / "project"
    for name, text in {
        "src/train.py": TRAIN, "src/helpers/__init__.py": "", "src/helpers/loss.py": "NAME = 'loss'",
        "config/model.txt": "small", "extras/module_of_the_path.py": "", ".git/HEAD": "",
    }.items():  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    shutil.copytree(FIELD / "scripts", root / "brought")
    return root


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(root: Path, digits: Path) -> AsyncIterator[LocalCluster]:
    """Start a cluster of one edge from the project's directory, as its user does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("OF_THE_USER", "here")
        patch.setenv("HUNT_MP", "fork")
        patch.setenv("DIGITS", str(digits))
        patch.setenv("PYTHONPATH", os.pathsep.join(["extras", os.environ.get("PYTHONPATH", "")]))
        place = root.parent
        async with LocalCluster(place / "cluster", ["edge-1"], code=(root,), outputs=place / "outputs",
                                site_policy=SitePolicy(read=(digits,))) as started:  # fmt: skip
            yield started


async def _ended(cluster: LocalCluster, name: str, worker: dict[str, Any]) -> dict[str, Any]:
    """Run a job of three rounds to its end, and wait for the end of its worker; return its status."""
    async with asyncio.timeout(HANGS), AsyncClient(cluster.server, timeout=HANGS) as client:
        await client.models.create({"kind": "Model", "metadata": {"name": name}})
        training = [{"name": "w", "nodeName": "edge-1", "workerSpec": worker}]
        await client.jobs.create({
            "kind": "FederatedTask", "metadata": {"name": name},
            "spec": {"aggregationWorker": {"model": {"name": name}}, "trainingWorkers": training, "rounds": 3},
        })  # fmt: skip
        status = {}
        async for document in client.jobs.watch(name):
            status = document["status"]
        async for edge in client.edges.watch("edge-1"):
            if not any(name in worker for worker in edge["status"]["workers"]):
                break
    return status


@pytest.mark.asyncio(loop_scope="module")
async def test_row_1_brought_a_project_with_packages_files_arguments_and_environment(
    cluster: LocalCluster, root: Path
) -> None:
    worker = {"trainScriptBootFile": "src/train.py", "trainScriptArguments": ["--lr", "0.1"],
              "trainScriptWorkingDir": ".", "parameters": [{"key": "depth", "value": 3}]}  # fmt: skip
    status = await _ended(cluster, "project", worker)
    assert status["phase"] == "Succeeded"
    outputs = root.parent / "outputs" / "edge-1" / "project"
    place = outputs / "project-w"
    seen = json.loads((place / "seen.json").read_text())
    assert seen == {
        "lr": 0.1, "argv": ["--lr", "0.1"], "file": str(root / "src" / "train.py"), "first": str(root / "src"),
        "config": "small", "helper": "loss", "path": str(root / "extras" / "module_of_the_path.py"),
        "environment": "here", "edge": "edge-1", "before": 0, "parameters": seen["parameters"],
        "epochs": [[0, 1], [1, 2], [2, 3]],
    }  # fmt: skip
    assert seen["parameters"]["depth"] == 3
    written = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    assert written == {"seen.json", "checkpoints/000.npy", "checkpoints/001.npy", "checkpoints/002.npy"}
    assert (outputs / "project-w.log").read_text() == f"saved to {place / 'seen.json'}\n"
    assert not (root / "seen.json").exists()


@pytest.mark.asyncio(loop_scope="module")
async def test_row_2_trained_in_a_forked_child(cluster: LocalCluster) -> None:
    status = await _ended(cluster, "forked", {"trainScriptBootFile": "brought/child.py"})
    assert status["phase"] == "Failed"
    [complete] = [each for each in status["conditions"] if each["type"] == "Complete"]
    assert "a child process of it called rounds(): loop in the script itself" in complete["message"]
