"""The task of a pair training job's worker, and the service that its pair becomes. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from heliograph.bus.contract.payloads import PairTask, WorkerAsk
from heliograph.bus.contract.resources import (
    JointInferenceService,
    JointInferenceServiceSpec,
    Metadata,
    PairTrainingJob,
    PinnedPackage,
    Side,
)
from heliograph.bus.contract.resources.joint_inference_service import HardSampleRule
from heliograph.bus.contract.worker_pods import pod_of, script_in
from heliograph.coordinator.api.parameters import values_of
from heliograph.coordinator.packages import package_of, with_defaults
from heliograph.core.names import join_labels
from heliograph.incremental.tasks import script_of

TRAINS: dict[str, Side] = {"training-cloud": "cloud", "training-edge": "edge"}
"""The model that a step trains."""
JOB_ANNOTATION = "edgeai.io/pair-job"
"""Annotation of a service that a job has created: the job's uid."""


def worker_of(job: PairTrainingJob) -> str:
    """Return the name of the job's worker. One that was given up has another name than the next."""
    restarts = job.status.restarts
    return join_labels(job.name, "pair", *([f"again-{restarts}"] if restarts else []))


def pair_task(
    job: PairTrainingJob, packages: Mapping[str, PinnedPackage], asks: WorkerAsk | None
) -> PairTask | None:
    """Return the task of the present step; None where the worker has nothing to do."""
    status, worker = job.status, job.spec.worker_spec
    step = status.step
    if status.phase != "Running" or step == "waiting" or step == "registering" or step == "serving" or step == "done":
        return None
    side = TRAINS.get(step)
    package = package_of(worker, packages, worker.train_script_arguments)
    deep, shallow = status.models.get("cloud"), status.models.get("edge")
    datasets = job.spec.datasets
    return PairTask(
        worker=worker_of(job),
        job=job.name,
        job_uid=job.metadata.uid,
        round=status.turn,
        script=None if package is not None else script_in(worker) or script_of(worker),
        package=package,
        pod=pod_of(worker, worker.resources, job.metadata.uid),
        parameters=values_of(with_defaults(worker, packages)),
        dataset=datasets["samples"],
        further_datasets={purpose: name for purpose, name in datasets.items() if purpose != "samples"},
        model=status.bases.get(side) if side is not None else None,
        step=step,
        plan=job.spec.plan,
        selection=status.selection if side is not None else None,
        cloud=deep.weights if deep is not None and step in ("training-edge", "measuring") else None,
        edge=shallow.weights if shallow is not None and step == "measuring" else None,
        classes=status.classes,
        asks=asks,
    )  # fmt: skip


def service_of(job: PairTrainingJob) -> JointInferenceService:
    """Return the service of a job that names one: its models, with the tuned rule once there is one."""
    given = job.spec.service
    assert given is not None
    tuning, figures = job.spec.tuning, job.status.figures
    rule = HardSampleRule(
        name=tuning.rule,
        parameters=figures.parameters if figures is not None else tuning.parameters,
        temperature=figures.temperature if figures is not None else 1.0,
    )
    fields = {name: getattr(given, name) for name in JointInferenceServiceSpec.model_fields}
    return JointInferenceService(
        metadata=Metadata(name=given.name or job.name, created_by=job.metadata.created_by,
                          annotations={JOB_ANNOTATION: job.metadata.uid}),
        spec=JointInferenceServiceSpec(**{**fields, "hard_sample_rule": rule}),
    )  # fmt: skip
