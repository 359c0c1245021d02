"""The rounds of incremental learning jobs over a real broker: labels in, tasks of the training node, candidates and
verdicts back, versions out. The test plays the node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.payloads import (
    WorkerReport,
)
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.incremental.shards import ids_of
from tests.coordinator.features.incremental.played_node import (
    CLASSES,
    NODE,
    judge,
    label,
    make_job,
    read_shard,
    task_of,
    train,
    until,
    until_ended,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_labels_become_a_version_that_serves(cloud: Any, tmp_path: Path) -> None:
    await make_job(cloud, "life")
    ids = await label(cloud, "life", *range(20))
    task = await task_of(cloud, "life", "train")
    assert task.classes == CLASSES and task.model is not None
    trained: list[str] = []
    for each in task.shards:
        async with read_shard(cloud, each.weights, tmp_path) as shard:
            found = ids_of(shard)
            assert shard.numpy("y").tolist() == [int(id, 16) % 2 for id in found]
            trained += found
    await train(cloud, task)
    measure = await task_of(cloud, "life", "evaluate")
    assert measure.champion is not None and measure.champion.digest == task.model.digest
    held_out: list[str] = []
    for each in measure.shards:
        async with read_shard(cloud, each.weights, tmp_path) as shard:
            held_out += ids_of(shard)
    assert set(trained) | set(held_out) <= set(ids) and not set(trained) & set(held_out)
    assert trained and held_out, "by the hash of each sample"
    await judge(cloud, measure)
    status = await until_ended(cloud, "life")
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
    await make_job(cloud, "worse")
    await label(cloud, "worse", *range(100, 112))
    first = await task_of(cloud, "worse", "train")
    await train(cloud, first)
    await judge(cloud, await task_of(cloud, "worse", "evaluate"), "fails")
    status = await until_ended(cloud, "worse")
    assert [each["models"]["worse"]["decision"] for each in status["rounds"]] == ["refused"]
    told = [each for each in status["conditions"] if each["type"] == "Learning"]
    assert told[0]["status"] == "False" and "worse" in told[0]["message"]
    assert (await cloud.client.models.versions("worse"))["versions"][0]["version"] == 0
    await label(cloud, "worse", *range(112, 124))
    second = await task_of(cloud, "worse", "train", 2)
    assert second.model == first.model
    assert {each.number for each in first.shards} < {each.number for each in second.shards}


async def test_what_comes_from_another_node_or_round_changes_nothing(cloud: Any) -> None:
    await make_job(cloud, "strange")
    await label(cloud, "strange", *range(200, 210))
    task = await task_of(cloud, "strange", "train")
    await train(cloud, task, edge="edge-2")
    for changes in ({"round": 2}, {"base": "0" * 64}, {"job_uid": "another"}, {"model": "other"}, {"attempt": 2}):
        await train(cloud, task, **changes)
    await train(cloud, task)
    measure = await task_of(cloud, "strange", "evaluate")
    await judge(cloud, measure, candidate="0" * 64)
    await judge(cloud, measure, round=3)
    await judge(cloud, measure, "fails")
    status = await until_ended(cloud, "strange")
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
    await make_job(cloud, name, attempts=2)
    await label(cloud, name, *range(200, 210))
    task = await task_of(cloud, name, "train")
    await train(cloud, task, **changes)
    again = await task_of(cloud, name, "train", attempt=2)
    assert again.worker != task.worker and again.shards == task.shards
    await train(cloud, again, **changes)
    status = await until_ended(cloud, name)
    outcome = status["rounds"][0]["models"][name]
    assert outcome["decision"] == "failed" and "its candidate was refused: " in outcome["reason"]
    assert (await cloud.client.models.versions(name))["versions"][0]["version"] == 0, "it is no version"
    assert status["loop"]["notBefore"], "its samples wait for the next round, after a pause"


@pytest.mark.parametrize("step", ["train", "evaluate"])
async def test_a_worker_that_crashes_fails_its_round_and_its_samples_wait(cloud: Any, step: str) -> None:
    name = f"crash-{step}"
    await make_job(cloud, name, attempts=2)
    await label(cloud, name, *range(200, 210))
    task = await task_of(cloud, name, "train")
    if step == "evaluate":
        await train(cloud, task)
        task = await task_of(cloud, name, "evaluate")
    report = WorkerReport(worker=task.worker, role="learn", job=name, job_uid=task.job_uid, round=1,
                          state="backing-off", restarts=1, detail="exit code 139")  # fmt: skip
    await cloud.reported(NODE, workers=[report])
    assert (await cloud.client.incremental_jobs.get(name))["status"]["rounds"] == [], "its agent starts it again"
    await cloud.reported(NODE, workers=[report.model_copy(update={"restarts": 2})])
    status = await until_ended(cloud, name)
    assert status["rounds"][0]["models"][name]["decision"] == "failed"
    assert status["rounds"][0]["models"][name]["reason"].endswith(": exit code 139")
    assert status["loop"]["failures"] == 1 and status["loop"]["notBefore"]
    waiting = 10 if step == "train" else 0
    await until(cloud, name, waiting=waiting - sum(each["samples"] for each in status["loop"]["shards"]
                                                    if each["heldOut"] and waiting))  # fmt: skip
    await cloud.reported(NODE)


async def test_a_worker_that_hangs_is_replaced_and_fails_its_round_in_the_end(cloud: Any) -> None:
    await make_job(cloud, "hangs", attempts=2, stepDeadlineSeconds=1.0)
    await label(cloud, "hangs", *range(200, 210))
    first = await task_of(cloud, "hangs", "train")
    second = await task_of(cloud, "hangs", "train", attempt=2)
    assert second.worker != first.worker, "the one that hangs is ended"
    status = await until_ended(cloud, "hangs")
    assert status["rounds"][0]["models"]["hangs"]["reason"] == "training: it has not ended in 1 s"
