"""Joint inference services over a real broker: requests in, desired documents and status out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.blob_sources import CloudBlobs
from heliograph.bus.contract import topics
from heliograph.bus.contract import weights_file as tensors
from heliograph.bus.contract.payloads import Desired, InferenceStats, WorkerTask
from heliograph.core.errors import Refused
from heliograph.local.cluster_users import COORDINATOR
from tests.patience import HANGS

pytestmark = pytest.mark.asyncio(loop_scope="module")

EDGES = ("edge-1", "edge-2")
BASE = {"w": np.zeros(3, np.float32)}


def _service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "edgeai.io/v1alpha1",
        "kind": "JointInferenceService",
        "metadata": {"name": name},
        "spec": {
            "edgeWorker": {"model": {"name": "small"}, "scriptBootFile": "edge.py"},
            "cloudWorker": {"model": {"name": "deep"}, "scriptBootFile": "deep.py"},
            "edges": {"names": [*EDGES]},
        }
        | spec,
    }


def _rule(name: str = "threshold", **parameters: Any) -> dict[str, Any]:
    return {"name": name, "parameters": [{"key": key, "value": value} for key, value in parameters.items()]}


async def _models(cloud: Any) -> None:
    for name in ("small", "deep"):
        await cloud.client.models.create({"kind": "Model", "metadata": {"name": name}})


async def _newest(cloud: Any, edge: str) -> Desired:
    port = cloud.edges[edge].port
    message = await port.bus.last(topics.TASK.at(edge=edge))
    desired: Desired = port.read(topics.TASK, message).payload
    return desired


async def _tasks(cloud: Any, edge: str, job: str) -> list[WorkerTask]:
    return [task for task in (await _newest(cloud, edge)).tasks if task.job == job]


def _is_placed(service: dict[str, Any]) -> bool:
    """Return whether nothing is missing, so that its workers are asked for."""
    return any(each["type"] == "WorkersHealthy" for each in service["status"]["conditions"])


async def _until(cloud: Any, name: str, holds: Any) -> dict[str, Any]:
    """Return the service's status once ``holds(status)``."""
    async with asyncio.timeout(HANGS):
        async for document in cloud.client.services.watch(name):
            if holds(document["status"]):
                return dict(document["status"])
    raise AssertionError


async def test_a_service_from_its_creation_to_its_end(cloud: Any) -> None:
    """A change of the threshold reaches the running worker as the same task in a newer document."""
    client = cloud.client
    await _models(cloud)
    made = await client.services.create(_service("life", hardSampleRule=_rule(value=0.9)))
    assert _is_placed(made)
    assert list(made["status"]["edges"]) == [*EDGES]
    first = await _newest(cloud, "edge-1")
    (before,) = await _tasks(cloud, "edge-1", "life")
    assert (before.worker, before.role, before.job_uid) == ("life-infer", "infer", made["metadata"]["uid"])
    assert before.inference is not None and before.inference.rule_parameters == {"value": 0.9}

    changed = await client.services.update(_service("life", hardSampleRule=_rule(value=0.6)))
    assert changed["metadata"]["generation"] == 2
    second = await _newest(cloud, "edge-1")
    (after,) = await _tasks(cloud, "edge-1", "life")
    assert second.generation.order > first.generation.order
    assert after.inference is not None and after.inference.rule_parameters == {"value": 0.6}
    assert after.model_copy(update={"inference": before.inference}) == before

    tried = await client.services.update(_service("life", deadlineSeconds=9.0), dry_run=True)
    assert (tried["spec"]["deadlineSeconds"], tried["metadata"]["generation"]) == (9.0, 3)
    assert (await client.services.get("life"))["spec"]["deadlineSeconds"] == 0.5

    stopped = await client.services.stop("life")
    assert stopped["status"]["phase"] == "Stopped"
    assert await _tasks(cloud, "edge-1", "life") == []
    started = await client.services.start("life")
    assert _is_placed(started)
    assert await _tasks(cloud, "edge-1", "life") == [after]

    await client.services.delete("life")
    assert await _tasks(cloud, "edge-2", "life") == []
    assert "life" not in {each["metadata"]["name"] for each in await client.services.list()}


async def test_inline_weights_are_put_where_agents_fetch_them(cloud: Any, tmp_path: Path) -> None:
    weights = tensors.write(BASE, Path("/nonexistent"))
    model = {"kind": "Model", "metadata": {"name": "tiny"}, "spec": {"weights": weights.model_dump(mode="json")}}
    await cloud.client.models.create(model)
    script = {"model": {"name": "tiny"}, "scriptBootFile": "edge.py"}
    await cloud.client.services.create(_service("tiny", edgeWorker=script, cloudWorker=script | {"replicas": 64}))
    (task,) = await _tasks(cloud, "edge-1", "tiny")
    assert task.model is not None
    assert (task.model.digest, task.model.inline) == (weights.digest, None)
    fetched = await CloudBlobs(cloud.edges["edge-1"].port, "edge-1").fetch(task.model, tmp_path / "model")
    assert fetched.read_bytes() == weights.inline
    await cloud.client.services.delete("tiny")


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "rule": (_service("bad", hardSampleRule=_rule("magic")), "spec.hardSampleRule.name", "threshold"),
    "rule-parameter": (
        _service("bad", hardSampleRule=_rule(warp=1)),
        "spec.hardSampleRule.parameters[0].key",
        "one of value",
    ),
    "rule-value": (
        _service("bad", hardSampleRule=_rule(value=7)),
        "spec.hardSampleRule.parameters[0].value",
        "number at least 0 at most 1",
    ),
    "rule-without-parameters": (
        _service("bad", hardSampleRule=_rule("always", value=1)),
        "spec.hardSampleRule.parameters[0].key",
        "always has none",
    ),
    "deadline-0": (_service("bad", deadlineSeconds=0), "spec.deadlineSeconds", "greater than 0"),
    "deadline-negative": (_service("bad", deadlineSeconds=-1), "spec.deadlineSeconds", "greater than 0"),
    "deadline-text": (_service("bad", deadlineSeconds="soon"), "spec.deadlineSeconds", "number"),
    "field": (_service("bad", colour="red"), "spec.colour", "no such field"),
    "no-edges": (_service("bad", edges={"names": []}), "spec.edges.names", "at least 1 item"),
    "edges-text": (_service("bad", edges="some"), "spec.edges", "{names: [EDGE, ...]} or {all: true}"),
    "edge-name": (_service("bad", edges={"names": ["No_Label"]}), "spec.edges.names[0]", "a DNS label"),
    "replicas": (
        _service("bad", cloudWorker={"model": {"name": "deep"}, "scriptBootFile": "d.py", "replicas": 0}),
        "spec.cloudWorker.replicas",
        "greater than or equal to 1",
    ),
    "script": (_service("bad", edgeWorker={"model": {"name": "small"}}), "spec.edgeWorker", "scriptBootFile"),
    "fallback": (_service("bad", fallback="cry"), "spec.fallback", "'edge' or 'error'"),
    "budget": (
        _service("bad", offloadBudget={"requestsPerSecond": 0}),
        "spec.offloadBudget.requestsPerSecond",
        "greater than 0",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_document_is_refused_with_its_field(cloud: Any, name: str) -> None:
    document, field, expected = BAD[name]
    with pytest.raises(Refused) as refused:
        await cloud.client.services.create(document)
    assert refused.value.field == field
    assert expected in refused.value.expected
    assert "bad" not in {each["metadata"]["name"] for each in await cloud.client.services.list()}


async def test_a_service_waits_for_an_unknown_model(cloud: Any) -> None:
    client = cloud.client
    await _models(cloud)
    document = _service("waits", edgeWorker={"model": {"name": "later"}, "scriptBootFile": "edge.py"})
    made = await client.services.create(document)
    assert made["status"]["phase"] == "Pending"
    assert made["status"]["conditions"][0]["message"] == "model later does not exist"
    assert await _tasks(cloud, "edge-1", "waits") == []
    await client.models.create({"kind": "Model", "metadata": {"name": "later"}})
    assert _is_placed(await client.services.get("waits"))
    with pytest.raises(Refused, match="which service waits runs"):
        await client.models.delete("later")
    await client.services.stop("waits")
    await client.models.delete("later")
    await client.services.delete("waits")


async def test_a_service_waits_for_unknown_edges(cloud: Any) -> None:
    await _models(cloud)
    made = await cloud.client.services.create(_service("nowhere", edges={"names": ["edge-8"]}))
    assert made["status"]["phase"] == "Pending"
    assert made["status"]["conditions"][0]["message"] == "none of its edges is known: edge-8"
    moved = await cloud.client.services.update(_service("nowhere", edges={"names": ["edge-8", "edge-2"]}))
    assert _is_placed(moved)
    assert [task.worker for task in await _tasks(cloud, "edge-2", "nowhere")] == ["nowhere-infer"]
    assert await _tasks(cloud, "edge-1", "nowhere") == []
    await cloud.client.services.delete("nowhere")


async def test_a_script_that_the_clouds_agent_forbids_is_the_clouds_trouble(cloud: Any) -> None:
    await _models(cloud)
    await cloud.client.services.create(_service("forbidden"))
    status = await _until(cloud, "forbidden", lambda status: status["cloud"]["trouble"])
    assert status["phase"] == "Pending"
    assert "deep.py does not lie under a --code root" in status["cloud"]["trouble"]
    healthy = next(each for each in status["conditions"] if each["type"] == "WorkersHealthy")
    assert healthy["message"].startswith("deep model on cloud: script deep.py")
    await cloud.client.services.delete("forbidden")


async def _count(cloud: Any, service: dict[str, Any], edge: str, incarnation: str, **counts: Any) -> None:
    name = service["metadata"]["name"]
    stats = InferenceStats(
        service=name, service_uid=service["metadata"]["uid"], edge=edge, worker=f"{name}-infer",
        incarnation=incarnation, **counts,
    )  # fmt: skip
    await cloud.edges[edge].port.publish(
        topics.INFERENCE_STATS, stats, service=name, edge=edge, worker=f"{name}-infer"
    )


async def test_the_status_keeps_counts_over_restarts_of_worker_and_coordinator(cloud: Any) -> None:
    await _models(cloud)
    made = await cloud.client.services.create(_service("counted"))
    stale = made | {"metadata": made["metadata"] | {"uid": "another"}}  # counts of an earlier service of that name
    await _count(cloud, stale, "edge-2", "d", by_edge=100)
    await _count(cloud, made, "edge-1", "a", by_edge=6, by_cloud=2, hard=2, compared=2, agreed=1, latencies={"8": 8})
    await _count(cloud, made, "edge-2", "b", by_edge=2, trouble="model x does not load")
    status = await _until(cloud, "counted", lambda status: status["total"]["requests"] == 10)
    assert status["total"]["offloadRatio"] == 0.2
    assert status["total"]["agreement"] == 0.5
    assert status["total"]["p99Seconds"] == pytest.approx(0.0004)
    assert status["edges"]["edge-1"]["offloadRatio"] == 0.25
    await _count(cloud, made, "edge-1", "c", by_edge=1)
    await _until(cloud, "counted", lambda status: status["total"]["requests"] == 11)

    await cloud.cluster.kill(COORDINATOR)
    await cloud.cluster.start_coordinator()
    await cloud.cluster.wait_for_line(COORDINATOR, "coordinator is ready")
    await _count(cloud, made, "edge-1", "c", by_edge=2)
    status = await _until(cloud, "counted", lambda status: status["total"]["requests"] > 11)
    assert status["total"]["requests"] == 12
    assert status["edges"]["edge-1"]["byEdge"] == 8
    await cloud.client.services.delete("counted")
