"""A scenario's job as the FederatedTask document that any client would send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heliograph.bus.contract.registry import parse_resource
from heliograph.simulations.scenario.document import Job

DATASET = "samples"
"""What each edge offers."""
HELD_OUT_SET = "held-out"
"""What the cloud offers to measure on."""


@dataclass(frozen=True)
class Naming:
    """What a stage calls its training script, and the data set of each edge; empty where the script brings its own."""

    script: str = "training.py"
    dataset: str = DATASET


USUAL = Naming()


def model(job: Job) -> dict[str, Any]:
    """The job's model: no weights, the first participant's initial ones are where training starts."""
    return {"kind": "Model", "metadata": {"name": job.name}}


def federated_task(job: Job, edges: Sequence[str], naming: Naming = USUAL) -> dict[str, Any]:
    """The job's document.

    ``participants: all`` is one worker for whoever is there when it begins; a number is drawn anew for each round
    out of all edges, so each of them is a worker of its own, and all have to be there.
    Raises Refused where the resource's model does not take it.
    """
    worker: dict[str, Any] = {
        "trainScriptBootFile": naming.script,
        "parameters": [{"key": key, "value": value} for key, value in job.training.model_dump().items()],
    }
    if naming.dataset:
        worker["dataset"] = {"name": naming.dataset}
    workers: list[dict[str, Any]] = [{"name": "train", "workerSpec": worker}]
    if job.participants != "all":
        workers = [{"name": edge, "nodeName": edge} for edge in edges]
        workers[0]["workerSpec"] = worker
    algorithm = {**job.parameters, "rounds_between_validations": job.evaluate_every}
    spec: dict[str, Any] = {
        "aggregationWorker": {
            "model": {"name": job.name},
            "workerSpec": {
                "aggregationAlgorithm": job.algorithm,
                "parameters": [{"key": key, "value": value} for key, value in algorithm.items()],
            },
        },
        "trainingWorkers": workers,
        "evaluationWorker": {"dataset": {"name": HELD_OUT_SET}},
        "participants": {"all": True} if job.participants == "all" else {"count": job.participants},
        "rounds": job.rounds,
        "roundDeadlineSeconds": job.deadline,
    }
    if job.quorum is not None:
        spec["quorum"] = job.quorum
    document = {"kind": "FederatedTask", "metadata": {"name": job.name}, "spec": spec}
    parse_resource(document)
    return document
