"""Tasks of workers that are pods, for tests of their Jobs."""

from __future__ import annotations

from typing import Any

from heliograph.bus.contract.payloads import ScriptSpec, TrainTask, WorkerAsk
from heliograph.bus.contract.resources import FederatedTask
from heliograph.bus.contract.resources.node_resources import WorkerResources
from heliograph.bus.contract.resources.worker_spec import WorkerSpec
from heliograph.bus.contract.worker_pods import pod_of, script_in
from heliograph.coordinator.kubernetes.worker_job import HOSTNAME, PodSettings

IMAGE = "registry.example.com/team/trainer:1.4"
CLOUD_ID = "cloud-1"
NODES = {"edge-1": {HOSTNAME: "node-1.site.example"}}
ALLOWING = PodSettings(images=("registry.example.com/team/",))


def spec_of(**fields: Any) -> WorkerSpec:
    return WorkerSpec.model_validate({"image": IMAGE, **fields})


def train_task(uid: str = "u", *, active: bool = True, worker: str = "job-worker", **fields: Any) -> TrainTask:
    """Return the training task of a worker whose spec has these fields."""
    spec = spec_of(**fields)
    resources = spec.resources or WorkerResources()
    return TrainTask(
        worker=worker, job="job", job_uid=uid, round=1, active=active,
        script=script_in(spec) or ScriptSpec(boot_file="train.py"), pod=pod_of(spec, spec.resources, uid),
        asks=WorkerAsk(memory=resources.memory_bytes, gpus=resources.gpus),
    )  # fmt: skip


def federated(*workers: dict[str, Any]) -> FederatedTask:
    """Return a federated task whose training workers have these specs."""
    training = [{"name": f"w{number}", "workerSpec": each} for number, each in enumerate(workers)]
    return FederatedTask.model_validate({
        "metadata": {"name": "job", "uid": "u"},
        "spec": {"aggregationWorker": {"model": {"name": "m"}}, "trainingWorkers": training},
    })  # fmt: skip
