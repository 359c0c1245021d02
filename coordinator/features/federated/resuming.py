"""Start a federated task again that has failed or was stopped. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from heliograph.bus.contract.payloads import RoundState
from heliograph.bus.contract.resources import FederatedTask, FederatedTaskStatus, ModelVersion

_KEPT = (
    "model_round", "rounds", "personal", "down", "state", "parent", "evaluation", "plateau", "refused", "late",
    "refused_count", "late_count", "duplicate_count", "unnoted_count", "uplink_bytes",
)  # fmt: skip
"""What a run that goes on has of the one before: rounds, bytes and patience count on."""


def restart(task: FederatedTask, uid: str, unfinished: Sequence[ModelVersion]) -> FederatedTask:
    """Return an ended task as a pending one that goes on after its last counted round; it begins anew where the model
    of that round is not kept.

    Args:
        uid: identity of the new run.
        unfinished: the models that are kept of jobs that failed or were stopped.
    """
    status = task.status
    fresh = FederatedTaskStatus(joined=status.joined)
    weights = next((each.weights for each in unfinished if _is_model_of(status, each)), None)
    if weights is not None:
        kept = {name: getattr(status, name) for name in _KEPT}
        if status.counted_updates is not None:
            kept |= {"state": None, "down": None}  # edges have let go of their part of it when the run ended
        own = {
            "model": weights, "round": status.model_round, "resumed_round": status.model_round,
            "first_run": status.first_run or task.metadata.uid, "best": _kept_best(status, unfinished),
        }  # fmt: skip
        fresh = fresh.model_copy(update={**kept, **own})
    metadata = task.metadata.model_copy(update={"uid": uid})
    return task.model_copy(update={"metadata": metadata, "status": fresh})


def left_by_earlier_run(task: FederatedTask) -> RoundState | None:
    """Return what an earlier run has left beside the model, for the first round of the run that goes on; None for other
    rounds, whose aggregation finds the record of the round before, and where nothing was left."""
    status = task.status
    if not status.resumed_round or status.round != status.resumed_round + 1:
        return None
    left = RoundState(state=status.state, down=status.down, personal=status.personal)
    return left if left != RoundState() else None


def seed_of(task: FederatedTask) -> str:
    """Return the seed of a task's draws: the same in a run that goes on after another."""
    return task.status.first_run or task.metadata.uid


def _is_model_of(status: FederatedTaskStatus, version: ModelVersion) -> bool:
    """Return whether a version is the global model that a task ended with."""
    if status.model is None or not status.model_round:
        return False
    return (version.weights.digest, version.round) == (status.model.digest, status.model_round)


def _kept_best(status: FederatedTaskStatus, unfinished: Sequence[ModelVersion]) -> object:
    """Return the best model so far where it is kept."""
    kept = {each.weights.digest for each in unfinished}
    return status.best if status.best is not None and status.best.model.digest in kept else None
