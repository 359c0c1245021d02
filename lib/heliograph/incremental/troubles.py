"""What follows for the loop from workers that crash, hang, or wait. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from heliograph.bus.contract.payloads import WorkerReport
from heliograph.bus.contract.resources import IncrementalLearningJobSpec, LoopState
from heliograph.bus.contract.resources.incremental_learning_job import LearnedModel
from heliograph.incremental import loop
from heliograph.incremental.tasks import worker_of


def with_troubles(
    name: str, spec: IncrementalLearningJobSpec, state: LoopState,
    reports: Callable[[LearnedModel], Iterable[WorkerReport]], now: str,
) -> tuple[LoopState, list[str]]:  # fmt: skip
    """Return the state after what its workers' agents report, and why workers wait, a sentence each.

    Args:
        name: of the job.
        reports: returns what is reported of the workers of a model's node.
    """
    waiting: list[str] = []
    for learned in spec.models:
        model = learned.model.name
        candidate = state.candidates.get(model)
        if candidate is None:
            continue
        worker = worker_of(name, spec, learned, candidate.attempt)
        for report in reports(learned):
            if report.worker != worker or report.round != state.round:
                continue
            if report.state == "waiting":
                waiting.append(report.detail)
            elif report.state == "finished":  # its script has left its loop: another one begins it again
                state = loop.stumbled(state, spec, model, report.detail or "its script has ended", now)
            elif gives_up(report, spec.attempts):
                state = loop.failed(state, model, report.detail or report.state, now)
    for model in loop.hanging(state, spec, loop.seconds(now)):
        why = f"it has not ended in {spec.step_deadline_seconds:g} s"
        state = loop.stumbled(state, spec, model, why, now)
    return state, waiting


def gives_up(report: WorkerReport, attempts: int) -> bool:
    """Return whether a worker has failed for good, or as often as it may."""
    if report.final or report.state == "refused":
        return True
    return report.state in ("backing-off", "failed") and report.restarts >= attempts
