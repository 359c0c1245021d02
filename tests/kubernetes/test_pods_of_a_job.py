"""A service whose workers are pods: their Jobs come and go with it, and it says why a pod does not run."""

from __future__ import annotations

import asyncio

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.buckets import RESOURCES
from heliograph.bus.contract.payloads import Generation, Report
from heliograph.bus.contract.resources import Edge
from heliograph.bus.port import Port
from heliograph.client import AsyncClient
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.edges.wanted_documents import Wanted as WantedParts
from heliograph.coordinator.edges.wanted_documents import WantedDocuments
from heliograph.coordinator.kubernetes.api import JOBS, Api, Object
from heliograph.coordinator.kubernetes.documents import CLOUD
from heliograph.coordinator.kubernetes.operator import OperatorSettings
from heliograph.coordinator.kubernetes.worker_job import EDGE, HOSTNAME, JOB, PodSettings
from heliograph.coordinator.kubernetes.worker_jobs import Wanted, WorkerJobs
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.world import World
from tests.kubernetes.fake_pods import container_is, pod_like
from tests.kubernetes.running_operator import (
    MODEL,
    NUMBERS,
    SERVICE,
    Printed,
    Running,
    coordinating,
    custom,
    operating,
    said,
)
from tests.patience import HANGS

SETTINGS = OperatorSettings(pods=PodSettings(namespace="default", images=("example.com/",)))
WORKER = {"model": {"name": "line"}, "image": "example.com/server:1", "args": ["/app/serve.py"]}


async def edge_reports(running: Running, **labels: str) -> None:
    """Let an edge come whose agent has these labels."""
    port = Port(running.client.bus, World(), "edge/edge-1/agent/1")
    report = Report(edge="edge-1", observed=Generation(), version="0.2", labels=labels)
    await port.publish(topics.REPORT, report, edge="edge-1")


async def the_jobs(running: Running, number: int, namespace: str = "default") -> list[Object]:
    """Return the Jobs once there are so many."""
    async with asyncio.timeout(HANGS):
        while True:
            found, version = await running.api.list(JOBS, namespace)
            if len(found) == number:
                return found
            async for _ in running.api.watch(JOBS, version, namespace):
                break


async def the_job(running: Running, namespace: str = "default") -> Object:
    return (await the_jobs(running, 1, namespace))[0]


async def serving(running: Running) -> None:
    await running.api.create(MODEL, "default", custom("line", "Model", {}))
    await running.api.create(SERVICE, "default", custom("answers", "JointInferenceService", {"edgeWorker": WORKER}))
    await running.accepted(SERVICE, "answers")


async def test_the_job_of_a_worker_comes_and_goes_with_its_custom_resource(kubernetes: Api) -> None:
    async with operating(kubernetes, SETTINGS) as running:
        await edge_reports(running, **{HOSTNAME: "node-1"})
        await serving(running)
        made = await the_job(running)
        assert (made["metadata"]["labels"][EDGE], made["metadata"]["labels"][JOB]) == ("edge-1", "answers")
        (owner,) = made["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("JointInferenceService", "answers")
        await running.api.delete(SERVICE, "default", "answers")
        await running.until_gone(SERVICE, "answers")
        await running.until_gone(JOBS, made["metadata"]["name"])


async def test_two_clouds_keep_their_own_jobs_in_one_namespace(kubernetes: Api) -> None:
    async with operating(kubernetes, SETTINGS) as ours:
        await edge_reports(ours, **{HOSTNAME: "node-1"})
        await serving(ours)  # before the other cloud comes: a custom resource is whose operator marks it first
        made = await the_job(ours)
        async with operating(kubernetes, SETTINGS) as theirs:
            await edge_reports(theirs, **{HOSTNAME: "node-1"})  # they have an edge of the name, on the same node
            await theirs.client.models.create({"kind": "Model", "metadata": {"name": "other"}})
            spec = {"edgeWorker": {**WORKER, "model": {"name": "other"}}}
            await theirs.client.services.create(
                {"kind": "JointInferenceService", "metadata": {"name": "others"}, "spec": spec}
            )
            labels = [each["metadata"]["labels"] for each in await the_jobs(ours, 2)]
            clouds = {each[JOB]: each[CLOUD] for each in labels}
            assert clouds.keys() == {"answers", "others"} and clouds["answers"] != clouds["others"]
            await theirs.client.services.delete("others")
            assert (await the_job(ours))["metadata"]["uid"] == made["metadata"]["uid"]


async def test_an_image_that_cannot_be_pulled_is_a_condition_of_the_service_wherever_one_looks(kubernetes: Api) -> None:
    async with operating(kubernetes, SETTINGS) as running:
        await edge_reports(running, **{HOSTNAME: "node-1"})
        await serving(running)
        made = await the_job(running)
        await pod_like(kubernetes, made)
        await container_is(kubernetes, "default", waiting={"reason": "ErrImagePull", "message": "no such image"})
        shown = await running.until(SERVICE, "answers", lambda each: said(each, "PodsRunning")[0] == "False")
        assert "ErrImagePull: no such image" in said(shown, "PodsRunning")[2]
        by_topics = await running.client.services.get("answers")
        assert "ErrImagePull" in said(by_topics, "PodsRunning")[2]
        await container_is(kubernetes, "default", running={})
        await running.until(SERVICE, "answers", lambda each: said(each, "PodsRunning")[0] == "True")


async def test_a_problem_that_ends_while_no_coordinator_leads_is_taken_back_by_the_next(kubernetes: Api) -> None:
    url = f"memory://operator-{next(NUMBERS)}"
    async with AsyncClient(url, leader_timeout=HANGS) as client:
        running = Running(kubernetes, client, url)
        async with coordinating(url, Printed(), OperatorSettings(pods=PodSettings(namespace="default"))):
            await edge_reports(running, **{HOSTNAME: "node-1"})
            await serving(running)
            await running.until(SERVICE, "answers", lambda each: said(each, "PodsRunning")[0] == "False")
        async with coordinating(url, Printed(), SETTINGS):
            await running.until(SERVICE, "answers", lambda each: said(each, "PodsRunning")[0] == "True")


async def test_an_edge_that_names_no_node_is_told(kubernetes: Api) -> None:
    async with operating(kubernetes, SETTINGS) as running:
        await edge_reports(running)
        await serving(running)
        shown = await running.until(SERVICE, "answers", lambda each: said(each, "PodsRunning")[0] == "False")
        assert f"--label {HOSTNAME}=NODE" in said(shown, "PodsRunning")[2]


async def test_an_edge_has_jobs_only_while_it_names_the_node_that_it_has_enrolled_as(kubernetes: Api) -> None:
    url = f"memory://operator-{next(NUMBERS)}"
    async with connect(url) as bus, AsyncClient(url, leader_timeout=HANGS) as client:
        enrolled = {"metadata": {"name": "edge-1"}, "status": {"invitation": "site", "node": "node-2"}}
        await ResourceStore(await bus.kv(RESOURCES), World()).create(Edge.model_validate(enrolled))
        running = Running(kubernetes, client, url)
        async with coordinating(url, Printed(), SETTINGS):
            await edge_reports(running, **{HOSTNAME: "node-1"})
            await serving(running)
            shown = await running.until(SERVICE, "answers", lambda each: said(each, "PodsRunning")[0] == "False")
            assert "names node node-1, and it has enrolled as node node-2" in said(shown, "PodsRunning")[2]
            await edge_reports(running, **{HOSTNAME: "node-2"})
            made = await the_job(running)
            await running.until(SERVICE, "answers", lambda each: said(each, "PodsRunning")[0] == "True")
            await edge_reports(running, **{HOSTNAME: "node-1"})  # taken over meanwhile
            await running.until_gone(JOBS, made["metadata"]["name"])


async def test_the_next_coordinator_deletes_no_job_before_it_has_decided(
    kubernetes: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, passed = f"memory://operator-{next(NUMBERS)}", asyncio.Event()
    decide, reconcile = WantedDocuments.of, WorkerJobs.reconcile

    async def decide_late(self: WantedDocuments, view: View) -> WantedParts:
        await passed.wait()
        return await decide(self, view)

    async def reconcile_early(self: WorkerJobs, wanted: Wanted) -> None:
        await reconcile(self, wanted)
        passed.set()

    async with AsyncClient(url, leader_timeout=HANGS) as client:
        running = Running(kubernetes, client, url)
        async with coordinating(url, Printed(), SETTINGS):
            await edge_reports(running, **{HOSTNAME: "node-1"})
            await serving(running)
            before = await the_job(running)
        monkeypatch.setattr(WantedDocuments, "of", decide_late)
        monkeypatch.setattr(WorkerJobs, "reconcile", reconcile_early)
        async with coordinating(url, Printed(), SETTINGS), asyncio.timeout(HANGS):
            await passed.wait()
            after, _ = await kubernetes.list(JOBS, "default")
            assert [each["metadata"]["uid"] for each in after] == [before["metadata"]["uid"]]
