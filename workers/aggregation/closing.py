"""Compose the close record of a round from its staged updates and its result. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from heliograph.bus.contract.payloads import AggregateTask, Aggregation, EdgeMeasure, RoundState, UncountedUpdate
from heliograph.workers.aggregation.intake import blob_of
from heliograph.workers.aggregation.result_files import Result
from heliograph.workers.aggregation.round import NOTED, CloseReason, Collection, Staged
from heliograph.workers.aggregation.round_inputs import Input
from heliograph.workers.aggregation.shares import capped_samples

WITH_LONG_REASONS = 50
"""Refused updates, and late ones, of a close record with reasons of more than 100 characters, at most."""


def inputs_of(staged: Mapping[str, Staged]) -> dict[str, Input]:
    """Return the staged updates as inputs of ``aggregate``, by edge."""
    return {
        edge: Input(
            each.source, float(each.num_samples), each.tensors, each.update.metrics, each.not_finite, each.buffers
        )
        for edge, each in staged.items()
    }


def close_record_of(
    task: AggregateTask,
    collection: Collection,
    reason: CloseReason,
    result: Result,
    before: Aggregation | RoundState | None,
    duration_seconds: float,
    next_sequence: int,
    max_share: float | None = None,
) -> Aggregation:
    """Return the record of a round.

    Args:
        before: the record of the round before, or what is left of it. State, tensors that travel down and edges' own
            models that this round does not replace are taken from it.
        max_share: as in ``AlgorithmParameters``.
    """
    excluded = [
        UncountedUpdate(
            edge=edge, round=collection.round, reason=why[:1000], digest=blob_of(collection.staged[edge].update)
        )
        for edge, why in sorted(result.excluded.items())
    ]
    counted = {edge: collection.staged[edge] for edge in sorted(collection.staged) if edge not in result.excluded}
    claimed = {edge: each.num_samples for edge, each in counted.items()}
    samples = capped_samples(claimed, max_share)
    replaced = result.model is not None
    inline = result.model is not None and result.model.inline is not None
    personal = {**((before.personal if before is not None else None) or {}), **result.personal}
    refused = [*collection.refused, *excluded, *collection.foreign]
    unnoted = collection.unnoted + max(0, len(refused) - NOTED) + max(0, len(collection.late) - NOTED)
    return Aggregation(
        job=task.job,
        job_uid=collection.job_uid,
        round=collection.round,
        model=result.model if replaced else task.model,
        counted={edge: each.update.weights.digest for edge, each in counted.items()},
        num_samples=sum(claimed.values()),
        capped=[edge for edge in counted if samples[edge] < claimed[edge]] or None,
        metrics=_mean_metrics({edge: each.update.metrics for edge, each in counted.items()}, samples),
        refused=_noted(refused),
        late=_noted(collection.late),
        duplicates=collection.duplicates,
        duration_seconds=duration_seconds,
        reason=reason,
        next_sequence=next_sequence,
        state=result.state if replaced or before is None else before.state,
        down=result.down if replaced or before is None else before.down,
        personal=personal or None,
        uploaded=True if counted and inline and any(blob_of(each.update) for each in counted.values()) else None,
        unnoted=unnoted or None,
        stopping=sorted(collection.stopping),
        unchanged=[edge for edge, each in counted.items() if each.unchanged],
        uplink_bytes=collection.uplink_bytes if task.collect.count_bytes else 0,
        measured=_measured(collection, counted) if task.collect.measure else {},
    )


def _measured(collection: Collection, counted: Mapping[str, Staged]) -> dict[str, EdgeMeasure]:
    """Return what the round tells of each edge that was asked."""
    found = {edge: EdgeMeasure() for edge in sorted(collection.asked)}
    for edge, each in counted.items():
        metrics = each.update.metrics
        found[edge] = EdgeMeasure(
            num_samples=each.num_samples,
            loss=metrics.get("loss"),
            received_loss=metrics.get("received_loss"),
            seconds=collection.seconds.get(edge),
        )
    return found


def _mean_metrics(metrics: Mapping[str, Mapping[str, float]], samples: Mapping[str, float]) -> dict[str, float]:
    """Return the mean of the metrics that every counted edge reported, weighted by the samples."""
    if not metrics:
        return {}
    names = set.intersection(*(set(each) for each in metrics.values()))
    total = sum(samples.values())
    return {name: _mean([(metrics[edge][name], samples[edge]) for edge in metrics], total) for name in sorted(names)}


def _mean(values: Sequence[tuple[float, float]], total: float) -> float:
    """Return the mean of finite values with weights that sum to ``total``; it is finite too."""
    if math.isfinite(mean := sum(value * weight for value, weight in values) / total):
        return mean
    lowest, highest = min(value for value, _ in values), max(value for value, _ in values)
    mean = math.fsum(value / 2 * (weight / total) for value, weight in values)  # a half cannot overflow
    return min(max(2 * mean, lowest), highest)


def _noted(updates: Sequence[UncountedUpdate]) -> list[UncountedUpdate]:
    """Return at most ``NOTED`` updates, the later ones with short reasons: the record has to fit into one event."""
    late = [each.model_copy(update={"reason": each.reason[:100]}) for each in updates[WITH_LONG_REASONS:NOTED]]
    return [*updates[:WITH_LONG_REASONS], *late]
