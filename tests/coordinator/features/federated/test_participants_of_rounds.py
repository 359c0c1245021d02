"""Who takes part in a task's rounds: fractions, strategies, edges that come later, and what is refused at intake."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.payloads import AggregateTask, EdgeMeasure
from heliograph.bus.contract.resources import FederatedTask
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.federated import state_machine as federated
from heliograph.coordinator.features.federated.desired_tasks import desired_tasks
from heliograph.coordinator.features.federated.drawing import draw
from heliograph.coordinator.features.federated.participation.memory import NOTHING, EdgeMemory, Memory, after
from heliograph.coordinator.features.federated.participation.strategies import STRATEGIES, check_selection
from heliograph.core.errors import Refused
from tests.coordinator.features.federated.test_state_machine import NOW, _closed, _condition, _edge, _task, _view

WORKER = {"dataset": {"name": "data"}, "trainScriptBootFile": "train.py"}
NAMES = tuple(f"edge-{number}" for number in range(8))


def _fleet(*names: str, **more: Any) -> View:
    return _view(*(_edge(name, **more) for name in names))


def _begun(view: View, participants: Any, memory: Memory = NOTHING, **spec: Any) -> FederatedTask:
    """Return a task of one repeated worker in its first round."""
    task = _task(rounds=99, trainingWorkers=[{"name": "w", "workerSpec": WORKER}], participants=participants, **spec)
    task = federated.begin(task, view, NOW, 1)
    return federated.close(task, _closed(0, "edge-0", model=9), view, NOW, memory)


def _next(task: FederatedTask, view: View, memory: Memory = NOTHING) -> FederatedTask:
    closed = _closed(task.status.round, *task.status.participants, model=task.status.round)
    return federated.close(task, closed, view, NOW, memory)


def test_a_fraction_takes_every_edge_and_asks_a_part_of_them() -> None:
    task = _begun(_fleet(*NAMES), {"fraction": 0.3})
    assert sorted(task.status.assignments.values()) == [*NAMES]
    drawn = [draw(task, round, _fleet(*NAMES)) for round in range(1, 50)]
    assert all(len(each) == 2 for each in drawn)
    assert {edge for each in drawn for edge in each} == {*NAMES}
    assert len(draw(task, 1, _fleet("edge-5"))) == 1  # the others are gone


def test_a_count_with_a_selection_takes_every_edge_too() -> None:
    task = _begun(_fleet(*NAMES), {"count": 2, "selection": {"strategy": "oort"}})
    assert sorted(task.status.assignments.values()) == [*NAMES]
    assert len(task.status.participants) == 2
    alone = _begun(_fleet(*NAMES), {"count": 2})
    assert sorted(alone.status.assignments.values()) == ["edge-0", "edge-1"]


@pytest.mark.parametrize("participants", [{"all": True}, {"fraction": 1.0},
                                          {"count": 8, "selection": {"strategy": "power-of-choice"}}])  # fmt: skip
def test_an_edge_that_comes_later_takes_part_from_the_next_round_on(participants: Any) -> None:
    before, after_it = _fleet(*NAMES[:2]), _fleet(*NAMES[:3], "edge-9")
    wanted = participants if "count" not in participants else participants | {"count": 2}
    task = _begun(before, wanted)
    assert federated.observe(task, after_it, NOW).status.participants == ["edge-0", "edge-1"]
    task = _next(task, after_it)
    assert sorted(task.status.assignments.values()) == ["edge-0", "edge-1", "edge-2", "edge-9"]
    assert (task.status.datasets["edge-9"], (task.status.pinned_samples or {})["edge-9"]) == ("data", 10)
    assert "edge-9" in task.status.uncounted
    if "count" not in participants:
        assert task.status.participants == ["edge-0", "edge-1", "edge-2", "edge-9"]
        (training,) = desired_tasks(task, after_it)["edge-9"]
        assert training.is_due and training.dataset == "data"  # type: ignore[attr-defined]
    else:  # an edge that was never counted has an infinite loss: it comes first
        assert set(task.status.participants) <= {*NAMES[:3], "edge-9"}
    assert _next(task, after_it).status.assignments == task.status.assignments


def test_an_edge_without_the_data_set_and_an_offline_one_do_not_come() -> None:
    task = _begun(_fleet("edge-0"), {"all": True})
    others = _view(_edge("edge-0"), _edge("edge-1", dataset="other"), _edge("edge-2", online=False), _edge("edge-3"))
    assert sorted(_next(task, others).status.assignments.values()) == ["edge-0", "edge-3"]


@pytest.mark.parametrize("spec", [
    {"participants": {"count": 1}}, {},
    {"participants": {"all": True}, "trainingWorkers": [{"name": "w", "nodeName": "edge-0", "workerSpec": WORKER}]},
])  # fmt: skip
def test_a_task_that_says_its_edges_takes_no_others(spec: dict[str, Any]) -> None:
    worker = {"trainingWorkers": [{"name": "w", "workerSpec": WORKER}]}
    task = federated.begin(_task(rounds=9, **worker | spec), _fleet("edge-0"), NOW, 1)
    task = federated.close(task, _closed(0, "edge-0", model=9), _fleet("edge-0"), NOW)
    assert [*_next(task, _fleet(*NAMES)).status.assignments.values()] == ["edge-0"]


def test_the_aggregation_tells_of_each_edge_only_where_a_strategy_compares_them() -> None:
    for selection, tells in ((None, False), ({"strategy": "random"}, False), ({"strategy": "resources"}, False),
                             ({"strategy": "oort"}, True), ({"atLeastEvery": 4}, True)):  # fmt: skip
        participants = {"count": 2} | ({"selection": selection} if selection is not None else {})
        task = _begun(_fleet(*NAMES), participants)
        aggregation = desired_tasks(task, _fleet(*NAMES))["cloud"][0]
        assert isinstance(aggregation, AggregateTask) and aggregation.collect.measure is tells


def test_rounds_follow_the_memory_and_a_new_leader_decides_the_same() -> None:
    view, memory = _fleet(*NAMES), NOTHING
    task = _begun(view, {"count": 2, "selection": {
        "strategy": "power-of-choice", "parameters": [{"key": "candidates", "value": 8}]}})  # fmt: skip
    asked = []
    for _ in range(8):
        asked.append(task.status.participants)
        measured = {edge: EdgeMeasure(num_samples=5, loss=float(edge[-1])) for edge in task.status.participants}
        closed = _closed(task.status.round, *task.status.participants, model=1, measured=measured)
        memory = after(memory, closed)
        again = federated.close(task, closed, view, NOW, Memory(memory.round, dict(sorted(memory.edges.items()))))
        task = federated.close(task, closed, view, NOW, memory)
        assert again == task
    assert {edge for each in asked[:4] for edge in each} == {*NAMES}  # each edge once: no loss was known
    assert asked[4:] == [["edge-6", "edge-7"]] * 4


def test_what_a_strategy_lacks_is_a_condition_until_it_has_it() -> None:
    view = _fleet(*NAMES[:3])
    silent = Memory(1, {edge: EdgeMemory(1, 1, 5) for edge in NAMES[:3]})
    task = _begun(view, {"count": 2, "selection": {"strategy": "oort"}})
    assert all(each.type != "SelectionInformed" for each in task.status.conditions)
    task = _next(task, view, silent)
    expected = ("False", "Lacking", "3 edges have told no loss: they are drawn as if they were new")
    assert _condition(task, "SelectionInformed") == expected
    told = Memory(2, {edge: EdgeMemory(2, 2, 5, 1.0) for edge in NAMES[:3]})
    assert _condition(_next(task, view, told), "SelectionInformed")[:2] == ("True", "Informed")


@pytest.mark.parametrize(
    ("participants", "field", "words"),
    [
        ({"selection": {"strategy": "oort"}}, "spec.participants", "either {count: N}, {fraction: 0.1} or {all: true}"),
        ({"count": 1, "fraction": 0.5}, "spec.participants", "either {count: N}, {fraction: 0.1} or {all: true}"),
        ({"fraction": 0}, "spec.participants.fraction", "0"),
        ({"fraction": 1.5}, "spec.participants.fraction", "1"),
        ({"all": True, "selection": {"strategy": "oort"}}, "spec.participants", "oort selects fewer edges than all"),
        ({"count": 1, "selection": {"strategy": "ort"}}, "spec.participants.selection.strategy",
         "'random', 'resources', 'power-of-choice' or 'oort'"),
        ({"count": 1, "selection": {"atLeastEvery": 0}}, "spec.participants.selection.atLeastEvery", "1"),
        ({"count": 1, "selection": {"every": 1}}, "spec.participants.selection.every", ""),
    ],
)  # fmt: skip
def test_a_bad_document_is_refused_with_its_field(participants: Any, field: str, words: str) -> None:
    with pytest.raises(Refused) as refused:
        _task(participants=participants)
    assert refused.value.field == field
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("strategy", "key", "value", "expected"),
    [
        ("random", "alpha", 1, "no parameter: random has none"),
        ("oort", "alfa", 1, "one of alpha, cutoff, exploration, exploration_decay, exploration_min, preferred_seconds"),
        ("oort", "alpha", "high", "number"),
        ("oort", "exploration", 2, "at most 1"),
        ("oort", "preferred_seconds", 0, "more than 0"),
        ("power-of-choice", "candidates", 0, "at least 1"),
        ("power-of-choice", "candidates", 1.5, "integer"),
        ("resources", "free_memory", "much", "pattern"),
        ("resources", "battery", 101, "at most 100"),
    ],
)
def test_a_bad_parameter_is_refused_with_what_there_is(strategy: str, key: str, value: Any, expected: str) -> None:
    good = [{"key": "free_cores", "value": 1}] if strategy == "resources" else []
    selection = {"strategy": strategy, "parameters": [*good, {"key": key, "value": value}]}
    task = _task(participants={"count": 1, "selection": selection})
    with pytest.raises(Refused) as refused:
        check_selection(task, "request/jobs/create")
    number = len(good)
    part = "key" if "one of" in expected or "no parameter" in expected else "value"
    assert refused.value.field == f"spec.participants.selection.parameters[{number}].{part}"
    assert expected in str(refused.value)


def test_each_strategy_takes_its_document_without_parameters() -> None:
    for strategy in STRATEGIES:
        check_selection(_task(participants={"count": 1, "selection": {"strategy": strategy}}), "t")
    given = [{"key": "alpha", "value": 1}, {"key": "exploration", "value": 1}, {"key": "preferred_seconds"}]
    check_selection(_task(participants={"count": 1, "selection": {"strategy": "oort", "parameters": given}}), "t")
