"""How a job ends: early because its edges ask for it, failed because nobody learned, and what it says of each edge."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.payloads import Evaluation, UncountedUpdate
from heliograph.bus.contract.resources import FederatedTask
from heliograph.coordinator.features.federated import state_machine as federated
from heliograph.coordinator.features.federated import steps
from heliograph.coordinator.features.federated.desired_tasks import desired_tasks
from heliograph.coordinator.features.federated.drawing import draw
from tests.coordinator.features.federated.test_state_machine import (
    ALL,
    EDGES,
    FAILS,
    NOW,
    _closed,
    _condition,
    _edge,
    _running,
    _task,
    _view,
    _weights,
)

MANY = tuple(f"edge-{number:04}" for number in range(1200))


def _close(task: FederatedTask, *counted: str, **more: Any) -> FederatedTask:
    return federated.close(task, _closed(task.status.round, *counted, **more), ALL, NOW)


def test_an_edge_that_asks_to_stop_takes_part_in_no_further_round() -> None:
    task = _close(_running(rounds=9), *EDGES, stopping=["edge-2"])
    assert (task.status.phase, task.status.left, task.status.participants) == ("Running", ["edge-2"], [*EDGES[::2]])
    assert draw(task, 3, ALL) == ["edge-1", "edge-3"]
    assert desired_tasks(task, ALL).keys() == {"edge-1", "edge-3", "cloud"}  # its worker ends
    task = _close(task, *EDGES[::2], stopping=["edge-1", "unknown"])
    task = _close(task, "edge-3", stopping=["edge-3"], model=7)
    assert (task.status.phase, task.status.left, task.status.round) == ("Succeeded", [*EDGES], 3)
    assert _condition(task, "Complete") == (
        "True", "EarlyStopped", "3 of 9 rounds; edge-1, edge-2, edge-3 asked to stop",
    )  # fmt: skip
    assert task.status.model == _weights(7)


def test_one_edge_that_asks_ends_a_job_that_wants_it_so_after_its_evaluation() -> None:
    task = _running(rounds=9, earlyStopping="any", evaluationWorker={"dataset": {"name": "test"}})
    task = _close(task, *EDGES, stopping=["edge-2"])
    assert (task.status.phase, task.status.step) == ("Running", "evaluating")
    measured = Evaluation(job="j", job_uid="uid", round=1, model=f"{1:064x}", metrics={"accuracy": 0.5})
    task = federated.evaluate(task, measured, NOW)
    assert _condition(task, "Complete") == ("True", "EarlyStopped", "1 of 9 rounds; edge-2 asked to stop")


def test_a_job_may_overrule_edges_that_ask() -> None:
    task = _close(_running(rounds=2, earlyStopping="ignore"), *EDGES, stopping=[*EDGES])
    assert (task.status.left, task.status.participants) == ([], [*EDGES])
    assert _condition(_close(task, *EDGES), "Complete")[1] == "AllRoundsClosed"


def test_a_stop_in_the_last_round_is_no_early_stop() -> None:
    last = _close(_running(rounds=1), *EDGES, stopping=[*EDGES])
    assert _condition(last, "Complete")[1] == "AllRoundsClosed"


@pytest.mark.parametrize("evaluated", [None, False, True])
def test_edges_that_cannot_work_do_not_keep_a_job_that_all_others_have_left(evaluated: bool | None) -> None:
    spec = {} if evaluated is None else {"evaluationWorker": {"dataset": {"name": "test"}}}
    fails = _view(*map(_edge, EDGES[:2]), _edge("edge-3", train=FAILS))
    away = _view(*map(_edge, EDGES[:2]), _edge("edge-3", online=False))
    for view in (fails, away):  # when the others leave
        task = federated.close(_running(rounds=9, **spec), _closed(1, *EDGES[:2], stopping=[*EDGES[:2]]), view, NOW)
        assert (task.status.phase, task.status.step) == (
            ("Succeeded", "done") if evaluated is None else ("Running", "evaluating")
        )
    task = _close(_running(rounds=9, **spec), *EDGES[:2], stopping=[*EDGES[:2]])
    measured = Evaluation(job="j", job_uid="uid", round=1, model=f"{1:064x}", metrics={"accuracy": 0.5})
    if evaluated:
        task = federated.evaluate(task, measured, NOW)
    task = federated.observe(task, fails, NOW)  # or later
    if evaluated is False:
        assert task.status.step == "evaluating"
        task = federated.evaluate(task, measured, NOW)
    assert _condition(task, "Complete") == (
        "True", "EarlyStopped", "1 of 9 rounds; edge-1, edge-2 asked to stop; never counted: edge-3",
    )  # fmt: skip
    waits = federated.observe(_close(_running(rounds=9), *EDGES, stopping=[*EDGES[:2]]), away, NOW)
    assert _condition(waits, "Progressing")[0] == "False"  # it was there, and may be back soon


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_job_whose_last_round_counted_nobody_has_failed(rounds: int) -> None:
    task = _running(rounds=rounds)
    for _ in range(rounds - 1):
        task = _close(task, *EDGES)
    task = _close(task, refused=[UncountedUpdate(edge="edge-2", round=rounds, reason="NaN in w")])
    assert task.status.phase == "Failed"
    kept = "; the model of round 1 is kept" if rounds > 1 else ""
    assert _condition(task, "Complete") == (
        "False", "NoValidUpdate",
        f"round {rounds}, the last one, closed without a valid update; edge edge-2: NaN in w{kept}",
    )  # fmt: skip


def test_edges_that_stop_and_are_refused_have_taught_nothing() -> None:
    task = _close(_running(rounds=9), stopping=[*EDGES], model=9)
    assert _condition(task, "Complete")[:2] == ("False", "NoValidUpdate")


def test_an_edge_that_was_never_counted_is_named_with_the_reason() -> None:
    task = _running()
    assert task.status.uncounted == [*EDGES]  # the initial weights of round 0 are no update
    task = _close(task, "edge-1", refused=[UncountedUpdate(edge="edge-2", round=1, reason="NaN in w")])
    assert task.status.uncounted == ["edge-2", "edge-3"]
    task = _close(task, "edge-1", late=[UncountedUpdate(edge="edge-3", round=1, reason="round 1 was closed already")])
    assert _condition(task, "Complete") == (
        "True", "AllRoundsClosed",
        "2 rounds; never counted: edge-2 (refused: NaN in w), edge-3 (late: round 1 was closed already)",
    )  # fmt: skip


def test_what_a_status_says_of_uncounted_edges_is_bounded() -> None:
    view = _view(*map(_edge, MANY))
    worker = {"workerSpec": {"dataset": {"name": "data"}}}
    workers = [{"name": edge, "nodeName": edge, **worker} for edge in MANY]
    task = federated.begin(_task(trainingWorkers=workers, rounds=1, participants={"count": 2}), view, NOW, 1)
    assert task.status.uncounted == [*MANY[:1000]]
    task = federated.close(task, _closed(0, MANY[0]), view, NOW)
    task = federated.close(task, _closed(1, MANY[3], MANY[1100]), view, NOW)
    message = _condition(task, "Complete")[2]
    assert "; never drawn or never counted among the first 1000 edges: edge-0000, edge-0001, edge-0002, edge-0004" in (
        message
    )
    assert message.endswith("and 983 more")


def test_further_initial_weights_are_not_told_as_late_updates() -> None:
    late = [UncountedUpdate(edge="edge-2", round=0, reason="the initial weights of edge-1 were taken")]
    task = federated.close(federated.begin(_task(), ALL, NOW, 1), _closed(0, "edge-1", late=late), ALL, NOW)
    assert (task.status.late, task.status.late_count) == ([], 0)


def test_a_stopped_job_says_which_model_is_kept() -> None:
    stopped = steps.stop(_close(_running(rounds=9), *EDGES), NOW)
    assert _condition(stopped, "Complete")[2] == "stopped on request; the model of round 1 is kept"
    assert _condition(steps.stop(_running(), NOW), "Complete")[2] == "stopped on request"
