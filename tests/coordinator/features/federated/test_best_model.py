"""The best global model of a task: by which metric, of which round, and the model that is being evaluated."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.payloads import Evaluation
from heliograph.bus.contract.resources import FederatedTask, WeightsRef
from heliograph.coordinator.features.federated import state_machine as federated
from heliograph.coordinator.features.federated.best_model import criterion
from heliograph.coordinator.features.federated.desired_tasks import desired_tasks
from heliograph.core.errors import Refused
from tests.coordinator.features.federated.test_state_machine import (
    ALL,
    EDGES,
    NOW,
    _closed,
    _edge,
    _running,
    _task,
    _view,
    _weights,
)

EVALUATED = {"evaluationWorker": {"dataset": {"name": "test"}}}
TARGET = {"target": {"metric": "loss", "atMost": 0.1}}
PLATEAU = {"plateau": {"metric": "f1", "mode": "max", "patience": 3}}


def _close(task: FederatedTask, model: int, **more: Any) -> FederatedTask:
    return federated.close(task, _closed(task.status.round, *EDGES, model=model, **more), ALL, NOW)


def _evaluate(task: FederatedTask, round: int, model: int, **metrics: float) -> FederatedTask:
    measured = Evaluation(job="j", job_uid="uid", round=round, model=f"{model:064x}", metrics=metrics)
    return federated.evaluate(task, measured, NOW)


def _best(task: FederatedTask) -> tuple[int, float, str]:
    best = task.status.best
    assert best is not None
    return best.round, best.value, best.model.digest


def _asked(task: FederatedTask) -> tuple[int, WeightsRef | None]:
    (evaluation,) = (each for each in desired_tasks(task, ALL)["cloud"] if each.role == "evaluate")
    return evaluation.revision, evaluation.model


@pytest.mark.parametrize(
    ("spec", "metrics", "expected"),
    [
        ({}, {"accuracy": 1.0}, None),
        (EVALUATED, {"accuracy": 1.0, "loss": 1.0}, ("accuracy", "max")),
        (EVALUATED, {"f1": 1.0, "loss": 1.0}, ("loss", "min")),
        (EVALUATED, {"f1": 1.0}, None),
        ({"stop": TARGET}, {}, ("loss", "min")),
        ({"stop": TARGET | PLATEAU}, {}, ("f1", "max")),
        ({"stop": {"uplinkBytes": 1}}, {"accuracy": 1.0}, None),
        ({"stop": TARGET, "best": {"metric": "recall", "mode": "max"}}, {}, ("recall", "max")),
    ],
)
def test_the_metric_is_named_by_best_else_by_stop_else_it_is_the_evaluations(
    spec: dict[str, Any], metrics: dict[str, float], expected: tuple[str, str] | None
) -> None:
    assert criterion(_task(**spec), metrics) == expected


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.sampled_from(["max", "min"]))
def test_it_is_the_first_of_the_rounds_with_the_best_value(values: list[int], mode: str) -> None:
    task = _running(rounds=99, best={"metric": "m", "mode": mode})
    for number, value in enumerate(values, 1):
        task = _close(task, model=number, metrics={"m": float(value)})
    best = max(values) if mode == "max" else min(values)
    first = values.index(best) + 1
    assert _best(task) == (first, float(best), f"{first:064x}")


def test_a_round_without_the_metric_or_without_an_update_is_not_the_best() -> None:
    task = _close(_running(rounds=99, best={"metric": "m", "mode": "min"}), model=1, metrics={"m": 5.0})
    task = _close(task, model=2, metrics={"other": 0.0})
    task = federated.close(task, _closed(3, model=2, metrics={}), ALL, NOW)
    assert _best(task) == (1, 5.0, f"{1:064x}")


def test_its_reference_needs_no_room_for_bytes() -> None:
    task = _close(_running(rounds=99, best={"metric": "m", "mode": "min"}), model=1, metrics={"m": 5.0})
    assert task.status.model == _weights(1)
    assert task.status.best is not None
    assert (task.status.best.model.inline, task.status.best.model.bucket) == (None, "models")


def test_another_metric_begins_anew_with_the_next_round() -> None:
    task = _close(_running(rounds=99, best={"metric": "m", "mode": "max"}), model=1, metrics={"m": 5.0, "n": 9.0})
    spec = task.spec.model_copy(update={"best": _task(best={"metric": "n", "mode": "max"}).spec.best})
    task = _close(task.model_copy(update={"spec": spec}), model=2, metrics={"m": 9.0, "n": 1.0})
    assert _best(task) == (2, 1.0, f"{2:064x}")


def test_the_model_that_is_evaluated_stays_with_its_worker_until_the_answer() -> None:
    task = _close(_running(rounds=9, **EVALUATED), model=1)
    assert (_asked(task), task.status.evaluating) == ((1, _weights(1)), None)
    for model in (2, 3, 4):
        task = _close(task, model=model)
        assert _asked(task) == (1, _weights(1))
    early = _evaluate(task, 3, 3, accuracy=1.0)  # nobody was asked for it
    assert early.status.best is None and early.status.evaluating == task.status.evaluating
    task = _evaluate(task, 1, 1, accuracy=0.5)
    assert (_best(task), task.status.evaluating, _asked(task)) == ((1, 0.5, f"{1:064x}"), None, (4, _weights(4)))
    assert _evaluate(task, 1, 1, accuracy=0.5) is task
    task = _evaluate(_close(task, model=5), 4, 4, accuracy=0.75)
    assert (_best(task), _asked(task)) == ((4, 0.75, f"{4:064x}"), (5, _weights(5)))


def test_the_last_model_is_evaluated_after_the_one_under_way() -> None:
    task = _running(rounds=3, **EVALUATED)
    for model in (1, 2, 3):
        task = _close(task, model=model)
    assert (task.status.step, _asked(task)) == ("evaluating", (1, _weights(1)))
    task = _evaluate(task, 1, 1, accuracy=0.5)
    assert (task.status.phase, _asked(task)) == ("Running", (3, _weights(3)))
    ended = _evaluate(task, 3, 3, accuracy=0.25)
    assert (ended.status.phase, _best(ended)) == ("Succeeded", (1, 0.5, f"{1:064x}"))


def test_only_models_whose_evaluation_is_due_are_waited_for() -> None:
    every = {"parameters": [{"key": "rounds_between_validations", "value": 2}]}
    aggregation = {"model": {"name": "m"}, "workerSpec": {"aggregationAlgorithm": "FedAvg", **every}}
    task = _close(_running(rounds=9, aggregationWorker=aggregation, **EVALUATED), model=1)
    task = _close(task, model=2)
    assert (task.status.evaluating, _asked(task)) == (None, (2, _weights(2)))
    task = _close(task, model=3)
    assert _asked(task) == (2, _weights(2))
    assert _asked(_evaluate(task, 2, 2, accuracy=1.0)) == (3, None)


def test_a_worker_that_rests_gets_the_newest_model_since_it_is_started_for_another_one_only() -> None:
    task = _close(_close(_running(rounds=9, **EVALUATED), model=1), model=2)
    edges = [_edge(name) for name in EDGES]
    for round, asked in ((0, 1), (1, 2)):
        cloud = _edge("cloud", dataset="test", evaluate={"state": "failed", "round": round})
        view = _view(*edges)
        view = type(view)({**view.edges, "cloud": cloud}, view.models)
        assert _asked(federated.observe(task, view, NOW))[0] == asked


def test_a_bad_value_is_refused_with_its_field() -> None:
    for best, field in (({"metric": "m"}, "spec.best.mode"), ({"metric": "m", "mode": "best"}, "spec.best.mode"),
                        ({"mode": "max"}, "spec.best.metric")):  # fmt: skip
        with pytest.raises(Refused) as refused:
            _task(best=best)
        assert refused.value.field == field
