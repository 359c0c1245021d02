"""The node that trains for an incremental learning job, its labeller, and the edges that serve, played by a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.bus.blob_sources import CloudBlobs
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
)
from heliograph.bus.contract.resources import GateFigures
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.errors import Unreachable
from heliograph.label_client import Labeller
from tests.patience import HANGS

CLASSES = ["cat", "dog"]
NODE = "edge-1"


def weights_of(number: int) -> WeightsRef:
    content = tensors.dumps({"x": np.full(2, number, np.float32)})
    return WeightsRef(digest=sha256(content).hexdigest(), size=len(content), inline=content)


def job_document(name: str, **spec: Any) -> dict[str, Any]:
    learned = {"model": {"name": name}, "nodeName": NODE, "workerSpec": {"trainScriptBootFile": "learn.py"}}
    fields = {"models": [learned], "train": {"newSamples": 8}, "evaluation": {"heldOut": 40}} | spec
    return {"kind": "IncrementalLearningJob", "metadata": {"name": name}, "spec": fields}


async def make_job(cloud: Any, name: str, **spec: Any) -> None:
    """Create a job with its model, which has declared weights, and its queue."""
    for edge in (NODE, "edge-2"):
        if not (await cloud.client.edges.get(edge))["status"].get("version"):
            await cloud.reported(edge)
    weights = tensors.write({"w": np.zeros(3, np.float32)}, Path("/nonexistent"))
    model = {"kind": "Model", "metadata": {"name": name}, "spec": {"weights": weights.model_dump(mode="json")}}
    await cloud.client.models.create(model)
    schema = {"labelSchema": {"classes": CLASSES}}
    await cloud.client.labels.create({"kind": "LabelQueue", "metadata": {"name": name}, "spec": schema})
    await cloud.client.incremental_jobs.create(job_document(name, **spec))


async def label(cloud: Any, name: str, *numbers: int) -> list[str]:
    """Bring hard samples, and label them all. Return their ids."""
    refs = [weights_of(number) for number in numbers]
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


async def task_of(cloud: Any, name: str, step: str, round: int = 1, attempt: int = 1) -> LearnTask:
    """Return the node's task of that step once it is asked."""
    async with asyncio.timeout(HANGS):
        while True:
            desired = await cloud.edges[NODE].tasks.get()
            for task in desired.tasks:
                if isinstance(task, LearnTask) and (task.job, task.step, task.round, task.attempt, task.active) == (
                    name, step, round, attempt, True,
                ):  # fmt: skip
                    return task


async def until(cloud: Any, name: str, **wanted: Any) -> dict[str, Any]:
    """Return the job's status once it, or its loop, says all that, whichever coordinator leads."""
    async with asyncio.timeout(HANGS):
        while True:
            with suppress(Unreachable):
                async for document in cloud.client.incremental_jobs.watch(name):
                    status: dict[str, Any] = document["status"]
                    if all(wanted[key] in (status.get(key), status["loop"].get(key)) for key in wanted):
                        return status


async def until_ended(cloud: Any, name: str, round: int = 1) -> dict[str, Any]:
    """Return the job's status once that round has ended; the next one may have begun."""
    async with asyncio.timeout(HANGS):
        while True:
            with suppress(Unreachable):
                async for document in cloud.client.incremental_jobs.watch(name):
                    if [each for each in document["status"]["rounds"] if each["round"] == round]:
                        return dict(document["status"])


async def train(cloud: Any, task: LearnTask, value: float = 1.0, edge: str = NODE, **changes: Any) -> Candidate:
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


async def judge(
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
async def read_shard(cloud: Any, ref: WeightsRef, directory: Path) -> AsyncIterator[tensors.TensorFile]:
    store = CloudBlobs(cloud.edges[NODE].port, NODE)
    with tensors.TensorFile(await store.fetch(ref, directory / ref.digest)) as shard:
        yield shard


async def count(cloud: Any, service: dict[str, Any], **versions: VersionStats) -> None:
    await tell(cloud, service, by_edge=sum(each.requests for each in versions.values()), versions=versions)


async def tell(cloud: Any, service: dict[str, Any], **facts: Any) -> None:
    stats = InferenceStats(
        service=service["metadata"]["name"], service_uid=service["metadata"]["uid"], edge="edge-2",
        worker=f"{service['metadata']['name']}-infer", incarnation="one", **facts,
    )  # fmt: skip
    await cloud.edges["edge-2"].port.publish(topics.INFERENCE_STATS, stats, service=stats.service, edge="edge-2",
                                             worker=stats.worker)  # fmt: skip


async def on_trial(cloud: Any, name: str) -> InferTask:
    """Return the task of the serving edge once a candidate is beside its model."""
    async with asyncio.timeout(HANGS):
        while True:
            for task in (await cloud.edges["edge-2"].tasks.get()).tasks:
                if isinstance(task, InferTask) and task.job == name and task.candidate is not None:
                    return task
