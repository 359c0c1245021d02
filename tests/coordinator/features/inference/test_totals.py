"""What services were asked, added up: once each, whatever the order, the repeats and the restarts."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heliograph.bus.contract.payloads import InferenceStats
from heliograph.coordinator.features.inference.totals import KEPT, Numbers, WorkerCounts, add_up, percentile, take

Workers = dict[tuple[str, str], WorkerCounts]


def _stats(incarnation: str = "a", edge: str = "edge-1", worker: str = "s-infer", **counts: Any) -> InferenceStats:
    return InferenceStats(
        service="s", service_uid="uid", edge=edge, worker=worker, incarnation=incarnation, **counts
    )


def _taken(messages: list[InferenceStats]) -> Workers:
    workers: Workers = {}
    for each in messages:
        place = (each.edge, each.worker)
        workers[place] = take(workers.get(place), each)
    return workers


def _numbers(messages: list[InferenceStats]) -> Numbers:
    return add_up(_taken(messages), ["s-big-0", "s-big-1"])


# how much each message of each incarnation of each worker counts more than the one before
GROWTH = st.dictionaries(
    st.tuples(st.sampled_from(["edge-1", "edge-2"]), st.integers(0, KEPT - 1)),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=4),
    max_size=6,
)


@given(GROWTH, st.randoms(use_true_random=False))
def test_what_was_counted_is_counted_once(growth: dict[Any, Any], rng: random.Random) -> None:
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
    numbers = _numbers(messages)
    total = numbers.total
    assert (total.by_edge, total.by_cloud, total.requests) == (by_edge, by_cloud, by_edge + by_cloud)
    assert total.requests == sum(each.requests for each in numbers.edges.values())
    assert (total.p50_seconds is None) == (total.requests == 0)
    if total.p50_seconds is not None and total.p99_seconds is not None:
        assert total.p50_seconds <= total.p99_seconds


@given(st.integers(1, 4 * KEPT))
def test_a_worker_that_restarts_for_ever_is_still_counted_and_takes_no_more_room(restarts: int) -> None:
    messages = [_stats(str(number), by_edge=2, latencies={"3": 2}) for number in range(restarts)]
    workers = _taken(messages)
    assert len(workers["edge-1", "s-infer"].incarnations) <= KEPT
    assert add_up(workers, []).total.requests == 2 * restarts
    text = workers["edge-1", "s-infer"].model_dump_json()  # as it is kept
    assert WorkerCounts.model_validate_json(text) == workers["edge-1", "s-infer"]


def test_a_message_that_says_nothing_new_changes_nothing() -> None:
    known = take(None, _stats(by_edge=3))
    assert take(known, _stats(by_edge=3)) is known
    assert take(known, _stats(by_edge=2)) is known
    assert take(known, _stats(by_edge=3, trouble="boom")).newest.trouble == "boom"


def test_ratios() -> None:
    (edge, other) = _numbers([
        _stats(by_edge=6, by_cloud=3, errors=1, hard=5, degraded=2, compared=3, agreed=2, bytes_offloaded=300,
               model="m", trouble="warm"),
        _stats(edge="edge-2", by_edge=10),
    ]).edges.values()  # fmt: skip
    assert (edge.requests, edge.offload_ratio, edge.agreement) == (10, 0.3, 0.6667)
    assert (edge.hard, edge.degraded, edge.errors, edge.bytes_offloaded) == (5, 2, 1, 300)
    assert (edge.model, edge.trouble) == ("m", "warm")
    assert (other.offload_ratio, other.agreement, other.p50_seconds) == (0.0, None, None)


def test_what_the_deep_model_answers_is_not_counted_twice() -> None:
    numbers = _numbers([
        _stats(by_edge=6, by_cloud=4),
        _stats(edge="cloud", worker="s-big-0", by_cloud=3, model="d"),
        _stats(edge="cloud", worker="s-big-1", by_cloud=1),
        _stats(edge="edge-1", worker="app", by_edge=1),  # an application that runs the edge's model itself
    ])  # fmt: skip
    assert (numbers.cloud.requests, numbers.cloud.model) == (4, "d")
    assert (numbers.total.requests, numbers.total.model) == (11, "")
    assert {edge: each.requests for edge, each in numbers.edges.items()} == {"edge-1": 11}


def test_percentiles_are_the_upper_bounds_of_their_buckets() -> None:
    latencies = {"0": 50, "4": 49, "8": 1}
    assert percentile(latencies, 0.5) == pytest.approx(100e-6)
    assert percentile(latencies, 0.51) == pytest.approx(200e-6)
    assert percentile(latencies, 0.99) == pytest.approx(200e-6)
    assert percentile(latencies, 1.0) == pytest.approx(400e-6)
    assert percentile({}, 0.5) is None
    assert percentile({"9": 0}, 0.5) is None


@pytest.mark.parametrize("bad", [{"by_edge": -1}, {"latencies": {"x": 1}}, {"latencies": {"1": -1}}])
def test_counts_that_cannot_be_are_refused_at_the_border(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _stats(**bad)
