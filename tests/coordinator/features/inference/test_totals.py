"""Totals of services: every count is added once, despite reordered or repeated messages and restarts."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heliograph.bus.contract.payloads import InferenceStats
from heliograph.coordinator.features.inference.totals import (
    INCARNATIONS_KEPT,
    Totals,
    WorkerCounts,
    add_up,
    record,
)
from heliograph.core.latencies import percentile

Workers = dict[tuple[str, str], WorkerCounts]


def _stats(incarnation: str = "a", edge: str = "edge-1", worker: str = "s-infer", **counts: Any) -> InferenceStats:
    return InferenceStats(
        service="s", service_uid="uid", edge=edge, worker=worker, incarnation=incarnation, **counts
    )


def _recorded(messages: list[InferenceStats]) -> Workers:
    workers: Workers = {}
    for each in messages:
        place = (each.edge, each.worker)
        workers[place] = record(workers.get(place), each)
    return workers


def _totals(messages: list[InferenceStats]) -> Totals:
    return add_up(_recorded(messages), ["s-big-0", "s-big-1"])


# growth of the counts from message to message, by edge and incarnation
GROWTH = st.dictionaries(
    st.tuples(st.sampled_from(["edge-1", "edge-2"]), st.integers(0, INCARNATIONS_KEPT - 1)),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=4),
    max_size=6,
)


@given(GROWTH, st.randoms(use_true_random=False))
def test_each_count_is_added_once(growth: dict[Any, Any], rng: random.Random) -> None:
    messages = []
    by_edge = by_cloud = 0
    for (edge, incarnation), steps in growth.items():
        counted = [0, 0]
        latencies: dict[str, int] = {}
        for more, offloaded, bucket in steps:
            counted = [counted[0] + more, counted[1] + offloaded]
            if more + offloaded:
                latencies = latencies | {str(bucket): latencies.get(str(bucket), 0) + more + offloaded}
            messages.append(
                _stats(str(incarnation), edge, by_edge=counted[0], by_cloud=counted[1], latencies=latencies)
            )
        by_edge, by_cloud = by_edge + counted[0], by_cloud + counted[1]
    messages += rng.choices(messages, k=5) if messages else []
    rng.shuffle(messages)
    totals = _totals(messages)
    total = totals.total
    assert (total.by_edge, total.by_cloud, total.requests) == (by_edge, by_cloud, by_edge + by_cloud)
    assert total.requests == sum(each.requests for each in totals.edges.values())
    assert (total.p50_seconds is None) == (total.requests == 0)
    if total.p50_seconds is not None and total.p99_seconds is not None:
        assert total.p50_seconds <= total.p99_seconds


@given(st.integers(1, 4 * INCARNATIONS_KEPT))
def test_the_counts_of_a_worker_that_restarts_for_ever_stay_right_and_bounded(restarts: int) -> None:
    messages = [_stats(str(number), by_edge=2, latencies={"3": 2}) for number in range(restarts)]
    workers = _recorded(messages)
    assert len(workers["edge-1", "s-infer"].incarnations) <= INCARNATIONS_KEPT
    assert add_up(workers, []).total.requests == 2 * restarts
    text = workers["edge-1", "s-infer"].model_dump_json()  # the JSON that the bucket stores
    assert WorkerCounts.model_validate_json(text) == workers["edge-1", "s-infer"]


def test_a_message_without_news_changes_nothing() -> None:
    known = record(None, _stats(by_edge=3))
    assert record(known, _stats(by_edge=3)) is known
    assert record(known, _stats(by_edge=2)) is known
    assert record(known, _stats(by_edge=3, trouble="boom")).newest.trouble == "boom"


def test_ratios() -> None:
    (edge, other) = _totals([
        _stats(by_edge=6, by_cloud=3, errors=1, hard=5, degraded=2, compared=3, agreed=2, bytes_offloaded=300,
               model="m", trouble="warm"),
        _stats(edge="edge-2", by_edge=10),
    ]).edges.values()  # fmt: skip
    assert (edge.requests, edge.offload_ratio, edge.agreement) == (10, 0.3, 0.6667)
    assert (edge.hard, edge.degraded, edge.errors, edge.bytes_offloaded) == (5, 2, 1, 300)
    assert (edge.model, edge.trouble) == ("m", "warm")
    assert (other.offload_ratio, other.agreement, other.p50_seconds) == (0.0, None, None)


def test_answers_of_the_deep_model_are_not_counted_twice() -> None:
    totals = _totals([
        _stats(by_edge=6, by_cloud=4),
        _stats(edge="cloud", worker="s-big-0", by_cloud=3, model="d"),
        _stats(edge="cloud", worker="s-big-1", by_cloud=1),
        _stats(edge="edge-1", worker="app", by_edge=1),  # an application that runs the edge's model itself
    ])  # fmt: skip
    assert (totals.cloud.requests, totals.cloud.model) == (4, "d")
    assert (totals.total.requests, totals.total.model) == (11, "")
    assert {edge: each.requests for edge, each in totals.edges.items()} == {"edge-1": 11}


def test_percentiles_are_the_upper_bounds_of_their_buckets() -> None:
    latencies = {"0": 50, "4": 49, "8": 1}
    assert percentile(latencies, 0.5) == pytest.approx(100e-6)
    assert percentile(latencies, 0.51) == pytest.approx(200e-6)
    assert percentile(latencies, 0.99) == pytest.approx(200e-6)
    assert percentile(latencies, 1.0) == pytest.approx(400e-6)
    assert percentile({}, 0.5) is None
    assert percentile({"9": 0}, 0.5) is None


@pytest.mark.parametrize("bad", [{"by_edge": -1}, {"latencies": {"x": 1}}, {"latencies": {"1": -1}}])
def test_impossible_counts_are_refused_at_the_border(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _stats(**bad)
