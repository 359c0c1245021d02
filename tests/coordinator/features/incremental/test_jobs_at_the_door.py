"""Incremental learning jobs over a real broker: labels in, tasks of the training node, candidates and verdicts back,
versions out. The test plays the node and the edges that serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract import topics
from heliograph.bus.contract import weights_file as tensors
from heliograph.bus.contract.payloads import (
    Candidate,
    HardSample,
    InferenceStats,
    InferTask,
    LearnTask,
    VerdictReport,
    VersionStats,
    WorkerReport,
)
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources import GateFigures
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.errors import Refused, Unreachable
from heliograph.incremental.shards import ids_of
from heliograph.label_client import Labeller
from tests.patience import HANGS

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLASSES = ["cat", "dog"]
NODE = "edge-1"


def _ref(number: int) -> WeightsRef:
    content = tensors.dumps({"x": np.full(2, number, np.float32)})
    return WeightsRef(digest=sha256(content).hexdigest(), size=len(content), inline=content)


def _job(name: str, **spec: Any) -> dict[str, Any]:
    learned = {"model": {"name": name}, "nodeName": NODE, "workerSpec": {"trainScriptBootFile": "learn.py"}}
    fields = {"models": [learned], "train": {"newSamples": 8}, "evaluation": {"heldOut": 40}} | spec
    return {"kind": "IncrementalLearningJob", "metadata": {"name": name}, "spec": fields}


async def _made(cloud: Any, name: str, **spec: Any) -> None:
    """Create a job with its model, which has declared weights, and its queue."""
    for edge in (NODE, "edge-2"):
        if not (await cloud.client.edges.get(edge))["status"].get("version"):
            await cloud.reported(edge)
    weights = tensors.write({"w": np.zeros(3, np.float32)}, Path("/nonexistent"))
    model = {"kind": "Model", "metadata": {"name": name}, "spec": {"weights": weights.model_dump(mode="json")}}
    await cloud.client.models.create(model)
    schema = {"labelSchema": {"classes": CLASSES}}
    await cloud.client.labels.create({"kind": "LabelQueue", "metadata": {"name": name}, "spec": schema})
    await cloud.client.incremental_jobs.create(_job(name, **spec))


async def _labelled(cloud: Any, name: str, *numbers: int) -> list[str]:
    """Bring hard samples, and label them all. Return their ids."""
    refs = [_ref(number) for number in numbers]
    for ref in refs:
        sample = HardSample(job=name, edge="edge-2", sample=ref.digest, scores=[0.5, 0.5], data=ref)
        await cloud.edges["edge-2"].port.publish(topics.HARD_SAMPLE, sample, job=name, edge="edge-2")
    left = len(refs)
    async with asyncio.timeout(HANGS), Labeller(cloud.client, name, "anna") as labeller:
        while left:  # they become tasks one after the other
            async for task in labeller.tasks():
                await labeller.submit(task, CLASSES[int(task.task.task, 16) % 2])
                left -= 1
    return [ref.digest for ref in refs]


async def _task(cloud: Any, name: str, step: str, round: int = 1, attempt: int = 1) -> LearnTask:
    """Return the node's task of that step once it is asked."""
    async with asyncio.timeout(HANGS):
        while True:
            desired = await cloud.edges[NODE].tasks.get()
            for task in desired.tasks:
                if isinstance(task, LearnTask) and (task.job, task.step, task.round, task.attempt, task.active) == (
                    name, step, round, attempt, True,
                ):  # fmt: skip
                    return task


async def _until(cloud: Any, name: str, **wanted: Any) -> dict[str, Any]:
    """Return the job's status once it, or its loop, says all that, whichever coordinator leads."""
    async with asyncio.timeout(HANGS):
        while True:
            with suppress(Unreachable):
                async for document in cloud.client.incremental_jobs.watch(name):
                    status: dict[str, Any] = document["status"]
                    if all(wanted[key] in (status.get(key), status["loop"].get(key)) for key in wanted):
                        return status


async def _ended(cloud: Any, name: str, round: int = 1) -> dict[str, Any]:
    """Return the job's status once that round has ended; the next one may have begun."""
    async with asyncio.timeout(HANGS):
        while True:
            with suppress(Unreachable):
                async for document in cloud.client.incremental_jobs.watch(name):
                    if [each for each in document["status"]["rounds"] if each["round"] == round]:
                        return dict(document["status"])


async def _train(cloud: Any, task: LearnTask, value: float = 1.0, edge: str = NODE, **changes: Any) -> Candidate:
    """Answer a training task."""
    weights = tensors.write({"w": np.full(3, value, np.float32)}, Path("/nonexistent"))
    base = task.model.digest if task.model is not None else None
    fields: dict[str, Any] = {
        "job": task.job, "job_uid": task.job_uid, "round": task.round, "attempt": task.attempt, "edge": edge,
        "model": task.learns, "base": base, "weights": weights, "num_samples": 5, "classes": task.classes,
    }  # fmt: skip
    made = Candidate(**{**fields, **changes})
    await cloud.edges[edge].port.publish(topics.CANDIDATE, made, job=task.job, edge=edge)
    return made


async def _judge(
    cloud: Any, task: LearnTask, decision: str = "passes", metrics: Any = None, champion_metrics: Any = None,
    **changes: Any,
) -> None:  # fmt: skip
    """Answer an evaluation task."""
    assert task.model is not None
    figures = GateFigures.model_validate({"decision": decision, "reasons": [] if decision == "passes" else ["worse"],
                                          "evaluation": task.evaluation, "support": 300, "champion": 0.6,
                                          "candidate": 0.9, "metrics": metrics or {},
                                          "champion_metrics": champion_metrics or {}})  # fmt: skip
    fields: dict[str, Any] = {
        "job": task.job, "job_uid": task.job_uid, "round": task.round, "attempt": task.attempt, "edge": NODE,
        "model": task.learns, "candidate": task.model.digest, "figures": figures,
        "champion": task.champion.digest if task.champion is not None else None,
    }  # fmt: skip
    report = VerdictReport(**{**fields, **changes})
    await cloud.edges[NODE].port.publish(topics.VERDICT, report, job=task.job, edge=NODE)


@asynccontextmanager
async def _shard(cloud: Any, ref: WeightsRef, directory: Path) -> AsyncIterator[tensors.TensorFile]:
    store = await cloud.edges[NODE].port.bus.blobs(ref.bucket)
    with tensors.TensorFile(await store.fetch(ref, directory / ref.digest)) as shard:
        yield shard


async def test_labels_become_a_version_that_serves(cloud: Any, tmp_path: Path) -> None:
    await _made(cloud, "life")
    ids = await _labelled(cloud, "life", *range(20))
    task = await _task(cloud, "life", "train")
    assert task.classes == CLASSES and task.model is not None
    trained: list[str] = []
    for each in task.shards:
        async with _shard(cloud, each.weights, tmp_path) as shard:
            found = ids_of(shard)
            assert shard.numpy("y").tolist() == [int(id, 16) % 2 for id in found]
            trained += found
    await _train(cloud, task)
    measure = await _task(cloud, "life", "evaluate")
    assert measure.champion is not None and measure.champion.digest == task.model.digest
    held_out: list[str] = []
    for each in measure.shards:
        async with _shard(cloud, each.weights, tmp_path) as shard:
            held_out += ids_of(shard)
    assert set(trained) | set(held_out) <= set(ids) and not set(trained) & set(held_out)
    assert trained and held_out, "by the hash of each sample"
    await _judge(cloud, measure)
    status = await _ended(cloud, "life")
    ended = status["rounds"][0]
    assert ended["models"]["life"]["decision"] == "deployed" and ended["evaluationSet"]["version"] == measure.evaluation
    versions = await cloud.client.models.versions("life")
    newest = versions["versions"][0]
    assert versions["aliases"] == {"champion": 1} and newest["metrics"]["accuracy"] == 0.9
    assert newest["parent"] == task.model.digest and newest["evaluationSet"]["version"] == measure.evaluation
    told = await cloud.client.incremental_jobs.ask("models", "life")
    assert told["champions"] == {"life": 1} and [each["decision"] for each in told["versions"]] == ["deployed"]
    assert status["loop"]["champions"]["life"] == newest["weights"]["digest"], "what serves is what the status names"


async def test_a_refused_candidate_is_no_version_and_its_samples_are_learned_later(cloud: Any) -> None:
    await _made(cloud, "worse")
    await _labelled(cloud, "worse", *range(100, 112))
    first = await _task(cloud, "worse", "train")
    await _train(cloud, first)
    await _judge(cloud, await _task(cloud, "worse", "evaluate"), "fails")
    status = await _ended(cloud, "worse")
    assert [each["models"]["worse"]["decision"] for each in status["rounds"]] == ["refused"]
    told = [each for each in status["conditions"] if each["type"] == "Learning"]
    assert told[0]["status"] == "False" and "worse" in told[0]["message"]
    assert (await cloud.client.models.versions("worse"))["versions"][0]["version"] == 0
    await _labelled(cloud, "worse", *range(112, 124))
    second = await _task(cloud, "worse", "train", 2)
    assert second.model == first.model
    assert {each.number for each in first.shards} < {each.number for each in second.shards}


async def test_what_comes_from_another_node_or_round_changes_nothing(cloud: Any) -> None:
    await _made(cloud, "strange")
    await _labelled(cloud, "strange", *range(200, 210))
    task = await _task(cloud, "strange", "train")
    await _train(cloud, task, edge="edge-2")
    for changes in ({"round": 2}, {"base": "0" * 64}, {"job_uid": "another"}, {"model": "other"}, {"attempt": 2}):
        await _train(cloud, task, **changes)
    await _train(cloud, task)
    measure = await _task(cloud, "strange", "evaluate")
    await _judge(cloud, measure, candidate="0" * 64)
    await _judge(cloud, measure, round=3)
    await _judge(cloud, measure, "fails")
    status = await _ended(cloud, "strange")
    assert status["rounds"][0]["models"]["strange"]["decision"] == "refused"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gone", {"weights": WeightsRef(digest="1" * 64, size=9, bucket=upload_bucket(NODE))}),
        ("forgets", {"memory": WeightsRef(digest="1" * 64, size=9, bucket=upload_bucket(NODE))}),
        ("torn", {"weights": WeightsRef(digest="0" * 64, size=4, inline=b"junk")}),
        ("of-others", {"weights": WeightsRef(digest="1" * 64, size=9, bucket=upload_bucket("edge-2"))}),
        ("nowhere", {"memory": WeightsRef(digest="1" * 64, size=9)}),
    ],
)
async def test_a_candidate_whose_file_is_missing_or_damaged_is_trained_again(
    cloud: Any, name: str, changes: dict[str, Any]
) -> None:
    """At once, by another worker, and not after the deadline of an hour; after the last attempt the round fails."""
    await _made(cloud, name, attempts=2)
    await _labelled(cloud, name, *range(200, 210))
    task = await _task(cloud, name, "train")
    await _train(cloud, task, **changes)
    again = await _task(cloud, name, "train", attempt=2)
    assert again.worker != task.worker and again.shards == task.shards
    await _train(cloud, again, **changes)
    status = await _ended(cloud, name)
    outcome = status["rounds"][0]["models"][name]
    assert outcome["decision"] == "failed" and "its candidate was refused: " in outcome["reason"]
    assert (await cloud.client.models.versions(name))["versions"][0]["version"] == 0, "it is no version"
    assert status["loop"]["notBefore"], "its samples wait for the next round, after a pause"


@pytest.mark.parametrize("step", ["train", "evaluate"])
async def test_a_worker_that_crashes_fails_its_round_and_its_samples_wait(cloud: Any, step: str) -> None:
    name = f"crash-{step}"
    await _made(cloud, name, attempts=2)
    await _labelled(cloud, name, *range(200, 210))
    task = await _task(cloud, name, "train")
    if step == "evaluate":
        await _train(cloud, task)
        task = await _task(cloud, name, "evaluate")
    report = WorkerReport(worker=task.worker, role="learn", job=name, job_uid=task.job_uid, round=1,
                          state="backing-off", restarts=1, detail="exit code 139")  # fmt: skip
    await cloud.reported(NODE, workers=[report])
    assert (await cloud.client.incremental_jobs.get(name))["status"]["rounds"] == [], "its agent starts it again"
    await cloud.reported(NODE, workers=[report.model_copy(update={"restarts": 2})])
    status = await _ended(cloud, name)
    assert status["rounds"][0]["models"][name]["decision"] == "failed"
    assert status["rounds"][0]["models"][name]["reason"].endswith(": exit code 139")
    assert status["loop"]["failures"] == 1 and status["loop"]["notBefore"]
    waiting = 10 if step == "train" else 0
    await _until(cloud, name, waiting=waiting - sum(each["samples"] for each in status["loop"]["shards"]
                                                    if each["heldOut"] and waiting))  # fmt: skip
    await cloud.reported(NODE)


async def test_a_worker_that_hangs_is_replaced_and_fails_its_round_in_the_end(cloud: Any) -> None:
    await _made(cloud, "hangs", attempts=2, stepDeadlineSeconds=1.0)
    await _labelled(cloud, "hangs", *range(200, 210))
    first = await _task(cloud, "hangs", "train")
    second = await _task(cloud, "hangs", "train", attempt=2)
    assert second.worker != first.worker, "the one that hangs is ended"
    status = await _ended(cloud, "hangs")
    assert status["rounds"][0]["models"]["hangs"]["reason"] == "training: it has not ended in 1 s"


async def test_steps_by_hand_wait_for_the_hand(cloud: Any) -> None:
    client = cloud.client.incremental_jobs
    await _made(cloud, "hand", train={}, evaluate={}, deploy={})
    await _labelled(cloud, "hand", *range(300, 310))
    dry = await client.ask("training", "hand", dry_run=True)
    assert dry["status"]["loop"]["asked"] == ["training"]
    assert (await client.get("hand"))["status"]["loop"]["asked"] == []
    for early in ("evaluation", "deployment"):
        with pytest.raises(Refused, match="hand, whose first round has not begun"):
            await client.ask(early, "hand")
    await client.ask("training", "hand")
    await _train(cloud, await _task(cloud, "hand", "train"))
    assert (await _until(cloud, "hand", step="trained"))["loop"]["trigger"] == "by hand"
    await client.ask("evaluation", "hand")
    await _judge(cloud, await _task(cloud, "hand", "evaluate"))
    await _until(cloud, "hand", step="evaluated")
    assert "champion" not in (await cloud.client.models.versions("hand"))["aliases"]
    await client.ask("deployment", "hand")
    await _ended(cloud, "hand")
    assert (await cloud.client.models.versions("hand"))["aliases"] == {"champion": 1}
    await client.stop("hand")
    with pytest.raises(Refused, match="Start it first"):
        await client.ask("training", "hand")


async def test_each_step_follows_its_own_trigger(cloud: Any) -> None:
    """Samples and a low metric of the script's begin the training, time the evaluation, a drop the deployment."""
    low = {"metricDrop": {"metric": "f1", "below": 0.7}}
    await _made(cloud, "triggers", train={"any": [{"newSamples": 8}, {"all": [low, {"newSamples": 2}]}]},
                evaluate={"everySeconds": 0.2, "checkSeconds": 0.1}, deploy={"all": [low]})  # fmt: skip
    await _labelled(cloud, "triggers", *range(700, 708))
    await _train(cloud, await _task(cloud, "triggers", "train"))
    task = await _task(cloud, "triggers", "evaluate")
    await _judge(cloud, task, champion_metrics={"f1": 0.5}, metrics={"f1": 0.6})
    status = await _ended(cloud, "triggers")
    assert status["rounds"][0]["trigger"] == "8 new samples"
    assert (status["loop"]["metrics"]["f1"], status["loop"]["deployedMetrics"]["f1"]) == (0.6, 0.6)
    await _labelled(cloud, "triggers", 708, 709)
    await _train(cloud, await _task(cloud, "triggers", "train", 2), 2.0)
    task = await _task(cloud, "triggers", "evaluate", 2)
    await _judge(cloud, task, champion_metrics={"f1": 0.8}, metrics={"f1": 0.9})
    status = await _until(cloud, "triggers", step="evaluated")
    assert status["loop"]["trigger"] == "f1 0.6 is below 0.7, 2 new samples"
    assert status["loop"]["metrics"]["f1"] == 0.8, "what serves does well: nothing is deployed"
    await cloud.client.incremental_jobs.ask("deployment", "triggers")
    status = await _ended(cloud, "triggers", 2)
    assert status["rounds"][1]["models"]["triggers"]["decision"] == "deployed"


async def _counted(cloud: Any, service: dict[str, Any], **versions: VersionStats) -> None:
    await _told(cloud, service, by_edge=sum(each.requests for each in versions.values()), versions=versions)


async def _told(cloud: Any, service: dict[str, Any], **facts: Any) -> None:
    stats = InferenceStats(
        service=service["metadata"]["name"], service_uid=service["metadata"]["uid"], edge="edge-2",
        worker=f"{service['metadata']['name']}-infer", incarnation="one", **facts,
    )  # fmt: skip
    await cloud.edges["edge-2"].port.publish(topics.INFERENCE_STATS, stats, service=stats.service, edge="edge-2",
                                             worker=stats.worker)  # fmt: skip


async def _on_trial(cloud: Any, name: str) -> InferTask:
    """Return the task of the serving edge once a candidate is beside its model."""
    async with asyncio.timeout(HANGS):
        while True:
            for task in (await cloud.edges["edge-2"].tasks.get()).tasks:
                if isinstance(task, InferTask) and task.job == name and task.candidate is not None:
                    return task


async def test_a_drift_that_an_edge_tells_begins_a_round(cloud: Any) -> None:
    await _made(cloud, "drifts", train={"all": [{"newSamples": 10}, {"drift": {"detector": "psi"}}]})
    service = await cloud.client.services.create({
        "kind": "JointInferenceService", "metadata": {"name": "drifts"},
        "spec": {"edgeWorker": {"model": {"name": "drifts"}, "scriptBootFile": "edge.py"}, "edges": ["edge-2"],
                 "drift": ["psi"]},
    })  # fmt: skip
    await _labelled(cloud, "drifts", *range(400, 410))
    await _until(cloud, "drifts", step="waiting")
    async with asyncio.timeout(HANGS):
        while not any(isinstance(task, InferTask) and task.job == "drifts" and task.inference.drift == ["psi"]
                      for task in (await cloud.edges["edge-2"].tasks.get()).tasks):  # fmt: skip
            pass
    now = cloud.edges["edge-2"].port.world.now()
    await _told(cloud, service, drift={"scores/psi": now - 3600.0, "features/psi": now})  # an old one, and of others
    await _told(cloud, service, drift={"scores/psi": now})
    await _task(cloud, "drifts", "train")
    status = await _until(cloud, "drifts", step="training")
    assert status["loop"]["trigger"] == "10 new samples, drift of scores on 100% of the edges (psi)"


@pytest.mark.parametrize(("name", "errors", "decision"), [("good", 0, "deployed"), ("faulty", 60, "rolled-back")])
async def test_a_canary_is_decided_by_what_the_edges_count(cloud: Any, name: str, errors: int, decision: str) -> None:
    canary = {"canary": {"share": 0.3, "leastRequests": 50, "watchSeconds": 0.2}}
    await _made(cloud, name, deployment=canary)
    service = await cloud.client.services.create({
        "kind": "JointInferenceService", "metadata": {"name": name},
        "spec": {"edgeWorker": {"model": {"name": name}, "scriptBootFile": "edge.py"}, "edges": ["edge-2"]},
    })  # fmt: skip
    await _labelled(cloud, name, *range(400 + len(name) * 20, 410 + len(name) * 20))
    await _train(cloud, await _task(cloud, name, "train"), value=len(name))
    await _judge(cloud, await _task(cloud, name, "evaluate"))
    task = await _on_trial(cloud, name)
    assert task.model is not None and task.candidate is not None
    assert (task.candidate.number, task.candidate.share) == (1, 0.3)
    assert (await cloud.client.models.versions(name))["aliases"] == {"champion": 0}, "what served still serves"
    served = VersionStats(requests=140, latencies={"4": 140})
    tried = VersionStats(requests=60, errors=errors, compared=60, agreed=55, latencies={"4": 60})
    await _counted(cloud, service, **{task.model.digest: served, task.candidate.model.digest: tried})
    status = await _ended(cloud, name)
    assert status["rounds"][0]["models"][name]["decision"] == decision
    document = await cloud.client.models.get(name)
    assert document["status"]["aliases"] == {"champion": 1 if decision == "deployed" else 0}
    assert "rollout" not in document["status"]
    await cloud.client.services.delete(name)


@pytest.mark.long
async def test_a_coordinator_that_follows_another_goes_on_at_every_step(cloud: Any) -> None:
    """It is killed in each step; candidate and verdict come while nobody leads; no sample is lost or new twice."""
    await _made(cloud, "killed", train={"newSamples": 12})
    ids = await _labelled(cloud, "killed", *range(500, 512))
    task = await _task(cloud, "killed", "train")
    for act, step in ((_train, "evaluate"), (_judge, "")):
        await cloud.cluster.kill("coordinator")
        await act(cloud, task)
        await cloud.cluster.start_coordinator()
        if step:
            task = await _task(cloud, "killed", step)
    status = await _ended(cloud, "killed")
    assert status["rounds"][0]["models"]["killed"]["decision"] == "deployed"
    await cloud.cluster.kill("coordinator")
    await cloud.cluster.start_coordinator()
    await _until(cloud, "killed", waiting=0, labelled=len(ids))
    await _labelled(cloud, "killed", *range(512, 519))
    await _until(cloud, "killed", waiting=7, round=1)


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
        await cloud.client.incremental_jobs.create(_job("bad", **change))
    assert field in (refused.value.field or "")


async def test_a_job_without_its_queue_waits_and_says_for_what(cloud: Any) -> None:
    await cloud.client.incremental_jobs.create(_job("alone"))
    async with asyncio.timeout(HANGS):
        async for document in cloud.client.incremental_jobs.watch("alone"):
            told = [each["message"] for each in document["status"]["conditions"]]
            if told:
                break
    assert "label queue alone does not exist" in told[0] and "model alone does not exist" in told[0]
    await _made_later(cloud, "alone")
    await _until(cloud, "alone", phase="Running")
    with pytest.raises(Refused, match="incremental job alone needs"):
        await cloud.client.labels.delete("alone")
    with pytest.raises(Refused, match=r"spec\.location"):
        await cloud.client.incremental_jobs.update(_job("alone", location="edge"))
    with pytest.raises(Refused, match=r"spec\.labels: expected alone, as the job was made, got another"):
        await cloud.client.incremental_jobs.update(_job("alone", labels={"name": "another"}))
    await cloud.client.incremental_jobs.update(_job("alone", labels={"name": "alone"}))  # the one that it has
    await cloud.client.incremental_jobs.delete("alone")
    await cloud.client.labels.delete("alone")


@pytest.mark.parametrize("type", ["number", "text", "choices", "regions"])
async def test_labels_that_no_job_learns_are_refused_and_told_where_they_come_later(cloud: Any, type: str) -> None:
    schema = {"type": type, "classes": CLASSES if type in ("choices", "regions") else []}
    queue = {"kind": "LabelQueue", "metadata": {"name": f"of-{type}"}, "spec": {"labelSchema": schema}}
    await cloud.client.incremental_jobs.create(_job(f"of-{type}"))
    await cloud.client.labels.create(queue)
    async with asyncio.timeout(HANGS):
        async for document in cloud.client.incremental_jobs.watch(f"of-{type}"):
            told = [each["message"] for each in document["status"]["conditions"]]
            if told and "has labels" in told[0]:
                break
    assert f"label queue of-{type} has labels of the type {type}, and a job learns one class" in told[0]
    with pytest.raises(Refused, match=f"of-{type}, which has labels of the type {type}") as refused:
        await cloud.client.incremental_jobs.create(_job("another", labels={"name": f"of-{type}"}))
    assert refused.value.field == "spec.labels"
    await cloud.client.incremental_jobs.delete(f"of-{type}")
    await cloud.client.labels.delete(f"of-{type}")


async def _made_later(cloud: Any, name: str) -> None:
    await cloud.client.models.create({"kind": "Model", "metadata": {"name": name}})
    schema = {"labelSchema": {"classes": CLASSES}}
    await cloud.client.labels.create({"kind": "LabelQueue", "metadata": {"name": name}, "spec": schema})
