"""Pair training jobs over a real broker: tasks of the training node, results back, versions and a service out. The test
plays the node."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract import topics
from heliograph.bus.contract import weights_file as tensors
from heliograph.bus.contract.payloads import Generation, PairResult, PairTask, Report, WorkerReport
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources import DatasetIndex, PairFigures, SelectionFigures
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.errors import Refused, Unreachable
from tests.patience import HANGS

pytestmark = pytest.mark.asyncio(loop_scope="module")

NODE = "edge-1"
STEPS = ("selecting", "training-cloud", "training-edge", "measuring")
SERVICE = {"edgeWorker": {"scriptBootFile": "serve.py"}, "cloudWorker": {"scriptBootFile": "serve.py"}}


def _document(name: str, **spec: Any) -> dict[str, Any]:
    fields = {"samples": {"name": "mine"}, "nodeName": NODE, "workerSpec": {"trainScriptBootFile": "pair.py"},
              "edge": {"model": {"name": f"{name}-shallow"}}, "cloud": {"model": {"name": f"{name}-deep"}}}  # fmt: skip
    return {"kind": "PairTrainingJob", "metadata": {"name": name}, "spec": fields | spec}


async def _has(cloud: Any, version: str = "v1", *workers: WorkerReport) -> None:
    """Let the node report its data set, and wait until the coordinator knows it."""
    number = f"0.2.{next(cloud.reports)}"
    index = DatasetIndex(name="mine", samples=100, version=version)
    report = Report(edge=NODE, observed=Generation(), datasets=[index], workers=list(workers), version=number)
    await cloud.edges[NODE].port.publish(topics.REPORT, report, edge=NODE)
    async with asyncio.timeout(HANGS):
        while (await cloud.client.edges.get(NODE))["status"].get("version") != number:
            await asyncio.sleep(0.01)


async def _task(cloud: Any, name: str, step: str, above: int = 0) -> PairTask:
    """Return the node's task of that step once it is asked, in a turn above that one."""
    async with asyncio.timeout(HANGS):
        while True:
            for task in (await cloud.edges[NODE].tasks.get()).tasks:
                if isinstance(task, PairTask) and (task.job, task.step) == (name, step) and task.round > above:
                    return task


def _made(task: PairTask, **changes: Any) -> PairResult:
    weights = tensors.write({"w": np.full(3, task.round, np.float32)}, Path("/nonexistent"))
    made: dict[str, Any] = {"weights": weights}
    if task.step == "measuring":
        joint = {"accuracy": 0.9, "offload": 0.25}
        made = {"figures": PairFigures.model_validate({
            "evaluation": "e" * 64, "measuredOn": 40, "after": joint, "temperature": 2.0,
            "parameters": [{"key": "value", "value": 0.6}],
        })}  # fmt: skip
    elif task.step == "selecting":
        made["selected"] = SelectionFigures(public=10, selected=4)
    fields = {"job": task.job, "job_uid": task.job_uid, "round": task.round, "step": task.step, "edge": NODE}
    return PairResult(**{**fields, **made, **changes})


async def _answer(cloud: Any, task: PairTask, edge: str = NODE, **changes: Any) -> None:
    result = _made(task, **changes)
    await cloud.edges[edge].port.publish(topics.PAIR_RESULT, result, job=task.job, edge=edge)


async def _ended(cloud: Any, name: str) -> dict[str, Any]:
    """Return the job's status once it has ended, whichever coordinator leads."""
    async with asyncio.timeout(HANGS):
        while True:
            with suppress(Unreachable):
                async for document in cloud.client.pair_jobs.watch(name):
                    if document["status"]["phase"] in ("Succeeded", "Failed"):
                        return dict(document["status"])


async def test_results_become_two_versions_and_a_service_with_the_tuned_rule(cloud: Any) -> None:
    made = await cloud.client.pair_jobs.create(_document("whole", service=SERVICE))
    assert made["status"]["phase"] == "Pending", made["status"]
    await _has(cloud)
    for step in STEPS:
        task = await _task(cloud, "whole", step)
        assert task.dataset == "mine" and task.worker == "whole-pair"
        await _answer(cloud, task)
        await _answer(cloud, task)  # it may come twice
    status = await _ended(cloud, "whole")
    assert (status["phase"], status["service"]) == ("Succeeded", "whole")
    told = await cloud.client.pair_jobs.models("whole")
    assert [(each["side"], each["version"]) for each in told["models"]] == [("cloud", 1), ("edge", 1)]
    assert told["selected"]["selected"] == 4 and told["figures"]["after"]["accuracy"] == 0.9
    version = (await cloud.client.models.versions("whole-shallow"))["versions"][0]
    assert version["teacher"] == told["models"][0]["digest"] and version["jobName"] == "whole"
    assert version["datasets"] == [{"name": "mine", "edge": NODE, "version": "v1", "samples": 100}]
    assert version["evaluationSet"]["version"] == "e" * 64
    service = await cloud.client.services.get("whole")
    assert service["spec"]["hardSampleRule"]["parameters"] == [{"key": "value", "value": 0.6}]
    assert service["spec"]["hardSampleRule"]["temperature"] == 2.0
    with pytest.raises(Refused, match="Make another job"):
        await cloud.client.pair_jobs.start("whole")
    same = await cloud.client.pair_jobs.create(_document("whole", service=SERVICE))
    assert same["status"]["phase"] == "Succeeded", "the same document again changes nothing"
    with pytest.raises(Refused, match="name that is free"):
        await cloud.client.pair_jobs.create(_document("second", service={**SERVICE, "name": "whole"}))


async def test_what_comes_from_elsewhere_changes_nothing_and_a_damaged_file_begins_the_step_again(cloud: Any) -> None:
    await _has(cloud)
    await cloud.client.pair_jobs.create(_document("strange", attempts=2))
    task = await _task(cloud, "strange", "selecting")
    await _answer(cloud, task, edge="edge-2")
    await _answer(cloud, task, round=task.round + 1)
    await _answer(cloud, task, job_uid="another")
    damaged = WeightsRef(digest="0" * 64, size=4, inline=b"junk")
    await _answer(cloud, task, weights=damaged)
    again = await _task(cloud, "strange", "selecting", task.round)
    assert again.worker != task.worker, "another worker, since this one makes damaged files"
    elsewhere = WeightsRef(digest="1" * 64, size=9, bucket="uploads-edge-2")
    await _answer(cloud, again, weights=elsewhere)
    status = await _ended(cloud, "strange")
    assert status["phase"] == "Failed" and upload_bucket(NODE) in status["reason"]


async def test_a_blob_that_fails_its_digest_never_becomes_a_model(cloud: Any, tmp_path: Path) -> None:
    await _has(cloud)
    await cloud.client.pair_jobs.create(_document("torn", attempts=1))
    await _answer(cloud, await _task(cloud, "torn", "selecting"))
    task = await _task(cloud, "torn", "training-cloud")
    nobody_has_it = WeightsRef(digest=sha256(b"gone").hexdigest(), size=1000, bucket=upload_bucket(NODE))
    await _answer(cloud, task, weights=nobody_has_it)
    status = await _ended(cloud, "torn")
    assert status["phase"] == "Failed" and status["reason"].startswith("training-cloud: ")
    assert "models" not in status or "cloud" not in status["models"]


async def test_a_failing_worker_fails_the_job_and_other_data_begin_it_anew(cloud: Any) -> None:
    await _has(cloud)
    await cloud.client.pair_jobs.create(_document("ill"))
    await _answer(cloud, await _task(cloud, "ill", "selecting"))
    task = await _task(cloud, "ill", "training-cloud")
    crashed = WorkerReport(worker=task.worker, role="pair", job="ill", job_uid=task.job_uid, round=task.round,
                           state="failed", detail="error: weights are not finite", final=True)  # fmt: skip
    await _has(cloud, "v1", crashed)
    status = await _ended(cloud, "ill")
    assert status["reason"] == "training-cloud: error: weights are not finite"
    with pytest.raises(Refused, match="which pair job"):
        await cloud.client.pair_jobs.start("ill")
        await cloud.client.datasets.delete("mine")
    on = await _task(cloud, "ill", "training-cloud", task.round)
    assert on.selection is not None and on.worker != task.worker
    await _has(cloud, "v2")
    anew = await _task(cloud, "ill", "selecting", on.round)
    assert anew.selection is None and anew.worker not in (task.worker, on.worker)
    with pytest.raises(Refused, match="Stop the job first"):
        await cloud.client.pair_jobs.update(_document("ill", selection={"count": 5}))
    await cloud.client.pair_jobs.stop("ill")
    changed = await cloud.client.pair_jobs.update(_document("ill", selection={"count": 5}))
    assert changed["status"]["step"] == "waiting"
    await cloud.client.pair_jobs.delete("ill")


async def test_a_bad_rule_or_service_is_refused_before_anything_is_trained(cloud: Any) -> None:
    for spec, field in (
        ({"tuning": {"rule": "frob"}}, "spec.tuning.rule"),
        ({"tuning": {"parameters": [{"key": "frob", "value": 1}]}}, r"spec.tuning.parameters\[0\].key"),
        ({"service": {**SERVICE, "deadlineSeconds": -1}}, "deadlineSeconds"),
    ):
        with pytest.raises(Refused, match=field):
            await cloud.client.pair_jobs.create(_document("bad", nodeName="cloud", **spec))


@pytest.mark.long
async def test_a_coordinator_that_follows_another_goes_on_at_every_step(cloud: Any) -> None:
    """It is killed in each step, and the step's result comes while nobody leads."""
    await _has(cloud)
    await cloud.client.pair_jobs.create(_document("killed", service=SERVICE))
    for step in STEPS:
        task = await _task(cloud, "killed", step)
        await cloud.cluster.kill("coordinator")
        await _answer(cloud, task)
        await cloud.cluster.start_coordinator()
    status = await _ended(cloud, "killed")
    assert (status["phase"], status["service"], status["run"]) == ("Succeeded", "killed", 1)
    for side in ("shallow", "deep"):
        versions = (await cloud.client.models.versions(f"killed-{side}"))["versions"]
        assert [each["version"] for each in versions] == [1], "registered once"
