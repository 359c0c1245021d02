"""Jobs whose location is the edge: what each edge's agent is told, and what it tells of its own loop. Pure."""

from __future__ import annotations

from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.payloads import EdgeLoop, PackageSpec
from heliograph.bus.contract.resources import IncrementalLearningJob, resolve
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.resources.federated_task import WorkerSpec
from heliograph.coordinator.edges.view import View

EDGES_SHOWN = 256
"""Edges that a status shows at most."""


def placement(job: IncrementalLearningJob, view: View) -> list[str]:
    """Return the known edges that run the job's loop, online or not; ``all`` means every edge except the cloud."""
    return view.selected(job.spec.deployment.edges)


def loop_of(job: IncrementalLearningJob, view: View) -> EdgeLoop:
    """Return what the agents are told of a job."""
    models: dict[str, WeightsRef] = {}
    for each in job.spec.models:
        model = view.models.get(each.model.name)
        version = resolve(model) if model is not None else None
        if version is not None:
            models[each.model.name] = _in_bucket(version.weights)
    return EdgeLoop(
        uid=job.metadata.uid,
        queue=job.queue,
        spec=job.spec,
        generation=job.metadata.generation,
        models=models,
        packages={each.model.name: package for each in job.spec.models
                  if (package := package_of(each.worker_spec, view)) is not None},
        asked=dict(job.status.asked),
    )  # fmt: skip


def package_of(worker: WorkerSpec, view: View) -> PackageSpec | None:
    """Return the package that a worker names, as its agent gets it."""
    algorithm = view.packages.get(worker.algorithm.name) if worker.algorithm is not None else None
    package = algorithm.spec.package if algorithm is not None else None
    if algorithm is None or package is None:
        return None
    return PackageSpec(algorithm=algorithm.name, digest=package.digest, size=package.size,
                       arguments=worker.train_script_arguments, signature=package.signature)  # fmt: skip


def observed(job: IncrementalLearningJob, view: View) -> IncrementalLearningJob:
    """Return the job with what its edges report."""
    found = {}
    for edge in placement(job, view):
        report = view.edges[edge].report
        told = report.loops.get(job.name) if report is not None else None
        if told is not None and told.uid == job.metadata.uid:
            found[edge] = told.state
    metrics = [each.metric for each in found.values() if each.metric is not None]
    changes = {
        "edges": dict(list(found.items())[:EDGES_SHOWN]),
        "waiting": sum(each.waiting for each in found.values()),
        "metric": sum(metrics) / len(metrics) if metrics else job.status.metric,
    }
    status = job.status.model_copy(update=changes)
    return job if status == job.status else job.model_copy(update={"status": status})


def asked(job: IncrementalLearningJob, step: str) -> IncrementalLearningJob:
    """Ask every edge for a step by hand."""
    counts = {**job.status.asked, step: job.status.asked.get(step, 0) + 1}
    return job.model_copy(update={"status": job.status.model_copy(update={"asked": counts})})


def _in_bucket(weights: WeightsRef) -> WeightsRef:
    """Return the reference to weights in the models' bucket: a desired document has no room for the bytes."""
    return weights if weights.inline is None else weights.model_copy(update={"inline": None, "bucket": MODELS})
