"""Jobs whose location is the edge: what each edge's agent is told, and what it tells of its own loop. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.payloads import EdgeLoop
from heliograph.bus.contract.resources import IncrementalLearningJob, JointInferenceService, PinnedPackage, resolve
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.resources.incremental_learning_job import LearnedModel
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.packages import names_of, package_of, pinned, with_defaults

EDGES_SHOWN = 256
"""Edges that a status shows at most."""


def placement(job: IncrementalLearningJob, view: View) -> list[str]:
    """Return the known edges that run the job's loop, online or not; ``all`` means every edge except the cloud."""
    return view.serving(job.project).selected(job.spec.deployment.edges)


def is_told(job: IncrementalLearningJob) -> bool:
    """Return whether edges are told of a job: while it runs, and while it is stopped, so that they keep their loops."""
    return job.spec.location == "edge" and job.status.phase in ("Running", "Stopped")


def loop_of(job: IncrementalLearningJob, services: Iterable[JointInferenceService], view: View) -> EdgeLoop:
    """Return what the agents are told of a job.

    Args:
        services: all services; those of the job's models are named.
    """
    of_model: dict[str, list[str]] = {each.model.name: [] for each in job.spec.models}
    for service in services:
        if (name := service.spec.edge_worker.model.name) in of_model:
            of_model[name].append(service.name)
    models: dict[str, WeightsRef] = {}
    for each in job.spec.models:
        model = view.models.get(each.model.name)
        version = resolve(model) if model is not None else None
        if version is not None:
            models[each.model.name] = _in_bucket(version.weights)
    packages = pinned(names_of(job), view)
    learned = {each.model.name: package_of(each.worker_spec, packages, each.worker_spec.train_script_arguments)
               for each in job.spec.models}  # fmt: skip
    spec = job.spec.model_copy(update={"models": [with_package_defaults(each, packages) for each in job.spec.models]})
    return EdgeLoop(
        uid=job.metadata.uid,
        queue=job.queue,
        spec=spec,
        generation=job.metadata.generation,
        models=models,
        services=of_model,
        packages={name: package for name, package in learned.items() if package is not None},
        asked=dict(job.status.asked),
        stopped=job.status.phase == "Stopped",
    )  # fmt: skip


def with_package_defaults(learned: LearnedModel, packages: Mapping[str, PinnedPackage]) -> LearnedModel:
    """Return a model of a job with its package's defaults for the parameters that the job does not give."""
    worker = learned.worker_spec
    worker = worker.model_copy(update={"parameters": with_defaults(worker, packages)})
    return learned.model_copy(update={"worker_spec": worker})


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
