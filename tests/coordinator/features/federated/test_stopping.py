"""The stop conditions of a federated task: target, plateau, wall time, bytes."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.payloads import AggregateTask, Evaluation
from heliograph.bus.contract.resources import FederatedTask, Plateau, PlateauState
from heliograph.coordinator.features.federated import state_machine as federated
from heliograph.coordinator.features.federated.allowed_changes import check_change
from heliograph.coordinator.features.federated.deadlines import next_look
from heliograph.coordinator.features.federated.desired_tasks import desired_tasks
from heliograph.coordinator.features.federated.stopping import followed
from heliograph.core.errors import Refused
from tests.coordinator.features.federated.test_state_machine import (
    ALL,
    EDGES,
    NOW,
    _closed,
    _condition,
    _running,
    _task,
    _weights,
)

EVALUATED = {"evaluationWorker": {"dataset": {"name": "test"}}}
VALUES = st.lists(st.none() | st.integers(-9, 9).map(lambda number: number / 8), max_size=30)


def _close(task: FederatedTask, model: int = 1, now: str = NOW, **more: Any) -> FederatedTask:
    return federated.close(task, _closed(task.status.round, *EDGES, model=model, **more), ALL, now)


def _evaluate(task: FederatedTask, round: int, model: int, **metrics: float) -> FederatedTask:
    measured = Evaluation(job="j", job_uid="uid", round=round, model=f"{model:064x}", metrics=metrics)
    return federated.evaluate(task, measured, NOW)


def _ends_in_keras(values: list[float | None], mode: str, patience: int, min_delta: float) -> int | None:
    """Return the round after which Keras' EarlyStopping would end the training: its ``on_epoch_end``."""
    best = float("inf") if mode == "min" else float("-inf")
    wait = 0
    for epoch, current in enumerate(values):
        if current is None:
            continue
        wait += 1
        if (current + min_delta < best) if mode == "min" else (current - min_delta > best):
            best, wait = current, 0
        elif wait >= patience and epoch > 0:
            return epoch + 1
    return None


@given(VALUES, st.sampled_from(["max", "min"]), st.integers(1, 4), st.sampled_from([0.0, 0.125, 0.5]), st.data())
def test_a_plateau_ends_where_keras_ends_whatever_is_told_twice(
    values: list[float | None], mode: Literal["max", "min"], patience: int, min_delta: float, data: st.DataObject
) -> None:
    plateau = Plateau(metric="m", mode=mode, patience=patience, min_delta=min_delta)
    state: PlateauState | None = None
    ended: int | None = None
    for round, value in enumerate(values, 1):
        metrics = {"other": 1.0} | ({"m": value} if value is not None else {})
        state = followed(plateau, state, round, metrics)
        again = data.draw(st.integers(1, round))
        assert followed(plateau, state, again, {"m": 99.0 if value is None or again < round else value}) == state or (
            state is None or again > state.round
        )
        if state is not None and state.waited >= patience:
            ended = round
            break
    assert ended == _ends_in_keras(values, mode, patience, min_delta)


@given(VALUES)
def test_another_metric_or_mode_begins_anew(values: list[float | None]) -> None:
    state: PlateauState | None = None
    for round, value in enumerate(values, 1):
        metrics = {} if value is None else {"m": value}
        state = followed(Plateau(metric="m", mode="max", patience=1), state, round, metrics)
    changed = followed(Plateau(metric="m", mode="min", patience=1), state, 99, {"m": 5.0})
    assert changed == PlateauState(metric="m", mode="min", best=5.0, best_round=99, round=99)
    assert followed(None, state, 99, {"m": 5.0}) is None


@pytest.mark.parametrize(
    ("target", "reaches"),
    [({"atLeast": 0.97}, [0.97, 0.99]), ({"atMost": 0.97}, [0.97, -1.0]), ({"atLeast": -1e300}, [0.0])],
)
def test_a_target_of_the_rounds_metrics_ends_the_task_at_the_first_round_that_reaches_it(
    target: dict[str, float], reaches: list[float]
) -> None:
    for value in reaches:
        task = _running(rounds=9, stop={"target": {"metric": "m", **target}})
        short = 0.5 if "atLeast" in target else 1.5
        if target != {"atLeast": -1e300}:
            task = _close(task, metrics={"m": short})
        number = task.status.round
        task = _close(task, model=7, metrics={"m": value})
        assert (task.status.phase, task.status.model_round, task.status.model) == ("Succeeded", number, _weights(7))
        status, reason, message = _condition(task, "Complete")
        assert (status, reason) == ("True", "TargetReached")
        assert message.startswith(f"{number} of 9 rounds; round {number}: m {value:g} is at ")


def test_where_there_is_an_evaluation_its_metrics_alone_count() -> None:
    task = _running(rounds=9, stop={"target": {"metric": "m", "atLeast": 1}}, **EVALUATED)
    task = _close(task, model=1, metrics={"m": 5.0})
    task = _close(task, model=2, metrics={"m": 5.0})
    assert (task.status.phase, task.status.round) == ("Running", 3)
    task = _evaluate(task, 1, 1, m=1.0)  # it comes a round later, and the newest model is measured before the end
    assert (task.status.step, task.status.participants) == ("evaluating", [])
    assert _close(task, model=3) is task
    ended = _evaluate(task, 2, 2, m=0.5)
    assert ended.status.phase == "Succeeded"
    assert _condition(ended, "Complete")[1:] == ("TargetReached", "2 of 9 rounds; round 1: m 1 is at least 1")


def test_a_last_evaluation_may_reach_the_target_and_says_nothing_of_a_plateau() -> None:
    stop = {"target": {"metric": "m", "atLeast": 1}, "plateau": {"metric": "m", "mode": "max", "patience": 1}}
    task = _close(_running(rounds=2, stop=stop, **EVALUATED), model=1)
    task = _close(_evaluate(task, 1, 1, m=0.5), model=2)
    assert task.status.step == "evaluating"
    assert _condition(_evaluate(task, 2, 2, m=1.0), "Complete")[1] == "TargetReached"
    assert _condition(_evaluate(task, 2, 2, m=0.5), "Complete")[1] == "AllRoundsClosed"


def test_a_plateau_ends_the_task_with_its_last_model() -> None:
    stop = {"plateau": {"metric": "loss", "mode": "min", "patience": 2, "minDelta": 0.1}}
    task = _running(rounds=9, stop=stop)
    for loss in (1.0, 0.5, 0.45, 0.41):
        task = _close(task, metrics={"loss": loss})
    assert task.status.phase == "Succeeded"
    message = ("4 of 9 rounds; 2 measured rounds without an improvement of loss by more than 0.1; the best was 0.5 in "
               "round 2")  # fmt: skip
    assert _condition(task, "Complete") == ("True", "NoImprovement", message)


def test_a_round_without_an_update_measures_nothing() -> None:
    task = _running(rounds=9, stop={"plateau": {"metric": "loss", "mode": "min", "patience": 1}})
    task = _close(task, metrics={"loss": 1.0})
    task = federated.close(task, _closed(2), ALL, NOW)
    assert task.status.phase == "Running" and task.status.plateau is not None and task.status.plateau.waited == 0


def test_a_metric_that_is_not_there_is_named_until_it_comes() -> None:
    task = _close(_running(rounds=9, stop={"target": {"metric": "acuracy", "atLeast": 1}}), metrics={"accuracy": 1.0})
    expected = ("False", "NoMetric", "round 1 has no metric acuracy (stop.target.metric); it has accuracy")
    assert _condition(task, "StopMeasured") == expected
    task = _close(task, metrics={"acuracy": 0.5})
    assert _condition(task, "StopMeasured")[:2] == ("True", "Measured")
    fine = _close(_running(rounds=9, stop={"uplinkBytes": 9}))
    assert all(each.type != "StopMeasured" for each in fine.status.conditions)


def test_bytes_of_all_updates_end_the_task_with_the_round_that_reaches_them() -> None:
    task = federated.begin(_task(rounds=9, stop={"uplinkBytes": 100}), ALL, NOW, 7)
    task = federated.close(task, _closed(0, "edge-1", model=9, uplink_bytes=10), ALL, NOW)
    task = _close(task, uplink_bytes=45)
    task = federated.close(task, _closed(2, uplink_bytes=44), ALL, NOW)  # refused ones came too
    assert (task.status.phase, task.status.uplink_bytes) == ("Running", 99)
    empty = federated.close(task, _closed(3, uplink_bytes=1), ALL, NOW)  # none here, but earlier
    assert (empty.status.phase, empty.status.uplink_bytes) == ("Succeeded", 100)
    message = "3 of 9 rounds; 100 bytes of updates came (stop.uplinkBytes 100)"
    assert _condition(empty, "Complete") == ("True", "UplinkBytesReached", message)


def test_only_a_job_that_bounds_them_has_its_bytes_counted() -> None:
    for stop, counts in (({"uplinkBytes": 9}, True), ({"wallTimeSeconds": 9}, False), (None, False)):
        task = _running(rounds=9, stop=stop)
        (aggregation,) = desired_tasks(task, ALL)["cloud"]
        assert isinstance(aggregation, AggregateTask) and aggregation.collect.count_bytes is counts


def test_bytes_without_a_counted_update_fail_the_task() -> None:
    task = federated.close(_running(rounds=9, stop={"uplinkBytes": 5}), _closed(1, uplink_bytes=5), ALL, NOW)
    assert task.status.phase == "Failed"
    assert _condition(task, "Complete")[1] == "UplinkBytesReached"


def test_the_wall_time_ends_an_open_round_at_once() -> None:
    task = _close(_running(rounds=9, roundDeadlineSeconds=600, stop={"wallTimeSeconds": 90}), model=4)
    before, after = "2026-01-01T00:01:29.999999Z", "2026-01-01T00:01:30.000000Z"
    assert next_look(task, NOW) == after
    assert federated.observe(task, ALL, before).status.phase == "Running"
    ended = federated.observe(task, ALL, after)
    assert (ended.status.phase, ended.status.model_round, ended.status.model) == ("Succeeded", 1, _weights(4))
    message = "1 of 9 rounds; 90 s (stop.wallTimeSeconds)"
    assert _condition(ended, "Complete") == ("True", "WallTimeReached", message)
    late = federated.observe(_running(rounds=9, stop={"wallTimeSeconds": 90}), ALL, after)
    assert late.status.phase == "Failed"
    assert _condition(late, "Complete")[1:] == ("WallTimeReached", "90 s (stop.wallTimeSeconds); no update was counted")


def test_the_next_look_is_the_earlier_of_deadline_and_wall_time() -> None:
    task = _running(rounds=9, stop={"wallTimeSeconds": 90})  # the round's deadline is after 60 s
    assert next_look(task, NOW) == "2026-01-01T00:01:00.000000Z"
    assert next_look(task, "2026-01-01T00:01:00.000000Z") == "2026-01-01T00:01:30.000000Z"
    assert next_look(task, "2026-01-01T00:01:30.000000Z") == ""


@pytest.mark.parametrize(
    ("stop", "field", "expected"),
    [
        ({}, "spec.stop", "at least one of target, plateau, wallTimeSeconds and uplinkBytes"),
        ({"target": {"metric": "m"}}, "spec.stop.target", "either atLeast or atMost"),
        ({"target": {"metric": "m", "atLeast": 1, "atMost": 1}}, "spec.stop.target", "either atLeast or atMost"),
        ({"target": {"metric": "", "atLeast": 1}}, "spec.stop.target.metric", "at least 1"),
        ({"plateau": {"metric": "m", "patience": 1}}, "spec.stop.plateau.mode", ""),
        ({"plateau": {"metric": "m", "mode": "up", "patience": 1}}, "spec.stop.plateau.mode", "'max' or 'min'"),
        ({"plateau": {"metric": "m", "mode": "max", "patience": 0}}, "spec.stop.plateau.patience", "1"),
        ({"plateau": {"metric": "m", "mode": "max", "patience": 1, "minDelta": -1}}, "spec.stop.plateau.minDelta", "0"),
        ({"wallTimeSeconds": 0}, "spec.stop.wallTimeSeconds", "0"),
        ({"uplinkBytes": 1.5}, "spec.stop.uplinkBytes", "integer"),
        ({"uplinkBytes": 1, "rounds": 3}, "spec.stop.rounds", ""),
    ],
)
def test_a_bad_value_is_refused_with_its_field(stop: dict[str, Any], field: str, expected: str) -> None:
    with pytest.raises(Refused) as refused:
        _task(stop=stop)
    assert refused.value.field == field
    assert expected in str(refused.value)


def test_the_stop_conditions_of_a_running_task_may_change() -> None:
    check_change(_running(), _task(stop={"uplinkBytes": 5}), "t")
