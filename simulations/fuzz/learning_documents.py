"""The documents of a plan's learning jobs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from heliograph.core.names import CLOUD
from heliograph.simulations.fuzz.learning_plan import PUBLIC, SAMPLES, LearningJob, PairJob
from heliograph.simulations.fuzz.learning_record import ACCURATE, CLASSES, HELD_OUT, first_version
from heliograph.simulations.virtual.virtual_cluster import SCRIPT

DEADLINE = 60.0
"""Seconds after which a step that has not ended counts as hanging."""
_SCRIPT = {"scriptBootFile": SCRIPT}
_TRAINS = {"trainScriptBootFile": SCRIPT}
_CANARY = {"share": 0.5, "leastRequests": 20, "deadlineSeconds": 20, "watchSeconds": 1, "mostErrors": 0.1}


def of_learning_job(job: LearningJob) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the resources of a job in the order of their creation, each with its plural."""
    weights = first_version(job).model_dump(mode="json", exclude_none=True)
    yield "models", _document("Model", job.name, {"weights": weights} if job.declared else {})
    queue = {"labelSchema": {"classes": list(CLASSES)}, "overlap": job.overlap, "leaseSeconds": job.lease,
             "location": job.location}  # fmt: skip
    yield "labels", _document("LabelQueue", job.name, queue)
    service = {"edgeWorker": {"model": {"name": job.name}, **_SCRIPT}, "hardSampleRule": {"name": "always"},
               "hardSamplesTo": job.name, "edges": {"names": list(job.edges)}}  # fmt: skip
    yield "services", _document("JointInferenceService", job.name, service)
    yield "incremental-jobs", incremental_job(job)


def incremental_job(job: LearningJob) -> dict[str, Any]:
    """Return the document of the job itself."""
    any_of = [{"newSamples": job.new_samples}, *([{"everySeconds": job.every}] if job.every else [])]
    spec: dict[str, Any] = {
        "models": [{"model": {"name": job.name}, "nodeName": job.node, "workerSpec": _TRAINS}],
        "location": job.location,
        "train": {"any": any_of},
        "evaluation": {"heldOut": HELD_OUT},
        "gate": {"leastSupport": 1},
        "deployment": {"edges": {"names": list(job.edges)}, **({"canary": _CANARY} if job.canary else {})},
        "stepDeadlineSeconds": DEADLINE,
    }
    if job.rounds:
        spec["stop"] = {"rounds": job.rounds}
    return _document("IncrementalLearningJob", job.name, spec)


def of_pair_job(job: PairJob) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the resources of a pair job in the order of their creation, each with its plural."""
    for side in ("edge", "cloud"):
        yield "models", _document("Model", model_of(job, side), {})
    spec: dict[str, Any] = {
        "samples": {"name": SAMPLES},
        "nodeName": job.node,
        "workerSpec": _TRAINS,
        "edge": {"model": {"name": model_of(job, "edge")}},
        "cloud": {"model": {"name": model_of(job, "cloud")}},
        "evaluation": {"leastAccuracy": ACCURATE},
        "stepDeadlineSeconds": DEADLINE,
    }
    if job.public:
        spec["public"] = {"name": PUBLIC}
    if job.service:
        spec["service"] = {"edgeWorker": _SCRIPT, "cloudWorker": {**_SCRIPT, "nodeName": CLOUD}}
    yield "pair-jobs", _document("PairTrainingJob", job.name, spec)


def model_of(job: PairJob, side: str) -> str:
    """Return the name of the shallow or the deep model of a pair."""
    return f"{job.name}-{side}"


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name}, "spec": spec}
