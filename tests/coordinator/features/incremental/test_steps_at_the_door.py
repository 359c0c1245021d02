"""The steps of incremental learning jobs over a real broker: by hand, by triggers, in a canary, after a takeover; and
documents that no loop can follow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from heliograph.bus.contract.payloads import (
    InferTask,
    VersionStats,
)
from heliograph.core.errors import Refused
from tests.coordinator.features.incremental.played_node import (
    CLASSES,
    count,
    job_document,
    judge,
    label,
    make_job,
    on_trial,
    task_of,
    tell,
    train,
    until,
    until_ended,
)
from tests.patience import HANGS

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_steps_by_hand_wait_for_the_hand(cloud: Any) -> None:
    client = cloud.client.incremental_jobs
    await make_job(cloud, "hand", train={}, evaluate={}, deploy={})
    await label(cloud, "hand", *range(300, 310))
    dry = await client.ask("training", "hand", dry_run=True)
    assert dry["status"]["loop"]["asked"] == ["training"]
    assert (await client.get("hand"))["status"]["loop"]["asked"] == []
    for early in ("evaluation", "deployment"):
        with pytest.raises(Refused, match="hand, whose first round has not begun"):
            await client.ask(early, "hand")
    await client.ask("training", "hand")
    await train(cloud, await task_of(cloud, "hand", "train"))
    assert (await until(cloud, "hand", step="trained"))["loop"]["trigger"] == "by hand"
    await client.ask("evaluation", "hand")
    await judge(cloud, await task_of(cloud, "hand", "evaluate"))
    await until(cloud, "hand", step="evaluated")
    assert "champion" not in (await cloud.client.models.versions("hand"))["aliases"]
    await client.ask("deployment", "hand")
    await until_ended(cloud, "hand")
    assert (await cloud.client.models.versions("hand"))["aliases"] == {"champion": 1}
    await client.stop("hand")
    with pytest.raises(Refused, match="Start it first"):
        await client.ask("training", "hand")


async def test_each_step_follows_its_own_trigger(cloud: Any) -> None:
    """Samples and a low metric of the script's begin the training, time the evaluation, a drop the deployment."""
    low = {"metricDrop": {"metric": "f1", "below": 0.7}}
    await make_job(cloud, "triggers", train={"any": [{"newSamples": 8}, {"all": [low, {"newSamples": 2}]}]},
                evaluate={"everySeconds": 0.2, "checkSeconds": 0.1}, deploy={"all": [low]})  # fmt: skip
    await label(cloud, "triggers", *range(700, 708))
    await train(cloud, await task_of(cloud, "triggers", "train"))
    task = await task_of(cloud, "triggers", "evaluate")
    await judge(cloud, task, champion_metrics={"f1": 0.5}, metrics={"f1": 0.6})
    status = await until_ended(cloud, "triggers")
    assert status["rounds"][0]["trigger"] == "8 new samples"
    assert (status["loop"]["metrics"]["f1"], status["loop"]["deployedMetrics"]["f1"]) == (0.6, 0.6)
    await label(cloud, "triggers", 708, 709)
    await train(cloud, await task_of(cloud, "triggers", "train", 2), 2.0)
    task = await task_of(cloud, "triggers", "evaluate", 2)
    await judge(cloud, task, champion_metrics={"f1": 0.8}, metrics={"f1": 0.9})
    status = await until(cloud, "triggers", step="evaluated")
    assert status["loop"]["trigger"] == "f1 0.6 is below 0.7, 2 new samples"
    assert status["loop"]["metrics"]["f1"] == 0.8, "what serves does well: nothing is deployed"
    await cloud.client.incremental_jobs.ask("deployment", "triggers")
    status = await until_ended(cloud, "triggers", 2)
    assert status["rounds"][1]["models"]["triggers"]["decision"] == "deployed"


async def test_a_drift_that_an_edge_tells_begins_a_round(cloud: Any) -> None:
    await make_job(cloud, "drifts", train={"all": [{"newSamples": 10}, {"drift": {"detector": "psi"}}]})
    service = await cloud.client.services.create({
        "kind": "JointInferenceService", "metadata": {"name": "drifts"},
        "spec": {"edgeWorker": {"model": {"name": "drifts"}, "scriptBootFile": "edge.py"}, "edges": ["edge-2"],
                 "drift": ["psi"]},
    })  # fmt: skip
    await label(cloud, "drifts", *range(400, 410))
    await until(cloud, "drifts", step="waiting")
    async with asyncio.timeout(HANGS):
        while not any(isinstance(task, InferTask) and task.job == "drifts" and task.inference.drift == ["psi"]
                      for task in (await cloud.edges["edge-2"].tasks.get()).tasks):  # fmt: skip
            pass
    now = cloud.edges["edge-2"].port.world.now()
    await tell(cloud, service, drift={"scores/psi": now - 3600.0, "features/psi": now})  # an old one, and of others
    await tell(cloud, service, drift={"scores/psi": now})
    await task_of(cloud, "drifts", "train")
    status = await until(cloud, "drifts", step="training")
    assert status["loop"]["trigger"] == "10 new samples, drift of scores on 100% of the edges (psi)"


@pytest.mark.parametrize(("name", "errors", "decision"), [("good", 0, "deployed"), ("faulty", 60, "rolled-back")])
async def test_a_canary_is_decided_by_what_the_edges_count(cloud: Any, name: str, errors: int, decision: str) -> None:
    canary = {"canary": {"share": 0.3, "leastRequests": 50, "watchSeconds": 0.2}}
    await make_job(cloud, name, deployment=canary)
    service = await cloud.client.services.create({
        "kind": "JointInferenceService", "metadata": {"name": name},
        "spec": {"edgeWorker": {"model": {"name": name}, "scriptBootFile": "edge.py"}, "edges": ["edge-2"]},
    })  # fmt: skip
    await label(cloud, name, *range(400 + len(name) * 20, 410 + len(name) * 20))
    await train(cloud, await task_of(cloud, name, "train"), value=len(name))
    await judge(cloud, await task_of(cloud, name, "evaluate"))
    task = await on_trial(cloud, name)
    assert task.model is not None and task.candidate is not None
    assert (task.candidate.number, task.candidate.share) == (1, 0.3)
    assert (await cloud.client.models.versions(name))["aliases"] == {"champion": 0}, "what served still serves"
    served = VersionStats(requests=140, latencies={"4": 140})
    tried = VersionStats(requests=60, errors=errors, compared=60, agreed=55, latencies={"4": 60})
    await count(cloud, service, **{task.model.digest: served, task.candidate.model.digest: tried})
    status = await until_ended(cloud, name)
    assert status["rounds"][0]["models"][name]["decision"] == decision
    document = await cloud.client.models.get(name)
    assert document["status"]["aliases"] == {"champion": 1 if decision == "deployed" else 0}
    assert "rollout" not in document["status"]
    await cloud.client.services.delete(name)


@pytest.mark.long
async def test_a_coordinator_that_follows_another_goes_on_at_every_step(cloud: Any) -> None:
    """It is killed in each step; candidate and verdict come while nobody leads; no sample is lost or new twice."""
    await make_job(cloud, "killed", train={"newSamples": 12})
    ids = await label(cloud, "killed", *range(500, 512))
    task = await task_of(cloud, "killed", "train")
    for act, step in ((train, "evaluate"), (judge, "")):
        await cloud.cluster.kill("coordinator")
        await act(cloud, task)
        await cloud.cluster.start_coordinator()
        if step:
            task = await task_of(cloud, "killed", step)
    status = await until_ended(cloud, "killed")
    assert status["rounds"][0]["models"]["killed"]["decision"] == "deployed"
    await cloud.cluster.kill("coordinator")
    await cloud.cluster.start_coordinator()
    await until(cloud, "killed", waiting=0, labelled=len(ids))
    await label(cloud, "killed", *range(512, 519))
    await until(cloud, "killed", waiting=7, round=1)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"train": {"cron": "61 * * * *"}}, "spec.train.cron"),
        ({"models": []}, "spec.models"),
        ({"train": {"newSamples": 0}}, "spec.train.newSamples"),
        ({"gate": {"floor": 1.5}}, "spec.gate.floor"),
        ({"train": {"metricDrop": {}}}, "spec.train.metricDrop"),
        ({"deploy": {"any": [{"newSamples": 1, "checkSeconds": 60}]}}, "spec.deploy.any[0].checkSeconds"),
        ({"deployment": {"canary": {"share": 0}}}, "spec.deployment.canary.share"),
    ],
)
async def test_a_document_that_no_loop_can_follow_is_refused(cloud: Any, change: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        await cloud.client.incremental_jobs.create(job_document("bad", **change))
    assert field in (refused.value.field or "")


async def test_a_job_without_its_queue_waits_and_says_for_what(cloud: Any) -> None:
    await cloud.client.incremental_jobs.create(job_document("alone"))
    async with asyncio.timeout(HANGS):
        async for document in cloud.client.incremental_jobs.watch("alone"):
            told = [each["message"] for each in document["status"]["conditions"]]
            if told:
                break
    assert "label queue alone does not exist" in told[0] and "model alone does not exist" in told[0]
    await _made_later(cloud, "alone")
    await until(cloud, "alone", phase="Running")
    with pytest.raises(Refused, match="incremental job alone needs"):
        await cloud.client.labels.delete("alone")
    with pytest.raises(Refused, match=r"spec\.location"):
        await cloud.client.incremental_jobs.update(job_document("alone", location="edge"))
    with pytest.raises(Refused, match=r"spec\.labels: expected alone, as the job was made, got another"):
        await cloud.client.incremental_jobs.update(job_document("alone", labels={"name": "another"}))
    await cloud.client.incremental_jobs.update(job_document("alone", labels={"name": "alone"}))  # the one that it has
    await cloud.client.incremental_jobs.delete("alone")
    await cloud.client.labels.delete("alone")


@pytest.mark.parametrize("type", ["number", "text", "choices", "regions"])
async def test_labels_that_no_job_learns_are_refused_and_told_where_they_come_later(cloud: Any, type: str) -> None:
    schema = {"type": type, "classes": CLASSES if type in ("choices", "regions") else []}
    queue = {"kind": "LabelQueue", "metadata": {"name": f"of-{type}"}, "spec": {"labelSchema": schema}}
    await cloud.client.incremental_jobs.create(job_document(f"of-{type}"))
    await cloud.client.labels.create(queue)
    async with asyncio.timeout(HANGS):
        async for document in cloud.client.incremental_jobs.watch(f"of-{type}"):
            told = [each["message"] for each in document["status"]["conditions"]]
            if told and "has labels" in told[0]:
                break
    assert f"label queue of-{type} has labels of the type {type}, and a job learns one class" in told[0]
    with pytest.raises(Refused, match=f"of-{type}, which has labels of the type {type}") as refused:
        await cloud.client.incremental_jobs.create(job_document("another", labels={"name": f"of-{type}"}))
    assert refused.value.field == "spec.labels"
    await cloud.client.incremental_jobs.delete(f"of-{type}")
    await cloud.client.labels.delete(f"of-{type}")


async def _made_later(cloud: Any, name: str) -> None:
    await cloud.client.models.create({"kind": "Model", "metadata": {"name": name}})
    schema = {"labelSchema": {"classes": CLASSES}}
    await cloud.client.labels.create({"kind": "LabelQueue", "metadata": {"name": name}, "spec": schema})
