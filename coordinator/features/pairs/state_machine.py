"""What becomes of a pair training job, step by step. Pure.

Every function returns the job after something happened, and the same object where that changes nothing: a result that
answers another turn than the present one, or that comes twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from heliograph.bus.contract.payloads import PairResult, WorkerReport
from heliograph.bus.contract.resources import (
    PAIR_ENDED,
    Condition,
    DatasetUse,
    PairFigures,
    PairTrainingJob,
    PairTrainingJobStatus,
    Side,
    TrainedModel,
    WeightsRef,
    condition,
)
from heliograph.coordinator.features.pairs.tasks import TRAINS, worker_of
from heliograph.incremental.loop import seconds
from heliograph.incremental.troubles import gives_up

WORKER_STEPS = ("selecting", "training-cloud", "training-edge", "measuring")
LEFT = "the script left its loop over parts() before the job had ended"


def waits(job: PairTrainingJob, what: Iterable[str], now: str) -> PairTrainingJob:
    """Tell what a job that cannot begin, or cannot go on, waits for."""
    waiting = Condition(type="Ready", status="False", reason="Missing", message="; ".join(what)[:2000])
    return _with(job, conditions=condition(job.status.conditions, waiting, now))


def has_waited(job: PairTrainingJob) -> bool:
    """Return whether the job still tells of something that was missing."""
    return any(each.type == "Ready" and each.status == "False" for each in job.status.conditions)


def goes_on(job: PairTrainingJob, now: str) -> PairTrainingJob:
    """Say that nothing is missing any more. The step's deadline counts from now."""
    ready = Condition(type="Ready", status="True", reason="AllThere")
    return _with(job, step_since=now, conditions=condition(job.status.conditions, ready, now))


def begun(
    job: PairTrainingJob, datasets: Mapping[str, DatasetUse], bases: Mapping[Side, WeightsRef], results_from: int,
    now: str,
) -> PairTrainingJob:  # fmt: skip
    """Begin a run: from the first step, on these versions of the data sets."""
    job = goes_on(job, now)
    fresh = PairTrainingJobStatus(
        phase="Running", step="selecting", step_since=now, turn=job.status.turn + 1, run=job.status.run + 1,
        restarts=job.status.restarts, datasets=dict(datasets), bases=dict(bases), results_from=results_from,
        conditions=job.status.conditions, start_time=job.status.start_time or now,
    )  # fmt: skip
    return job.model_copy(update={"status": fresh})


def resumed(job: PairTrainingJob, now: str) -> PairTrainingJob:
    """Let a job that was started again go on at the step where it was, with a new worker."""
    status = job.status
    return _with(job, phase="Running", step_since=now, turn=status.turn + 1, attempt=1, restarts=status.restarts + 1)


def has_other_data(job: PairTrainingJob, datasets: Mapping[str, DatasetUse]) -> bool:
    """Return whether a data set has another version than the run began with: its worker has read the earlier one."""
    def versions(found: Mapping[str, DatasetUse]) -> dict[str, str]:
        return {purpose: each.version for purpose, each in found.items()}

    return job.status.step in WORKER_STEPS and versions(datasets) != versions(job.status.datasets)


def abandoned(job: PairTrainingJob) -> PairTrainingJob:
    """Give up the run whose data have changed: the next one begins with another worker."""
    return _with(job, phase="Pending", step="waiting", restarts=job.status.restarts + 1)


def answers(job: PairTrainingJob, result: PairResult) -> bool:
    """Return whether a result answers what the job's worker is asked now."""
    status = job.status
    asked = (job.metadata.uid, status.turn, status.step) == (result.job_uid, result.round, result.step)
    made = result.figures is not None if result.step == "measuring" else result.weights is not None
    return status.phase == "Running" and asked and made


def taken(job: PairTrainingJob, result: PairResult, now: str) -> PairTrainingJob:
    """Take the result of a step, and begin the next one; a pair that must not serve fails the job."""
    if not answers(job, result):
        return job
    status = job.status
    if result.step == "selecting":
        return _next(job, "training-cloud", now, selection=result.weights, selected=result.selected,
                     classes=result.classes)  # fmt: skip
    if (side := TRAINS.get(result.step)) is not None:
        assert result.weights is not None
        trained = TrainedModel(weights=result.weights, samples=result.num_samples, seconds=result.seconds,
                               metrics=result.metrics)  # fmt: skip
        step = "measuring" if side == "edge" else "training-edge"
        return _next(job, step, now, models={**status.models, side: trained}, classes=result.classes)
    assert result.figures is not None
    job = _with(job, figures=result.figures)
    if reasons := against(job, result.figures):
        return failed(job, f"the pair is not registered: {'; '.join(reasons)}", now)
    return _next(job, "registering", now)


def against(job: PairTrainingJob, figures: PairFigures) -> list[str]:
    """Return why a measured pair must not serve, a sentence each."""
    spec, found = job.spec, list(figures.against)
    if figures.after.accuracy < spec.evaluation.least_accuracy:
        found.append(f"accuracy {figures.after.accuracy:.4f} of the pair is below evaluation.leastAccuracy "
                     f"{spec.evaluation.least_accuracy:g}")  # fmt: skip
    for side, reached in (("edge", figures.edge_objective), ("cloud", figures.cloud_objective)):
        rule = spec.edge if side == "edge" else spec.cloud
        if reached < rule.least:
            found.append(f"{rule.objective} {reached:.4f} of the {side}'s model is below {side}.least {rule.least:g}")
    return found


def with_troubles(job: PairTrainingJob, reports: Iterable[WorkerReport], now: str) -> PairTrainingJob:
    """Take note of a worker that has crashed, hangs or has left, and tell of one that waits."""
    status, waiting = job.status, ""
    if status.phase != "Running" or status.step not in WORKER_STEPS:
        return job
    for report in reports:
        if report.worker != worker_of(job) or report.round != status.turn:
            continue
        if report.code and report.code not in status.code:
            job = _with(job, code={**job.status.code, report.code: 1})
        if report.state == "waiting":
            waiting = report.detail
        elif gives_up(report, job.spec.attempts):
            return failed(job, f"{status.step}: {report.detail or report.state}", now)
        elif report.state == "finished":
            return failed(job, f"{status.step}: {LEFT}", now)
    limit, since = job.spec.step_deadline_seconds, seconds(job.status.step_since)
    if since > seconds(now):  # the clock was set back
        return _with(job, step_since=now)
    if not waiting and seconds(now) - since > limit:
        return stumbled(job, f"it has not ended in {limit:g} s", now)
    return _scheduled(job, waiting, now)


def stumbled(job: PairTrainingJob, why: str, now: str) -> PairTrainingJob:
    """Begin the present step again with another worker, or fail where it was begun as often as it may."""
    status = job.status
    if status.attempt >= job.spec.attempts:
        return failed(job, f"{status.step}: {why}", now)
    return _with(job, step_since=now, turn=status.turn + 1, attempt=status.attempt + 1, restarts=status.restarts + 1)


def failed(job: PairTrainingJob, why: str, now: str) -> PairTrainingJob:
    """End the job without a pair. What it has made so far stays, and ``start`` goes on from there."""
    told = Condition(type="Trained", status="False", reason="Failed", message=why[:2000])
    return _with(job, phase="Failed", reason=why[:1024], completion_time=now,
                 conditions=condition(job.status.conditions, told, now))  # fmt: skip


def registered(job: PairTrainingJob, versions: Mapping[Side, int], now: str) -> PairTrainingJob:
    """Take note of the numbers that the two models have as versions."""
    if job.status.phase != "Running" or job.status.step != "registering":
        return job
    models = {side: each.model_copy(update={"version": versions[side]}) for side, each in job.status.models.items()}
    if job.spec.service is not None:
        return _next(job, "serving", now, models=models)
    return succeeded(_with(job, models=models), now)


def served(job: PairTrainingJob, service: str, trouble: str, now: str) -> PairTrainingJob:
    """Take note of the service that was created, or why none was: the pair is registered all the same."""
    if job.status.phase != "Running" or job.status.step != "serving":
        return job
    if trouble:
        told = Condition(type="ServiceCreated", status="False", reason="Refused", message=trouble[:2000])
    else:
        told = Condition(type="ServiceCreated", status="True", reason="Created", message=f"services/{service}")
    conditions = condition(job.status.conditions, told, now)
    return succeeded(_with(job, service="" if trouble else service, conditions=conditions), now)


def succeeded(job: PairTrainingJob, now: str) -> PairTrainingJob:
    """End the job, whose pair is registered."""
    figures = job.status.figures or PairFigures()
    text = (f"the pair answers {figures.after.accuracy:.4f} correctly with {figures.after.offload:.4f} offloaded; "
            f"before tuning {figures.before.accuracy:.4f} with {figures.before.offload:.4f}")  # fmt: skip
    reason = "Trained" if figures.reached else "TuningNotReached"
    told = Condition(type="Trained", status="True", reason=reason, message=text)
    return _with(job, phase="Succeeded", step="done", completion_time=now, reason="",
                 conditions=condition(job.status.conditions, told, now))  # fmt: skip


def stopped(job: PairTrainingJob, now: str) -> PairTrainingJob:
    """Stop the job; one that has ended stays as it is."""
    if job.status.phase in PAIR_ENDED:
        return job
    return _with(job, phase="Stopped", completion_time=now)


def started(job: PairTrainingJob) -> PairTrainingJob:
    """Start a stopped or failed job again: it goes on at the step where it was. One whose pair was measured and refused
    begins anew."""
    if job.status.phase not in ("Stopped", "Failed"):
        return job
    again = {"step": "waiting"} if job.status.step in ("measuring", "waiting") and job.status.figures else {}
    return _with(job, phase="Pending", completion_time="", reason="", **again)


def begins_anew(job: PairTrainingJob) -> PairTrainingJob:
    """Return an ended job whose spec has changed: what it has trained so far does not count."""
    return _with(job, step="waiting")


def _next(job: PairTrainingJob, step: str, now: str, **changes: object) -> PairTrainingJob:
    return _with(job, step=step, step_since=now, turn=job.status.turn + 1, attempt=1, **changes)


def _scheduled(job: PairTrainingJob, waiting: str, now: str) -> PairTrainingJob:
    if waiting:
        told = Condition(type="Scheduled", status="False", reason="WaitsForNode", message=waiting[:2000])
    elif any(each.type == "Scheduled" for each in job.status.conditions):
        told = Condition(type="Scheduled", status="True", reason="Runs")
    else:
        return job
    return _with(job, conditions=condition(job.status.conditions, told, now))


def _with(job: PairTrainingJob, **changes: object) -> PairTrainingJob:
    status = job.status.model_copy(update=changes)
    return job if status == job.status else job.model_copy(update={"status": status})
