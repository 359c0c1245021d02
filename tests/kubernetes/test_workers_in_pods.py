"""A federated job whose worker on one edge is a pod: the operator makes its Job, and a small kubelet runs it."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract import topics
from heliograph.client import AsyncClient
from heliograph.coordinator.kubernetes.api import NAMESPACES, Api
from heliograph.coordinator.kubernetes.worker_job import HOSTNAME
from heliograph.core.errors import Refused
from heliograph.core.pod_channel import SOCKET
from heliograph.core.tasks import cancel_and_wait
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_commands import heliograph
from tests.edge_agent import learning_node
from tests.edge_agent.learning_node import EDGE
from tests.kubernetes.kubelet import Kubelet, Pod
from tests.patience import HANGS

CODE = Path(__file__).parent.parent / "data" / "code"
NAMESPACE = "workers"
IMAGE = "registry.example.com/team/trainer:1"
ANSWER = np.array([1.0, -2.0, 0.5], np.float32)


@dataclass
class Site:
    """A cluster with an operator; the node of ``edge-1`` runs pods."""

    cluster: LocalCluster
    client: AsyncClient
    kubelet: Kubelet
    pods: Path

    async def pod(self) -> Pod:
        """Return the only pod, once its container runs."""
        async with asyncio.timeout(HANGS):
            while not self.kubelet.pods:
                self.kubelet.changed.clear()
                await self.kubelet.changed.wait()
            [pod] = self.kubelet.pods.values()
            await pod.started.wait()
        return pod

    async def no_pod(self) -> None:
        async with asyncio.timeout(HANGS):
            while self.kubelet.pods:
                self.kubelet.changed.clear()
                await self.kubelet.changed.wait()

    async def until(self, plural: str, name: str, holds: Callable[[Any], bool]) -> Any:
        """Return a resource once its status is so."""
        topic = topics.STATUS.filter(resource=plural)
        async with asyncio.timeout(HANGS), self.client.bus.subscribe(topic) as changes:
            while True:
                try:
                    found = await self.client.resources(plural).get(name)
                except Refused:
                    found = {"status": {}}
                if holds(found["status"]):
                    return found["status"]
                await anext(changes)


@asynccontextmanager
async def site_on(
    api: Api, directory: Path, *, images: Sequence[str] = (IMAGE,), code: Path = CODE, relayed: Sequence[str] = ()
) -> AsyncIterator[Site]:
    await api.create(NAMESPACES, "", {"metadata": {"name": NAMESPACE}})
    datasets = {}
    for number, edge in enumerate(("edge-1", "edge-2")):
        x = np.random.default_rng(number).normal(size=(50, 3)).astype(np.float32)
        np.savez(directory / f"{edge}.npz", x=x, y=x @ ANSWER)
        datasets[edge] = {"data": directory / f"{edge}.npz"}
    root, pods, settings = directory / "cluster", directory / "pods", directory / "pods.toml"
    values = {"namespace": NAMESPACE, "pods": str(pods), "state": str(root / "edge-1" / "state"), "code": str(code),
              "data": str(directory), "images": [*images]}  # fmt: skip
    settings.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))

    def program(name: str) -> Sequence[str]:
        if name == "coordinator":
            return ["env", "HELIOGRAPH_KUBERNETES=1", f"HELIOGRAPH_WORKER_PODS={settings}", *heliograph(name)]
        if name == "edge-1":
            options = shlex.join(["--pods", str(pods), "--label", f"{HOSTNAME}=node-1"])
            return ["sh", "-c", f'exec "$@" {options}', "sh", *heliograph(name)]
        return heliograph(name)

    cluster = LocalCluster(root, [*datasets], datasets=datasets, code=(code,), program=program, relayed=relayed)
    async with Kubelet() as kubelet, cluster, AsyncClient(cluster.server, timeout=HANGS) as client:
        following = asyncio.create_task(kubelet.follow(api, NAMESPACE))
        try:
            yield Site(cluster, client, kubelet, pods)
        finally:
            await cancel_and_wait(following)


def _job(rounds: int, edges: Sequence[str] = ("edge-1", "edge-2"), **in_pod: Any) -> dict[str, Any]:
    """Return a federated job; on edge-1 its worker is a pod."""
    script = {"dataset": {"name": "data"}, "trainScriptBootFile": "train.py"}
    specs = {"edge-1": {**script, "image": IMAGE, **in_pod}, "edge-2": script}
    workers = [{"name": edge, "nodeName": edge, "workerSpec": specs[edge]} for edge in edges]
    spec = {"aggregationWorker": {"model": {"name": "line"}}, "trainingWorkers": workers, "rounds": rounds,
            "roundDeadlineSeconds": HANGS}  # fmt: skip
    return {"kind": "FederatedTask", "metadata": {"name": "job"}, "spec": spec}


async def test_a_job_runs_in_a_pod_and_in_a_process_together(kubernetes: Api, tmp_path: Path) -> None:
    async with site_on(kubernetes, tmp_path) as site:
        await site.client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        given = _job(3, env=[{"name": "LEVEL", "value": "debug"}])
        await site.client.jobs.create(given)
        pod = await site.pod()
        status = await site.until("jobs", "job", lambda status: status.get("phase") in ("Succeeded", "Failed"))
        assert status["phase"] == "Succeeded", status
        assert [each["counted"] for each in status["rounds"]][1:] == [2, 2]
        await site.no_pod()
        async with asyncio.timeout(HANGS):
            while pod.phase == "Running":  # its process is still ending
                await asyncio.sleep(0.01)
        assert (pod.starts, pod.phase) == (1, "Failed")  # by the signal of its deletion: it never counts as done
        assert not (site.pods / "job-edge-1" / SOCKET).exists()


@pytest.mark.long
async def test_a_job_outlives_its_pod_and_its_agent_and_leaves_nothing(kubernetes: Api, tmp_path: Path) -> None:
    async with site_on(kubernetes, tmp_path) as site:
        await site.client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        await site.client.jobs.create(_job(100_000, ["edge-1"]))
        pod = await site.pod()

        async def trains(after: int) -> int:
            return (await site.until("jobs", "job", lambda status: status.get("round", 0) > after + 2))["round"]

        reached = await trains(0)
        pod.kill_container()
        reached = await trains(reached)
        assert pod.starts == 2
        await site.cluster.kill("edge-1")
        await site.cluster.start_agent("edge-1")
        reached = await trains((await site.client.jobs.get("job"))["status"]["round"])
        assert pod.starts == 2  # the pod has waited for its agent
        await site.client.jobs.delete("job")
        await site.no_pod()
        await site.until("edges", "edge-1", lambda status: status.get("workers", []) == [])
        left = [each for each in site.pods.rglob("*") if not each.is_dir() and "outputs" not in each.parts]
        assert left == []


@pytest.mark.long
async def test_an_edge_that_decides_by_itself_learns_in_its_pod_without_a_link(
    kubernetes: Api, tmp_path: Path
) -> None:
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    async with site_on(kubernetes, tmp_path, code=learning_node.CODE, relayed=[EDGE]) as site:
        await learning_node.create_loop(site.client, image=IMAGE)
        pod = await site.pod()  # it is there before anything has been labelled
        relay = site.cluster.nodes[EDGE].relay
        assert relay is not None
        relay.cut()
        async with learning_node.device_and_labeller(site.cluster, answers):
            await site.cluster.wait_for_line(EDGE, "round 1 with")
            pod.kill_container()  # its kubelet starts it again; the round goes on
            await site.cluster.wait_for_line(EDGE, "round 2 with")
        relay.restore()
        name = learning_node.NAME

        def learned(status: Any) -> bool:
            return bool(status["edges"].get(EDGE, {}).get("deployed"))

        await site.until("incremental-jobs", name, learned)
        assert pod.starts == 2
        await site.client.incremental_jobs.delete(name)
        await site.no_pod()


async def test_what_may_not_run_is_told_in_the_jobs_conditions(kubernetes: Api, tmp_path: Path) -> None:
    async with site_on(kubernetes, tmp_path, images=()) as site:
        await site.client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        await site.client.jobs.create(_job(3, ["edge-1"]))

        def told(status: Any) -> str:
            return " ".join(each.get("message", "") for each in status.get("conditions", ()))

        status = await site.until("jobs", "job", lambda status: "may not run here" in told(status))
        assert f"image {IMAGE} may not run here: expected one that the operator allows (none)" in told(status)
        assert site.kubelet.pods == {}


async def test_a_node_without_pods_refuses_an_image_and_says_what_to_do(kubernetes: Api, tmp_path: Path) -> None:
    async with site_on(kubernetes, tmp_path) as site:
        await site.client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        given = _job(3, ["edge-1"])
        given["spec"]["trainingWorkers"][0] |= {"nodeName": "edge-2"}
        await site.client.jobs.create(given)
        status = await site.until("jobs", "job", lambda status: "runs no pods" in json.dumps(status))
        assert "expected an agent that was started with --pods (HELIOGRAPH_PODS)" in json.dumps(status)
