"""The versions that a pair becomes, with all that they were made of. Pure."""

from __future__ import annotations

from heliograph.bus.contract.pair_requests import PairedModel, PairModels
from heliograph.bus.contract.resources import SIDES, DatasetUse, ModelVersion, PairTrainingJob, Side


def version_of(job: PairTrainingJob, side: Side, now: str) -> ModelVersion:
    """Return the version that a trained model becomes, without a number: with all that it was made of."""
    status, trained, figures = job.status, job.status.models[side], job.status.figures
    assert figures is not None
    base = status.bases.get(side)
    alone, objective = getattr(figures, f"{side}_accuracy"), getattr(figures, f"{side}_objective")
    own = {"accuracy": alone, _objective(job, side): objective, "pair_accuracy": figures.after.accuracy,
           "pair_offload": figures.after.offload}  # fmt: skip
    purposes = [each for each in ("samples", "public") if each in status.datasets]
    source = status.datasets["evaluation" if "evaluation" in status.datasets else "samples"]
    return ModelVersion(
        version=0,
        weights=trained.weights,
        job=job.metadata.uid,
        job_name=job.name,
        round=status.run,
        metrics={**trained.metrics, **figures.metrics, **own},
        time=now,
        parent=base.digest if base is not None else "",
        teacher=_teacher(job, side),
        datasets=[status.datasets[each] for each in purposes],
        dataset_count=len(purposes),
        code=dict(status.code),
        evaluation_set=DatasetUse(name=source.name, edge=source.edge, version=figures.evaluation,
                                  samples=figures.measured_on),
    )  # fmt: skip


def models_of(job: PairTrainingJob) -> PairModels:
    """Answer what a job has made."""
    status = job.status
    found = []
    for side in SIDES:
        trained = status.models.get(side)
        name = (job.spec.edge if side == "edge" else job.spec.cloud).model.name
        found.append(
            PairedModel(side=side, model=name) if trained is None else
            PairedModel(side=side, model=name, digest=trained.weights.digest, version=trained.version,
                        samples=trained.samples, metrics=trained.metrics)
        )  # fmt: skip
    return PairModels(name=job.name, models=found, selected=status.selected, figures=status.figures,
                      service=status.service)  # fmt: skip


def _teacher(job: PairTrainingJob, side: Side) -> str:
    if side == "cloud" or not job.spec.distillation.share:
        return ""
    return job.status.models["cloud"].weights.digest


def _objective(job: PairTrainingJob, side: Side) -> str:
    return (job.spec.edge if side == "edge" else job.spec.cloud).objective
