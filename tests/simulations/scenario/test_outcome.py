"""Outcomes from recorded messages: counted and lost updates, outages; and the check of expectations."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.traces.recorded import Recorded
from heliograph.simulations.scenario.document import Expectation
from heliograph.simulations.scenario.expectations import check_expectations
from heliograph.simulations.scenario.observer import Observer, outcome_of


def test_a_plain_run(played: Callable[..., Any]) -> None:
    outcome = outcome_of(played(edges=8, rounds=12).messages)
    job = outcome.jobs["digits"].values()
    assert (job["phase"], job["rounds"], job["complete"]) == ("Succeeded", 12, 12)
    assert (job["asked"], job["counted"], job["refused"], job["late"]) == (96, 92, 1, 2)
    assert (job["participants"], job["refused_edges"], job["lost"], job["counted_twice"]) == (8, 1, 0, 0)
    assert job["staleness"] == 2
    assert round(float(job["accuracy"]), 4) == round(1 - 0.8 / 12, 4)
    assert outcome.edges["edge-2"].outages == [(22.0, 52.0)]
    assert outcome.edges["edge-2"].counted == 9
    assert outcome.value("edges.edge-2.outage_seconds") == 30
    assert outcome.value("edges.outages") == 1
    assert outcome.value("run.jobs") == 1


def test_rounds_have_their_participants_and_evaluation_times(tape: Any) -> None:
    tape.asked(1, "a", 1, ["x", "y", "z"])
    tape.asked(2, "a", 1, ["y", "w"])  # all participants went offline, so other edges were asked
    tape.closed(5, "a", 1, ["y"], reason="deadline")
    tape.asked(6, "a", 1, ["y", "w"])  # published again after the close
    tape.measured(7, "a", 1, 0.5)
    [round] = outcome_of(tape.messages).jobs["a"].rounds
    assert (round.asked, round.counted, round.reason, round.closed, round.measured) == (4, 1, "deadline", 4.0, 6.0)


def test_an_update_that_no_round_mentions_is_lost(tape: Any) -> None:
    tape.update(1, "a", 1, "x")
    tape.update(1, "a", 1, "y")
    tape.closed(2, "a", 1, ["x"])
    tape.update(3, "a", 2, "x")
    observer = Observer()
    for each in tape.messages:
        observer.observe(each)
    assert observer.outcome().jobs["a"].lost == 0  # the next round may still mention the update
    later = type(tape)()
    later.closed(4, "a", 2, ["x"])
    observer.observe(later.messages[0])
    assert observer.outcome().jobs["a"].lost == 1
    assert observer.outcome().edges["y"].lost == 1


def test_an_update_after_the_last_round_is_not_lost(tape: Any) -> None:
    tape.closed(1, "a", 1, ["x"])
    tape.update(2, "a", 1, "y")
    assert outcome_of(tape.messages).value("edges.lost") == 0


def test_a_close_published_again_counts_once(tape: Any) -> None:
    tape.closed(1, "a", 1, ["x", "y"])
    tape.closed(2, "a", 1, ["x", "y"])
    job = outcome_of(tape.messages).jobs["a"].values()
    assert (job["rounds"], job["counted"], job["counted_twice"]) == (1, 2, 0)


def test_an_update_counted_in_two_rounds_is_counted_twice(tape: Any) -> None:
    tape.closed(1, "a", 1, {"x": "d1"})
    tape.closed(2, "a", 2, {"x": "d1", "y": "d2"})
    outcome = outcome_of(tape.messages)
    assert outcome.value("jobs.a.counted_twice") == 1
    assert outcome.edges["x"].counted_twice == 1


def test_two_updates_of_one_edge_in_one_round_are_counted_twice(tape: Any) -> None:
    tape.closed(1, "a", 1, {"x": "d1"})
    tape.closed(2, "a", 1, {"x": "d2"})
    assert outcome_of(tape.messages).value("edges.counted_twice") == 1


def test_the_bytes_of_large_weights_count_once(tape: Any) -> None:
    tape.update(1, "a", 1, "x", size=1_000_000, digest="d1")
    tape.update(2, "a", 1, "x", size=1_000_000, digest="d1")
    tape.task(3, "x", "m1", 500_000)
    tape.task(4, "x", "m1", 500_000)
    edge = outcome_of(tape.messages).edges["x"]
    bodies = [len(each.body) for each in tape.messages]
    assert edge.bytes_up == 1_000_000 + sum(bodies[:2])
    assert edge.bytes_down == 500_000 + sum(bodies[2:])


def test_a_job_without_a_status_has_succeeded_when_its_rounds_have(tape: Any) -> None:
    tape.closed(1, "a", 1, ["x"])
    tape.measured(2, "a", 1, 0.5)
    observer = Observer()
    observer.plan("a", 1)
    for each in tape.messages:
        observer.observe(each)
    assert observer.ended("a")
    assert observer.outcome().jobs["a"].phase == "Succeeded"


def test_two_jobs_of_one_name_have_two_outcomes(tape: Any) -> None:
    tape.closed(1, "a", 1, ["x"])
    data = {"job": "a", "job_uid": "other", "round": 1, "counted": {"x": "d"}, "reason": "complete"}
    tape.add(2, "event/aggregation/a", data)
    assert list(outcome_of(tape.messages).jobs) == ["a", "a/other"]


TOPICS = st.sampled_from(["event/aggregation/a", "edge/x/up/model-update/a", "edge/x/up/evaluation/a",
                          "edge/x/down/task",
                          "edge/cloud/down/task", "status/edges/x", "status/jobs/a", "edge/x/up/report", "nonsense",
                          "event/telemetry/x/y"])  # fmt: skip
TREES = st.recursive(st.none() | st.integers() | st.text(max_size=4),
                     lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
                         st.sampled_from(["job_uid", "round", "counted", "weights", "tasks", "status", "metrics",
                                          "kind", "reason", "late", "refused", "metadata", "spec"]), inner, max_size=5),
                     max_leaves=10)  # fmt: skip


@given(st.lists(st.tuples(TOPICS, TREES), max_size=6))
def test_unreadable_messages_are_counted_and_skipped(drawn: Any) -> None:
    head = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
    messages = [
        Recorded(topic, json.dumps({**head, "data": tree}).encode(), number, number)
        for number, (topic, tree) in enumerate(drawn)
    ]
    messages.append(Recorded("event/aggregation/a", b"\xff not an event", 9, 9))
    outcome = outcome_of(messages)
    assert outcome.messages == len(messages)
    assert outcome.unreadable >= 1
    outcome.as_dict()


def test_expectations_name_the_expected_and_the_actual_value(played: Callable[..., Any]) -> None:
    outcome = outcome_of(played().messages)
    found = check_expectations(
        [
            Expectation(field="jobs.digits.accuracy", minimum=0.9),
            Expectation(field="jobs.digits.accuracy", minimum=0.99),
            Expectation(field="jobs.digits.refused", minimum=2, maximum=5),
            Expectation(field="jobs.digits.phase", equals="Failed"),
            Expectation(field="jobs.digits.rounds", equals=12),
            Expectation(field="jobs.other.accuracy", maximum=1),
        ],
        outcome,
    )
    assert [each.holds for each in found] == [True, False, False, False, True, False]
    assert str(found[1]) == "jobs.digits.accuracy: expected at least 0.99, got 0.933333"
    assert str(found[2]) == "jobs.digits.refused: expected at least 2 and at most 5, got 1"
    assert str(found[3]) == "jobs.digits.phase: expected Failed, got Succeeded"
    assert str(found[5]) == "jobs.other.accuracy: expected at most 1, got no value"
