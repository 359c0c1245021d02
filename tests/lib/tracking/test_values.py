"""The values of a round, and the sums over rounds."""

from __future__ import annotations

from dataclasses import replace

from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.payloads.rounds import EdgeMeasure, UncountedUpdate
from heliograph.tracking.closed_round import ClosedRound, from_close, from_status, totals_in
from heliograph.tracking.values import COUNTED, MOST_EDGES, RoundValues

CLOSE = Aggregation(
    job="digits", job_uid="u", round=2, counted={"b": "d" * 64, "a": "e" * 64}, num_samples=30,
    metrics={"loss": 0.5}, duration_seconds=1.5, reason="complete", duplicates=2, unnoted=4, uplink_bytes=100,
    refused=[UncountedUpdate(edge="c", round=2, reason="not finite")],
    late=[UncountedUpdate(edge="b", round=1, reason="late"), UncountedUpdate(edge="b", round=0, reason="late")],
    measured={"a": EdgeMeasure(num_samples=10, loss=0.25, seconds=0.75), "c": EdgeMeasure()},
)  # fmt: skip


def test_a_close_has_all() -> None:
    values = RoundValues({}).of(from_close(CLOSE, 7.0))
    assert values == {
        "train/loss": 0.5, "round/samples": 30, "round/seconds": 1.5, "round/uplink_bytes": 100, "round/counted": 2,
        "total/late": 1, "total/refused": 1, "total/duplicates": 2, "total/unnoted": 4,
        "edge/a/counted": 1, "edge/b/counted": 1, "edge/b/late": 1, "edge/c/refused": 1,
        "edge/a/samples": 10, "edge/a/loss": 0.25, "edge/a/seconds": 0.75,
    }  # fmt: skip
    assert list(values)[-1] == COUNTED


def test_sums_go_on_from_what_was_written() -> None:
    first = RoundValues({})
    closed = from_close(CLOSE, 7.0)
    written = first.of(closed)
    for later in (first, RoundValues(written)):  # the same process, and another one
        values = later.of(closed)
        assert (values["edge/b/counted"], values["edge/b/late"], values["total/duplicates"]) == (2, 2, 4)
        assert (values["edge/a/samples"], values["round/counted"]) == (10, 2)


def test_the_jobs_own_sums_stand_above_those_kept() -> None:
    values = RoundValues({"total/late": 1})
    found = values.of(from_close(CLOSE, 7.0), {"late": 9, "refused": 0, "duplicates": 0, "unnoted": 0})
    assert (found["total/late"], found["total/refused"]) == (9, 0)
    assert values.of(from_close(CLOSE, 7.0))["total/late"] == 10


def test_the_round_that_makes_the_first_model_counts_in_the_jobs_sums_alone() -> None:
    values = RoundValues({})
    values.pass_over(from_close(CLOSE.model_copy(update={"round": 0}), 7.0))
    found = values.of(from_close(CLOSE, 7.0))
    assert (found["total/refused"], found["edge/c/refused"], found["edge/a/counted"]) == (2, 1, 1)


def test_edges_have_values_up_to_a_bound() -> None:
    edges = [f"edge-{number:03}" for number in range(MOST_EDGES + 5)]
    values = RoundValues({})
    for _ in range(2):
        found = values.of(ClosedRound(1, 0.0, len(edges), 1, 1.0, {}, edges=edges))
    assert {name for name in found if name.startswith("edge/")} == {f"edge/{edge}/counted" for edge in edges[:-5]}
    assert found["edge/edge-000/counted"] == 2


def test_a_status_says_what_it_knows() -> None:
    record = {"round": 3, "counted": 2, "edges": ["a", "b"], "model": "d", "numSamples": 30, "durationSeconds": 1.5,
              "metrics": {"loss": 0.5}}  # fmt: skip
    status = {"rounds": [record, {**record, "round": 4, "counted": 17}], "lateCount": 1, "refusedCount": 2,
              "duplicateCount": 3}  # fmt: skip
    third, fourth = from_status({"status": status}, 9.0)
    values = RoundValues({})
    assert values.of(third) == {"train/loss": 0.5, "round/samples": 30, "round/seconds": 1.5, "edge/a/counted": 1,
                                "edge/b/counted": 1, "round/counted": 2}  # fmt: skip
    found = values.of(fourth, totals_in({"status": status}))
    assert found["total/late"] == 1 and found["total/refused"] == 2 and found["total/duplicates"] == 3
    assert not [name for name in found if name.startswith("edge/")]  # fifteen of them are not named
    assert replace(third, time=0.0) == from_status({"status": {"rounds": [record]}}, 0.0)[0]
    assert from_status({}, 0.0) == []
