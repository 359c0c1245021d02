"""Start a federated task again that has failed or was stopped. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from heliograph.bus.contract.resources import FederatedTask, FederatedTaskStatus, ModelVersion

_KEPT_AT_RESTART = (
    "model_round", "rounds", "personal", "evaluation", "refused", "late", "refused_count", "late_count",
    "duplicate_count", "unnoted_count",
)  # fmt: skip


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
        kept = {name: getattr(status, name) for name in _KEPT_AT_RESTART}
        fresh = fresh.model_copy(update={**kept, "model": weights, "round": status.model_round})
    metadata = task.metadata.model_copy(update={"uid": uid})
    return task.model_copy(update={"metadata": metadata, "status": fresh})


def _is_model_of(status: FederatedTaskStatus, version: ModelVersion) -> bool:
    """Return whether a version is the global model that a task ended with."""
    if status.model is None or not status.model_round:
        return False
    return (version.weights.digest, version.round) == (status.model.digest, status.model_round)
