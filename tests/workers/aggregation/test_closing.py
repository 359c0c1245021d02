"""The close record of a round: its updates, and the algorithm's results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract import close_record
from heliograph.bus.contract.event import Event, encode
from heliograph.bus.contract.payloads import AggregateTask, Aggregation, EdgeMeasure, ModelUpdate, RoundSpec, RoundState
from heliograph.bus.contract.payloads.base import MAX_METRIC
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import AGGREGATION
from heliograph.workers.aggregation.closing import close_record_of, inputs_of
from heliograph.workers.aggregation.result_files import Result
from heliograph.workers.aggregation.round import NOTED, NOTED_OF_EDGE, Collection, Staged

EDGES = ("edge-1", "edge-2")
SPEC = RoundSpec(participants=[*EDGES], reachable=[*EDGES], deadline_seconds=1)
BASE = WeightsRef(digest="b" * 64, size=1, inline=b"b")
MODEL = WeightsRef(digest="c" * 64, size=1, inline=b"c")
Closed = Callable[..., Aggregation]


def _collection(*edges: str, large: bool = False) -> Collection:
    found = Collection("uid", 3, BASE.digest, SPEC, 1, began=0.0)
    for number, edge in enumerate(edges, 1):
        place: dict[str, Any] = {"bucket": f"up-{edge}"} if large else {"inline": b"x"}
        weights = WeightsRef(digest=str(number) * 64, size=1, **place)
        update = ModelUpdate(job="job", job_uid="uid", round=3, edge=edge, weights=weights, num_samples=10 * number,
                             metrics={"loss": float(number), edge: 1.0})  # fmt: skip
        found.staged[edge] = Staged(update, 10 * number, b"x", {})
    return found


def _record(collection: Collection, result: Result, before: Aggregation | RoundState | None = None) -> Aggregation:
    task = AggregateTask(worker="w", job="job", job_uid="uid", round=3, model=BASE, collect=SPEC)
    return close_record_of(task, collection, "complete", result, before, 0.5, 7)


def test_it_counts_the_combined_updates() -> None:
    collection = _collection("edge-2", "edge-1")
    record = _record(collection, Result(MODEL))
    assert list(record.counted) == ["edge-1", "edge-2"]
    assert (record.model, record.num_samples, record.next_sequence) == (MODEL, 30, 7)
    assert record.metrics == {"loss": (10 * 1.0 + 20 * 2.0) / 30}
    assert record.uploaded is None
    samples = {edge: each.num_samples for edge, each in inputs_of(collection.staged).items()}
    assert samples == {"edge-1": 20, "edge-2": 10}


def test_an_update_that_the_algorithm_excludes_is_refused_with_its_reason() -> None:
    collection = _collection(*EDGES, large=True)
    record = _record(collection, Result(MODEL, excluded={"edge-2": "too far"}))
    assert _record(collection, Result(MODEL, excluded={"edge-2": "too far"})) == record  # composing changes no input
    assert set(record.counted) == {"edge-1"}
    assert [(each.edge, each.round, each.reason) for each in record.refused] == [("edge-2", 3, "too far")]
    assert record.uploaded is True
    assert record.uploads() == {("edge-1", "1" * 64), ("edge-2", "2" * 64)}
    assert (record.num_samples, record.metrics["loss"]) == (10, 1.0)


def test_a_round_without_a_counted_update_changes_nothing(closed: Closed) -> None:
    before = closed(2, model="1", state="2", down="3", personal={"edge-1": "4"})
    for collection, excluded in ((_collection(), {}), (_collection("edge-1"), {"edge-1": "too far"})):
        record = _record(collection, Result(excluded=excluded), before)
        assert record.model == BASE
        assert not record.counted and not record.metrics
        assert (record.state, record.down, record.personal) == (before.state, before.down, before.personal)


def test_an_edge_that_was_away_keeps_its_own_model(closed: Closed) -> None:
    before = closed(2, state="2", down="3", personal={"edge-1": "4", "edge-9": "5"})
    record = _record(_collection("edge-1"), Result(MODEL, personal={"edge-1": MODEL}), before)
    assert before.personal is not None
    assert record.personal == {"edge-1": MODEL, "edge-9": before.personal["edge-9"]}
    assert (record.state, record.down) == (None, None)  # the result of this round, and nothing older


@given(
    st.lists(st.tuples(st.floats(-MAX_METRIC, MAX_METRIC), st.integers(1, 2**53)), min_size=1, max_size=8)
)
def test_the_mean_of_finite_metrics_is_finite_and_between_them(reported: list[tuple[float, int]]) -> None:
    collection = _collection(*(f"edge-{number}" for number in range(len(reported))))
    for each, (value, samples) in zip(collection.staged, reported, strict=True):
        staged = collection.staged[each]
        staged.update.metrics["loss"] = value
        collection.staged[each] = replace(staged, num_samples=samples)
    record = _record(collection, Result(MODEL))
    values = [value for value, _ in reported]
    slack = 1e-12 * max(map(abs, values))
    assert min(values) - slack <= record.metrics["loss"] <= max(values) + slack
    assert close_record.load(close_record.dump(record)) == record  # JSON has no infinity


def test_an_edge_that_claims_most_of_the_samples_counts_by_its_largest_share() -> None:
    collection = _collection("edge-1", "edge-2", "edge-3", "edge-4")
    for edge, staged in collection.staged.items():
        staged.update.metrics["loss"] = 1.0 if edge == "edge-4" else 0.0
        collection.staged[edge] = replace(staged, num_samples=90_000_000 if edge == "edge-4" else 100)
    record = _record(collection, Result(MODEL))
    assert record.capped == ["edge-4"]
    assert record.num_samples == 90_000_300  # as they were claimed
    assert record.metrics["loss"] == pytest.approx(0.625)
    assert _record(_collection(*EDGES), Result(MODEL)).capped is None


def test_the_record_of_a_flood_of_refused_and_late_updates_fits_into_one_event() -> None:
    collection = _collection(*EDGES)
    for number in range(2000):
        edge = f"{'e' * 59}-{number // 2}"
        collection.refuse(edge, 3, "x" * 1000, "d" * 64)
        collection.note_late(edge, 2, "x" * 1000, "d" * 64)
        collection.note_foreign(edge, 3, "x" * 1000)
    record = _record(collection, Result(MODEL))
    assert (len(record.refused), len(record.late)) == (NOTED, NOTED)
    assert record.unnoted == 4000
    assert len(record.refused[0].reason) == 1000
    size = len(encode(Event("1", "cloud/w/1", AGGREGATION.type, record.model_dump(exclude_none=True))))
    assert size < AGGREGATION.max_size - 256 * 1024  # a model may travel inside


def test_a_flood_of_one_edge_takes_no_place_from_the_others() -> None:
    collection = _collection(*EDGES)
    for _ in range(1100):
        collection.refuse("edge-1", 3, "a flood")
        collection.note_foreign("edge-1", 3, "a flood")
    collection.refuse("edge-2", 3, "a reason")
    record = _record(collection, Result(MODEL))
    assert [each.reason for each in record.refused if each.edge == "edge-2"] == ["a reason"]
    assert len(record.refused) == 2 * NOTED_OF_EDGE + 1
    assert record.unnoted == 2 * (1100 - NOTED_OF_EDGE)


def test_it_tells_each_edge_that_was_asked_only_where_the_coordinator_wants_it() -> None:
    collection = _collection("edge-1")
    collection.uplink_bytes, collection.seconds = 12, {"edge-1": 1.5}
    collection.staged["edge-1"].update.metrics["received_loss"] = 4.0
    unasked = _record(collection, Result(MODEL))
    assert (unasked.measured, unasked.uplink_bytes) == ({}, 0)
    task = AggregateTask(worker="w", job="job", job_uid="uid", round=3, model=BASE,
                         collect=SPEC.model_copy(update={"measure": True, "count_bytes": True}))  # fmt: skip
    record = close_record_of(task, collection, "complete", Result(MODEL), None, 0.5, 7)
    assert record.uplink_bytes == 12
    assert record.measured == {
        "edge-1": EdgeMeasure(num_samples=10, loss=1.0, received_loss=4.0, seconds=1.5), "edge-2": EdgeMeasure(),
    }  # fmt: skip


def test_a_run_that_goes_on_keeps_what_the_earlier_one_left(closed: Closed) -> None:
    left = closed(2, model="1", state="2", down="3", personal={"edge-9": "4"})
    state = RoundState(state=left.state, down=left.down, personal=left.personal)
    record = _record(_collection(), Result(), state)
    assert (record.state, record.down, record.personal) == (left.state, left.down, left.personal)
    own = _record(_collection("edge-1"), Result(MODEL, personal={"edge-1": MODEL}), state)
    assert own.state is None and own.personal == {**(left.personal or {}), "edge-1": MODEL}
