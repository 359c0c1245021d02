"""A scenario's job as a FederatedTask document, as any client would send it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heliograph.bus.contract.registry import parse_resource
from heliograph.simulations.scenario.document import Job

DATASET = "samples"
"""Name of each edge's data set."""
HELD_OUT_SET = "held-out"
"""Name of the cloud's data set for evaluation."""


@dataclass(frozen=True)
class Naming:
    """A stage's names for the training script and for each edge's data set; no data set if the script has its own."""

    script: str = "training_script.py"
    dataset: str = DATASET


DEFAULT_NAMING = Naming()


def model(job: Job) -> dict[str, Any]:
    """Return the job's model document. It has no weights: training starts with the first participant's initial ones."""
    return {"kind": "Model", "metadata": {"name": job.name}}


def federated_task(job: Job, edges: Sequence[str], naming: Naming = DEFAULT_NAMING) -> dict[str, Any]:
    """Return the job's document.

    ``participants: all`` gives one training worker for all edges that are online when the job begins. With a number,
    participants are drawn from all edges in each round: every edge gets a training worker of its own, and all must be
    online.
    Raises Refused if the resource's model refuses the document.
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
