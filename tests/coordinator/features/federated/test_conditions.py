"""What a job says while it runs: of updates that come late or teach nothing, of failing and waiting workers, and whom
it asks instead."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.payloads import Evaluation, UncountedUpdate
from heliograph.bus.contract.resources import FederatedTask
from heliograph.coordinator.features.federated import state_machine as federated
from heliograph.coordinator.features.federated.deadlines import deadline_of
from heliograph.coordinator.features.federated.desired_tasks import desired_tasks
from heliograph.coordinator.features.federated.drawing import draw
from tests.coordinator.features.federated.test_state_machine import (
    ALL,
    EDGES,
    FAILS,
    NOW,
    View,
    _closed,
    _condition,
    _edge,
    _running,
    _task,
    _view,
)

FINAL = {"state": "failed", "final": True, "detail": "ValueError: a typo"}
WAITS = {"state": "waiting", "detail": "script train.py is not on this node"}
AFTER = "2026-01-01T00:01:00.000000Z"
"""The default deadline of 60 s after NOW."""


def _late(edge: str, round: int, seconds: float | None) -> UncountedUpdate:
    return UncountedUpdate(edge=edge, round=round, reason="closed already", seconds_late=seconds)


def _types(task: FederatedTask) -> set[str]:
    return {each.type for each in task.status.conditions}


def _reason_of(task: FederatedTask, view: View, type: str, now: str = NOW) -> tuple[str, str, str]:
    return _condition(federated.observe(task, view, now), type)


def _asked(task: FederatedTask, view: View, now: str = NOW) -> list[str]:
    return federated.observe(task, view, now).status.participants


# late updates


def test_a_deadline_that_is_shorter_than_a_round_is_said_with_the_seconds_that_lack() -> None:
    task = _running(rounds=9, roundDeadlineSeconds=5)
    task = federated.close(task, _closed(1, "edge-1").model_copy(update={"reason": "deadline"}), ALL, NOW)
    assert "InTime" not in _types(task)  # nobody knows yet whether the others come
    late = [_late("edge-2", 1, 1.4), _late("edge-3", 1, 2.04)]
    second = _closed(2, "edge-1", late=late).model_copy(update={"reason": "deadline"})
    task = federated.close(task, second, ALL, NOW)
    assert _condition(task, "InTime") == (
        "False", "Late", "2 of 3 updates came late by up to 3 s: raise roundDeadlineSeconds, now 5 "
        "(edge-2, edge-3)",
    )  # fmt: skip
    assert task.status.late[-1].seconds_late == 2.04
    task = federated.close(task, _closed(3, *EDGES), ALL, NOW)
    assert _condition(task, "InTime")[:2] == ("True", "AllInTime")


@pytest.mark.parametrize(
    ("reason", "late"),
    [("quorum", _late("edge-2", 1, 1.0)), ("complete", _late("edge-2", 1, 1.0)), ("deadline", _late("edge-2", 1, None)),
     ("deadline", _late("edge-2", 0, 1.0))],
)  # fmt: skip
def test_an_update_that_no_deadline_would_have_waited_for_is_no_warning(reason: Any, late: UncountedUpdate) -> None:
    task = federated.close(_running(rounds=9), _closed(1, "edge-1").model_copy(update={"reason": reason}), ALL, NOW)
    task = federated.close(task, _closed(2, "edge-1", late=[late]), ALL, NOW)
    assert "InTime" not in _types(task)


def test_weights_on_their_way_at_the_deadline_are_late_by_some_seconds() -> None:
    closed = _closed(1, "edge-1", late=[_late("edge-2", 1, 0.0)]).model_copy(update={"reason": "deadline"})
    task = federated.close(_running(rounds=9), closed, ALL, NOW)
    assert "1 of 2 updates came late: raise roundDeadlineSeconds" in _condition(task, "InTime")[2]


def test_a_round_that_nobody_answers_in_time_says_so_until_somebody_does() -> None:
    task = _running(rounds=9)
    assert deadline_of(task) == AFTER
    assert "InTime" not in _types(federated.observe(task, ALL, NOW))
    overdue = federated.observe(task, ALL, AFTER)
    assert _condition(overdue, "InTime")[:2] == ("False", "NoneInTime")
    assert "round 1: no update came within 60 s" in _condition(overdue, "InTime")[2]
    away = _view(*(_edge(name, online=False) for name in EDGES))
    assert "InTime" not in _types(federated.observe(task, away, AFTER))  # Progressing says why
    assert _condition(federated.close(overdue, _closed(1, *EDGES), ALL, NOW), "InTime")[0] == "True"
    assert federated.observe(overdue, ALL, AFTER) is overdue


# updates that change nothing


def test_updates_equal_to_their_base_are_a_warning_until_training_changes_something() -> None:
    task = federated.close(_running(rounds=9), _closed(1, *EDGES, unchanged=["edge-1", "edge-2"]), ALL, NOW)
    status, reason, message = _condition(task, "UpdatesChange")
    assert (status, reason) == ("False", "Unchanged")
    assert message.startswith("2 of 3 updates equal the model that they began from (edge-1, edge-2)")
    assert task.status.phase == "Running"
    task = federated.close(task, _closed(2, *EDGES), ALL, NOW)
    assert _condition(task, "UpdatesChange")[:2] == ("True", "AllChange")
    assert "UpdatesChange" not in _types(federated.close(_running(), _closed(1, *EDGES), ALL, NOW))


# evaluations


def _evaluating(**workers: Any) -> View:
    return View({**ALL.edges, "cloud": _edge("cloud", **workers)}, ALL.models)


def test_an_evaluation_that_fails_for_good_ends_the_job_in_its_first_rounds() -> None:
    task = _running(rounds=40, evaluationWorker={"dataset": {"name": "test"}})
    task = federated.close(task, _closed(1, *EDGES), ALL, NOW)
    failed = federated.observe(task, _evaluating(evaluate=FINAL), NOW)
    assert _condition(failed, "Complete") == (
        "False", "EvaluationFailed", "cloud: ValueError: a typo; the model of round 1 is kept",
    )  # fmt: skip
    passing = federated.observe(task, _evaluating(evaluate=FAILS), NOW)
    assert passing.status.phase == "Running"
    assert _condition(passing, "WorkersHealthy") == ("False", "WorkerFails", "cloud: boom")


def test_an_evaluation_that_failed_in_an_earlier_round_is_tried_on_the_last_model() -> None:
    def rests(round: int) -> View:
        view = _evaluating(evaluate={"state": "failed", "detail": "boom"})
        report = view.edges["cloud"].report
        assert report is not None
        report.workers[0].round = round
        return view

    task = _running(rounds=2, evaluationWorker={"dataset": {"name": "test"}})
    for round in (1, 2):
        task = federated.close(task, _closed(round, *EDGES, model=round), ALL, NOW)
        assert federated.observe(task, rests(1), NOW).status.phase == "Running"
    assert _reason_of(task, rests(2), "Complete")[1:] == (
        "EvaluationFailed", "cloud: boom; the model of round 2 is kept",
    )  # fmt: skip


def test_an_evaluation_on_an_edge_that_trains_is_not_its_training() -> None:
    task = _running(rounds=40, evaluationWorker={"nodeName": "edge-1", "dataset": {"name": "data"}})
    view = _view(_edge("edge-1", evaluate=FAILS), _edge("edge-2"), _edge("edge-3"))
    assert draw(task, 2, view) == [*EDGES]
    assert _reason_of(task, view, "WorkersHealthy") == ("False", "WorkerFails", "edge-1: boom")


def test_an_evaluation_without_a_finite_number_is_said() -> None:
    task = _running(rounds=2, evaluationWorker={"dataset": {"name": "test"}})
    task = federated.close(task, _closed(1, *EDGES), ALL, NOW)
    measured = Evaluation(job="j", job_uid="uid", round=1, model=f"{1:064x}", metrics={"accuracy": float("nan")})
    task = federated.evaluate(task, measured, NOW)
    assert _condition(task, "Evaluated") == ("False", "NoMetrics", "round 1: evaluate gave no finite number")
    task = federated.close(task, _closed(2, *EDGES, model=2), ALL, NOW)
    last = measured.model_copy(update={"round": 2, "model": f"{2:064x}", "metrics": {"accuracy": 0.5}})
    task = federated.evaluate(task, last, NOW)
    assert (task.status.phase, _condition(task, "Evaluated")[0]) == ("Succeeded", "True")


def test_an_evaluation_on_a_node_that_is_away_is_waited_for_visibly() -> None:
    task = _running(rounds=1, evaluationWorker={"nodeName": "edge-1", "dataset": {"name": "data"}})
    task = federated.close(task, _closed(1, *EDGES), ALL, NOW)
    assert _reason_of(task, ALL, "Progressing")[0] == "True"
    away = _view(_edge("edge-1", online=False), *map(_edge, EDGES[1:]))
    assert _reason_of(task, away, "Progressing") == (
        "False", "Offline", "the evaluation of round 1 waits for edge-1: offline",
    )  # fmt: skip


# whom a round asks


def test_a_failure_that_stays_counts_at_once_and_on_all_edges_ends_the_job() -> None:
    one = _view(_edge("edge-1", train=FINAL), _edge("edge-2"), _edge("edge-3"))
    task = federated.begin(_task(), ALL, NOW, 1)
    assert task.status.participants == ["edge-1"]
    asked = federated.observe(task, one, NOW)
    assert asked.status.participants == ["edge-2", "edge-3"]  # all at once, not one after the other
    assert _condition(asked, "WorkersHealthy") == ("False", "WorkerFails", "edge-1: ValueError: a typo")
    collect = desired_tasks(asked, one)["cloud"][0].collect  # type: ignore[union-attr]
    assert (collect.quorum, collect.reachable) == (1, ["edge-2", "edge-3"])  # the first initial weights close it
    everywhere = _view(*(_edge(name, train=FINAL) for name in EDGES))
    assert _reason_of(asked, everywhere, "Complete") == (
        "False", "WorkersFailed", "the worker fails on every edge; edge-1: ValueError: a typo",
    )  # fmt: skip


def test_final_failures_of_some_edges_leave_the_rest_training() -> None:
    view = _view(_edge("edge-1", train=FINAL), _edge("edge-2", train=FINAL), _edge("edge-3"))
    task = federated.observe(_running(rounds=2), view, NOW)
    assert task.status.phase == "Running"
    task = federated.close(task, _closed(1, "edge-3"), view, NOW)
    assert task.status.participants == ["edge-3"]
    task = federated.close(task, _closed(2, "edge-3"), view, NOW)
    assert _condition(task, "Complete")[2] == "2 rounds; never counted: edge-1, edge-2"


def test_an_edge_that_failed_several_times_is_asked_again_some_rounds_later() -> None:
    view = _view(_edge("edge-1", train={"state": "failed", "detail": "boom"}), _edge("edge-2"), _edge("edge-3"))
    final = _view(_edge("edge-1", train=FINAL), _edge("edge-2"), _edge("edge-3"))
    task = _running(rounds=20)
    asked = [round for round in range(1, 21) if "edge-1" in draw(task, round, view)]
    assert asked == [5, 10, 15, 20]
    assert not any("edge-1" in draw(task, round, final) for round in range(1, 21))


def test_a_fleet_that_fails_is_asked_in_a_few_steps_and_never_as_a_whole() -> None:
    fleet = [f"edge-{number:04}" for number in range(1_000)]
    worker = {"workerSpec": {"dataset": {"name": "data"}}}
    workers = [{"name": edge, "nodeName": edge, **worker} for edge in fleet]
    task = federated.begin(_task(trainingWorkers=workers), _view(*map(_edge, fleet)), NOW, 1)
    failing: set[str] = set()
    steps = 0
    while task.status.phase == "Running":
        asked = task.status.participants
        assert len(asked) <= max(64, 8 * len(failing))
        failing |= {*asked}
        view = _view(*(_edge(each, **({"train": FINAL} if each in failing else {})) for each in fleet))
        task, steps = federated.observe(task, view, NOW), steps + 1
    assert (_condition(task, "Complete")[1], steps) == ("WorkersFailed", 4)


def test_an_edge_without_the_script_is_not_asked_while_others_have_it() -> None:
    view = _view(_edge("edge-1", train=WAITS), _edge("edge-2"), _edge("edge-3"))
    first = federated.begin(_task(), ALL, NOW, 1)
    assert _asked(first, view) == ["edge-2"]
    task = federated.observe(_running(), view, NOW)
    collect = desired_tasks(task, view)["cloud"][0].collect  # type: ignore[union-attr]
    assert (collect.participants, collect.reachable) == ([*EDGES], ["edge-2", "edge-3"])  # it may still come
    assert draw(task, 2, view) == ["edge-2", "edge-3"]
    assert draw(task, 2, ALL) == [*EDGES]


def test_a_script_that_lies_nowhere_fails_the_job_at_its_first_deadline() -> None:
    nowhere = _view(*(_edge(name, train=WAITS) for name in EDGES))
    task = federated.observe(federated.begin(_task(), ALL, NOW, 1), nowhere, NOW)
    assert (task.status.phase, _condition(task, "WorkersHealthy")[:2]) == ("Running", ("False", "WorkerWaits"))
    status, reason, message = _reason_of(task, nowhere, "Complete", AFTER)
    assert (status, reason) == ("False", "WorkersWait")
    assert message.startswith("no edge could begin within 60 s (roundDeadlineSeconds); edge-1: script train.py is not")
    mixed = _view(_edge("edge-1", train=FINAL), *(_edge(name, train=WAITS) for name in EDGES[1:]))
    assert _reason_of(task, mixed, "Complete", AFTER)[1] == "WorkersWait"
    away = _view(_edge("edge-1", online=False), *(_edge(name, train=WAITS) for name in EDGES[1:]))
    assert federated.observe(task, away, AFTER).status.phase == "Running"  # it may have the script
    begun = federated.close(_running(rounds=9), _closed(1, *EDGES), ALL, NOW)
    assert federated.observe(begun, nowhere, AFTER).status.phase == "Running"  # data and code may be replaced


def test_initial_weights_that_do_not_come_by_the_deadline_are_asked_of_others() -> None:
    task = federated.begin(_task(), ALL, NOW, 1)
    assert _asked(task, ALL) == ["edge-1"]
    assert _asked(task, ALL, AFTER) == [*EDGES]
    assert "round 0: no initial weights came within 60 s" in _reason_of(task, ALL, "InTime", AFTER)[2]


def test_an_edge_that_goes_after_the_deadline_is_replaced_too() -> None:
    task = federated.observe(federated.begin(_task(), ALL, NOW, 1), _view(_edge("edge-1")), AFTER)
    assert task.status.participants == ["edge-1"]
    assert _asked(task, _view(_edge("edge-1", train=FAILS), _edge("edge-2")), AFTER) == ["edge-2"]
    assert _asked(task, _view(_edge("edge-1", online=False), _edge("edge-3")), AFTER) == ["edge-3"]


def test_training_that_fails_when_all_rounds_are_closed_costs_no_evaluation() -> None:
    task = _running(rounds=1, evaluationWorker={"dataset": {"name": "test"}})
    task = federated.close(task, _closed(1, *EDGES), ALL, NOW)
    everywhere = _view(*(_edge(name, train=FINAL) for name in EDGES))
    assert federated.observe(task, everywhere, NOW).status.phase == "Running"


def test_no_deadline_is_known_of_a_job_that_an_earlier_version_began() -> None:
    task = _running()
    earlier = task.model_copy(update={"status": task.status.model_copy(update={"round_began": ""})})
    assert deadline_of(earlier) == ""
    assert "InTime" not in _types(federated.observe(earlier, ALL, "2027-01-01T00:00:00.000000Z"))
