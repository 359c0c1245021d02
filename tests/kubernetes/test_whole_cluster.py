"""A cluster of processes with an operator, used with kubectl alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from heliograph.client import AsyncClient
from heliograph.coordinator.kubernetes.api import Api
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_commands import heliograph
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.running_operator import EDGE, JOB, Running, custom

DATA = Path(__file__).parent.parent / "data"
ANSWER = np.array([1.0, -2.0, 0.5], np.float32)


def with_operator(name: str) -> Sequence[str]:
    """Return how a component is started: the coordinator with an operator."""
    return ["env", "HELIOGRAPH_KUBERNETES=1", *heliograph(name)] if name == "coordinator" else heliograph(name)


@asynccontextmanager
async def cluster_on(api: Api, tmp_path: Path) -> AsyncIterator[Running]:
    datasets = {}
    for number, edge in enumerate(("edge-1", "edge-2")):
        x = np.random.default_rng(number).normal(size=(50, 3)).astype(np.float32)
        np.savez(tmp_path / f"{edge}.npz", x=x, y=x @ ANSWER)
        datasets[edge] = {"data": tmp_path / f"{edge}.npz"}
    code = (DATA / "code",)
    cluster = LocalCluster(tmp_path / "cluster", [*datasets], datasets=datasets, code=code, program=with_operator)
    async with cluster, AsyncClient(cluster.server) as client:
        yield Running(api, client, "")


def federated(rounds: int) -> dict[str, Any]:
    worker = {"dataset": {"name": "data"}, "trainScriptBootFile": "train.py"}
    workers = [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in ("edge-1", "edge-2")]
    spec = {"aggregationWorker": {"model": {"name": "line"}}, "trainingWorkers": workers, "rounds": rounds}
    return custom("line", "FederatedTask", spec)


async def test_a_job_is_applied_followed_and_deleted_with_kubectl_alone(
    kubernetes: Api, kubectl: Kubectl, tmp_path: Path
) -> None:
    async with cluster_on(kubernetes, tmp_path) as running:
        both = yaml.safe_dump_all([custom("line", "Model", {}), federated(3)])
        applied = await kubectl("apply", "-f", "-", given=both)
        assert "federatedtask.edgeai.io/line created" in applied
        await running.until(JOB, "line", lambda each: each.get("status", {}).get("phase") == "Succeeded")
        found = json.loads(await kubectl("get", "fedtask", "line", "-o", "json"))
        assert [each["counted"] for each in found["status"]["rounds"]] == [2, 2, 2]
        by_topics = await running.client.jobs.get("line")
        assert by_topics["status"]["rounds"] == found["status"]["rounds"]
        assert by_topics["status"]["phase"] == "Succeeded"
        await running.until(EDGE, "edge-2", lambda each: each.get("status", {}).get("online") is True)
        assert "edge-1" in await kubectl("get", "hgedge", "-o", "name")
        await kubectl("delete", "fedtask", "line")
        assert await running.client.jobs.list() == []


async def test_a_job_that_runs_is_deleted_with_its_workers(kubernetes: Api, kubectl: Kubectl, tmp_path: Path) -> None:
    async with cluster_on(kubernetes, tmp_path) as running:
        both = yaml.safe_dump_all([custom("line", "Model", {}), federated(100_000)])
        await kubectl("apply", "-f", "-", given=both)
        await running.until(JOB, "line", lambda each: each.get("status", {}).get("round", 0) > 2)
        busy = await running.until(EDGE, "edge-1", lambda each: each.get("status", {}).get("workers") != [])
        assert busy["status"]["workers"]
        await kubectl("delete", "fedtask", "line")  # it waits until the finalizer has gone
        assert await running.client.jobs.list() == []
        for edge in ("edge-1", "edge-2", "cloud"):
            await running.until(EDGE, edge, lambda each: each["status"].get("workers", []) == [])
