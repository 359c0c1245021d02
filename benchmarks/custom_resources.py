"""The operator: the time until a burst of custom resources is reconciled, and the memory of a coordinator with one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.declaration import Samples
from benchmarks.processes import resident_alone
from heliograph.bus.contract.resources import FederatedTask
from heliograph.bus.contract.resources.base import API_VERSION
from heliograph.coordinator.kubernetes.api import Api, Object
from heliograph.coordinator.kubernetes.client import KubernetesClient
from heliograph.coordinator.kubernetes.documents import custom_kind
from heliograph.core.orphans import members
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_commands import heliograph

BURST = 500
AT_ONCE = 20
"""Custom resources that are created at the same time: an API server's clients are many."""
_JOB = custom_kind(FederatedTask)
_ROOT = Path(__file__).parent.parent


def run() -> Samples:
    """Return ``burst``, seconds from the first of 500 jobs that are created until each is accepted and shows its
    status, ``delete``, seconds until they are gone, and ``idle``, megabytes of the coordinator before."""
    with tempfile.TemporaryDirectory(prefix="heliograph-operator-") as name:
        words = [sys.executable, "-m", "tests.kubernetes.api_server", name]
        server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
        try:
            assert server.stdout is not None
            os.environ["KUBECONFIG"] = server.stdout.readline().strip()
            return asyncio.run(_run(Path(name)))
        finally:
            server.kill()
            server.wait()


async def _run(directory: Path) -> Samples:
    async with LocalCluster(directory / "cluster", [], program=_with_operator):
        api = await KubernetesClient.connect(World())
        try:
            return await _measured(api)
        finally:
            await api.close()


async def _measured(api: Api) -> Samples:
    (coordinator,) = members("HELIOGRAPH_KUBERNETES=1")
    await asyncio.sleep(5)  # idle: what its start took is over
    idle = resident_alone(coordinator) / 1e6
    _, version = await api.list(_JOB)
    room = asyncio.Semaphore(AT_ONCE)
    began = time.perf_counter()

    async def create(number: int) -> None:
        async with room:
            await api.create(_JOB, "default", _job(f"job-{number}"))

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_until_told(api, version))
        for number in range(BURST):
            group.create_task(create(number))
        await waiting
        burst = time.perf_counter() - began
    _, version = await api.list(_JOB)
    began = time.perf_counter()

    async def delete(number: int) -> None:
        async with room:
            await api.delete(_JOB, "default", f"job-{number}")

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_until_gone(api, version))
        for number in range(BURST):
            group.create_task(delete(number))
        await waiting
        gone = time.perf_counter() - began
    return {"idle": [idle], "burst": [burst], "delete": [gone]}


async def _until_told(api: Api, version: str) -> None:
    told: set[str] = set()
    async for change in api.watch(_JOB, version):
        status = change.object.get("status", {})
        conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
        if conditions.get("Accepted") == "True" and status.get("phase"):
            told.add(change.object["metadata"]["name"])
            if len(told) == BURST:
                return


async def _until_gone(api: Api, version: str) -> None:
    left = BURST
    async for change in api.watch(_JOB, version):
        left -= change.type == "DELETED"
        if not left:
            return


def _with_operator(name: str) -> Sequence[str]:
    return ["env", "HELIOGRAPH_KUBERNETES=1", *heliograph(name)] if name == "coordinator" else heliograph(name)


def _job(name: str) -> Object:
    worker = {"name": "w", "nodeName": "nobody", "workerSpec": {"trainScriptBootFile": "train.py"}}
    return {
        "apiVersion": API_VERSION, "kind": "FederatedTask", "metadata": {"name": name},
        "spec": {"aggregationWorker": {"model": {"name": "line"}}, "trainingWorkers": [worker]},
    }  # fmt: skip
