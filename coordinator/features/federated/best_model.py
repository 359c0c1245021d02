"""Which of a federated task's global models is its best one, and by which metric. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.resources import BestModel, FederatedTask, MetricMode, WeightsRef

_DEFAULTS: tuple[tuple[str, MetricMode], ...] = (("accuracy", "max"), ("loss", "min"))
"""Metrics of an evaluation by which a model is the best where the task does not say which, the first one that there
is."""


def criterion(task: FederatedTask, metrics: Mapping[str, float]) -> tuple[str, MetricMode] | None:
    """Return the metric by which a model is the best, and which way; None where no model is.

    ``spec.best`` names it, else ``spec.stop``, else it is the evaluation's accuracy or loss.

    Args:
        metrics: those of the round that was measured.
    """
    spec, known = task.spec, task.status.best
    if spec.best is not None:
        return spec.best.metric, spec.best.mode
    if spec.stop is not None and spec.stop.plateau is not None:
        return spec.stop.plateau.metric, spec.stop.plateau.mode
    if spec.stop is not None and spec.stop.target is not None:
        return spec.stop.target.metric, "max" if spec.stop.target.at_least is not None else "min"
    if spec.evaluation_worker is None:
        return None
    if known is not None and (known.metric, known.mode) in _DEFAULTS:
        return known.metric, known.mode
    return next(((metric, mode) for metric, mode in _DEFAULTS if metric in metrics), None)


def best_of(
    task: FederatedTask, round: int, model: WeightsRef | None, metrics: Mapping[str, float]
) -> BestModel | None:
    """Return the best model after a round was measured: the earlier one of two with the same value.

    Args:
        model: the round's model; None where nobody knows any more where its bytes are.
    """
    known, by = task.status.best, criterion(task, metrics)
    if by is None or model is None or by[0] not in metrics:
        return known
    metric, mode = by
    value = metrics[metric]
    if known is not None and (known.metric, known.mode) == by and not _is_better(value, known.value, mode):
        return known
    return BestModel(metric=metric, mode=mode, value=value, round=round, model=kept_ref(model), metrics=dict(metrics))


def kept_ref(model: WeightsRef) -> WeightsRef:
    """Return the reference to a model in the bucket of models: a status has no room for bytes that travel inline."""
    return model if model.inline is None else model.model_copy(update={"inline": None, "bucket": MODELS})


def measured_model(task: FederatedTask, round: int, digest: str) -> WeightsRef | None:
    """Return the global model that an evaluation has measured; None where it is neither the newest one nor the one that
    the evaluation worker was given."""
    status = task.status
    known = [(status.model_round, status.model)]
    if status.evaluating is not None:
        known.append((status.evaluating.round, status.evaluating.model))
    return next((ref for number, ref in known if number == round and ref is not None and ref.digest == digest), None)


def _is_better(value: float, than: float, mode: MetricMode) -> bool:
    return value > than if mode == "max" else value < than
