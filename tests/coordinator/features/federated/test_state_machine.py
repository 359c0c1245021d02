"""The state machine of a federated task, step by step, without a broker."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.payloads import (
    Aggregation,
    Evaluation,
    Generation,
    Offer,
    Report,
    UncountedUpdate,
    WorkerReport,
)
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import DatasetIndex, FederatedTask, Metadata, Model, WeightsRef
from heliograph.coordinator.edges.view import GIVE_UP_AFTER, EdgeView, View
from heliograph.coordinator.features.federated import state_machine as federated
from heliograph.coordinator.features.federated import steps
from heliograph.coordinator.features.federated.desired_tasks import desired_tasks, training_tasks, warm_tasks
from heliograph.coordinator.features.federated.drawing import draw

NOW = "2026-01-01T00:00:00.000000Z"
EDGES = ("edge-1", "edge-2", "edge-3")


def _weights(number: int) -> WeightsRef:
    return WeightsRef(digest=f"{number:064x}", size=4, inline=b"safe")


def _edge(name: str, online: bool = True, dataset: str = "data", **workers: Any) -> EdgeView:
    datasets = [DatasetIndex(name=dataset, samples=10)] if dataset else []
    offers = Offer(algorithms={"FedAvg": {}})
    found = [WorkerReport(worker=f"w-{role}", role=role, job="j", job_uid="uid", **{"round": 1, **state})
             for role, state in workers.items()]  # fmt: skip
    return EdgeView(
        name, online, Report(edge=name, observed=Generation(), datasets=datasets, offers=offers, workers=found)
    )


def _view(*edges: EdgeView, models: tuple[str, ...] = ("m",)) -> View:
    cloud = _edge("cloud", dataset="test")
    return View(
        {each.name: each for each in (cloud, *edges)}, {name: Model(metadata=Metadata(name=name)) for name in models}
    )


ALL = _view(*(_edge(name) for name in EDGES))
FAILS = {"state": "backing-off", "restarts": GIVE_UP_AFTER, "detail": "boom"}


def _task(**spec: Any) -> FederatedTask:
    worker = {"dataset": {"name": "data"}, "trainScriptBootFile": "train.py"}
    document = {
        "kind": "FederatedTask",
        "metadata": {"name": "j", "uid": "uid"},
        "spec": {
            "aggregationWorker": {"model": {"name": "m"}},
            "trainingWorkers": [{"name": name, "nodeName": name, "workerSpec": worker} for name in EDGES],
            "rounds": 2,
        }
        | spec,
    }
    found = parse_resource(document)
    assert isinstance(found, FederatedTask)
    return found


def _closed(round: int, *counted: str, model: int | None = 1, **more: Any) -> Aggregation:
    return Aggregation(
        job="j", job_uid="uid", round=round, model=_weights(model) if model is not None else None,
        counted=dict.fromkeys(counted, "d"), reason="complete", **more,
    )  # fmt: skip


def _running(**spec: Any) -> FederatedTask:
    task = federated.begin(_task(**spec), ALL, NOW, 7)
    return federated.close(task, _closed(0, "edge-1", model=9), ALL, NOW)


def _condition(task: FederatedTask, type: str) -> tuple[str, str, str]:
    found = next(each for each in task.status.conditions if each.type == type)
    return found.status, found.reason, found.message


@pytest.mark.parametrize(
    "view, missing",
    [
        (_view(*(_edge(name) for name in EDGES), models=()), "model m does not exist"),
        (_view(_edge("edge-1"), _edge("edge-2")), "node edge-3 of training worker edge-3 is unknown"),
        (_view(_edge("edge-1"), _edge("edge-2", online=False), _edge("edge-3")), "edge-2 is offline"),
        (_view(_edge("edge-1"), _edge("edge-2"), _edge("edge-3", dataset="other")), "data is not on node edge-3"),
        (View({name: _edge(name) for name in EDGES}, ALL.models), "aggregation node cloud is unknown"),
    ],
)  # fmt: skip
def test_a_pending_task_names_its_missing_resources(view: View, missing: str) -> None:
    task = federated.begin(_task(), view, NOW, 1)
    assert task.status.phase == "Pending"
    assert missing in _condition(task, "Ready")[2]
    assert federated.begin(task, view, "later", 1) is task  # without news there is nothing to store
    assert federated.begin(task, ALL, NOW, 1).status.phase == "Running"


def test_round_0_asks_one_edge_for_the_initial_weights() -> None:
    task = federated.begin(_task(), ALL, NOW, 7)
    assert (task.status.step, task.status.round, task.status.participants) == ("initialising", 0, ["edge-1"])
    assert task.status.updates_from == 7
    desired = desired_tasks(task, ALL)
    assert [each.active for name in EDGES for each in desired[name]] == [True, False, False]  # others are warmed up
    assert [each.role for each in desired["cloud"]] == ["aggregate"]


def test_an_edge_that_does_not_take_part_keeps_the_very_same_task() -> None:
    task = federated.begin(_task(), ALL, NOW, 7)
    warm = warm_tasks(task, ALL.algorithms("cloud"))
    found = training_tasks(task, warm)
    assert [found[name] is warm[name] for name in EDGES] == [False, True, True]
    assert [(each.round, each.active) for name in EDGES for each in warm[name]] == [(0, False)] * 3


def test_rounds_follow_each_other_until_the_last() -> None:
    task = _running()
    assert (task.status.step, task.status.round, task.status.participants) == ("training", 1, [*EDGES])
    assert task.status.rounds == []  # round 0 trains nothing
    task = federated.close(task, _closed(1, *EDGES, model=1), ALL, NOW)
    assert (task.status.round, task.status.model_round) == (2, 1)
    task = federated.close(task, _closed(2, "edge-1", model=2), ALL, NOW)
    assert (task.status.phase, task.status.step) == ("Succeeded", "done")
    assert [each.counted for each in task.status.rounds] == [3, 1]
    assert desired_tasks(task, ALL) == {}


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["uid", "other"])), max_size=12))
def test_a_close_counts_once_and_only_in_its_round(closes: list[tuple[int, str]]) -> None:
    task = _running(rounds=4)
    expected = 1
    for round, uid in closes:
        task = federated.close(task, _closed(round, *EDGES).model_copy(update={"job_uid": uid}), ALL, NOW)
        expected += round == expected and uid == "uid" and expected <= 4
        assert len(task.status.rounds) == expected - 1
    assert (task.status.phase == "Succeeded") == (expected == 5)


def test_the_last_model_is_evaluated_before_the_task_ends() -> None:
    task = _running(rounds=1, evaluationWorker={"dataset": {"name": "test"}})
    task = federated.close(task, _closed(1, *EDGES), ALL, NOW)
    assert (task.status.phase, task.status.step) == ("Running", "evaluating")
    assert [each.role for each in desired_tasks(task, ALL)["cloud"]] == ["evaluate"]
    other = Evaluation(job="j", job_uid="uid", round=1, model=f"{5:064x}", metrics={"accuracy": 1.0})
    assert federated.evaluate(task, other, NOW) is task
    right = other.model_copy(update={"model": f"{1:064x}", "metrics": {"accuracy": 0.5}})
    task = federated.evaluate(task, right, NOW)
    assert (task.status.phase, task.status.evaluation) == ("Succeeded", {"accuracy": 0.5})


def test_rounds_without_a_valid_update_fail_the_task_with_the_reason() -> None:
    task = _running(rounds=9)
    refused = [UncountedUpdate(edge="edge-2", round=1, reason="NaN in w")]
    for round in range(1, federated.ROUNDS_WITHOUT_UPDATE + 1):
        assert task.status.phase == "Running"
        task = federated.close(task, _closed(round, refused=refused), ALL, NOW)
    assert task.status.phase == "Failed"
    assert "edge edge-2: NaN in w" in _condition(task, "Complete")[2]
    assert task.status.refused_count == federated.ROUNDS_WITHOUT_UPDATE


def test_an_edge_whose_worker_fails_is_named_and_not_waited_for() -> None:
    view = _view(_edge("edge-1", train=FAILS), _edge("edge-2"), _edge("edge-3"))
    task = federated.observe(_running(), view, NOW)
    assert _condition(task, "WorkersHealthy") == ("False", "WorkerFails", "edge-1: boom")
    collect = desired_tasks(task, view)["cloud"][0].collect
    assert collect is not None
    assert (collect.participants, collect.reachable) == ([*EDGES], ["edge-2", "edge-3"])
    assert draw(task, 2, view) == ["edge-2", "edge-3"]
    assert federated.observe(task, view, NOW) is task


def test_a_worker_without_its_script_is_named_and_its_round_waits() -> None:
    waits = {"state": "waiting", "detail": "script train.py is not on this node"}
    nowhere = _view(*(_edge(name, train=waits) for name in EDGES))
    task = federated.observe(_running(), nowhere, NOW)
    expected = "; ".join(f"{name}: {waits['detail']}" for name in EDGES)
    assert _condition(task, "WorkersHealthy") == ("False", "WorkerWaits", expected)
    assert (task.status.phase, task.status.round, task.status.participants) == ("Running", 1, [*EDGES])
    collect = desired_tasks(task, nowhere)["cloud"][0].collect
    assert collect is not None
    assert collect.reachable == [*EDGES]  # the script may still come
    mixed = federated.observe(task, _view(_edge("edge-1", train=FAILS), _edge("edge-2", train=waits)), NOW)
    assert _condition(mixed, "WorkersHealthy") == ("False", "WorkerFails", f"edge-1: boom; edge-2: {waits['detail']}")
    assert _condition(federated.observe(mixed, ALL, NOW), "WorkersHealthy")[:2] == ("True", "AllWork")


def test_an_evaluation_without_its_data_set_is_named() -> None:
    waits = {"state": "waiting", "detail": "data set test is not on this node"}
    view = View({**ALL.edges, "cloud": _edge("cloud", evaluate=waits)}, ALL.models)
    task = federated.observe(_running(evaluationWorker={"dataset": {"name": "test"}}), view, NOW)
    assert _condition(task, "WorkersHealthy") == ("False", "WorkerWaits", f"cloud: {waits['detail']}")


def test_workers_that_fail_everywhere_fail_the_task() -> None:
    everywhere = _view(*(_edge(name, train=FAILS) for name in EDGES))
    assert _condition(federated.observe(_running(), everywhere, NOW), "Complete")[1] == "WorkersFailed"


def test_an_aggregation_worker_that_fails_fails_the_task() -> None:
    view = View({**ALL.edges, "cloud": _edge("cloud", aggregate=FAILS)}, ALL.models)
    assert _condition(federated.observe(_running(), view, NOW), "Complete")[1:] == ("AggregationFailed", "cloud: boom")


def test_a_round_without_reachable_edges_names_the_edges_that_it_waits_for() -> None:
    away = _view(*(_edge(name, online=False) for name in EDGES))
    task = federated.observe(_running(), away, NOW)
    assert _condition(task, "Progressing") == (
        "False", "Offline", "round 1 waits for edge-1, edge-2, edge-3: offline",
    )  # fmt: skip
    back = federated.observe(task, _view(_edge("edge-1"), *(_edge(name, online=False) for name in EDGES[1:])), NOW)
    assert _condition(back, "Progressing")[0] == "True"


def test_a_stopped_task_asks_for_nothing_and_stays_stopped() -> None:
    task = steps.stop(_running(), NOW)
    assert task.status.phase == "Stopped"
    assert desired_tasks(task, ALL) == {}
    assert federated.close(task, _closed(1, *EDGES), ALL, NOW) is task
    assert steps.stop(task, "later") is task


def test_the_draw_of_a_round_is_the_same_each_time_and_changes_with_the_round() -> None:
    many = _view(*(_edge(f"e{number}") for number in range(20)))
    worker = {"name": "all", "workerSpec": {"dataset": {"name": "data"}}}
    task = federated.begin(
        _task(trainingWorkers=[worker] + [{"name": f"w{n}"} for n in range(19)], participants=5), many, NOW, 1
    )
    assert len(task.status.assignments) == 20
    drawn = [draw(task, round, many) for round in range(1, 9)]
    assert drawn == [draw(task, round, many) for round in range(1, 9)]
    assert {len(each) for each in drawn} == {5}
    assert len({tuple(each) for each in drawn}) > 1


def test_the_next_rounds_edges_get_the_algorithms_tensors_and_each_its_own_model() -> None:
    task = federated.begin(_task(), ALL, NOW, 1)
    task = federated.close(task, _closed(0, "edge-1"), ALL, NOW)
    down, own, older = _weights(7), _weights(8), _weights(9)
    personal = {"edge-1": own, "edge-9": older}
    task = federated.close(task, _closed(1, *EDGES, model=2, down=down, personal=personal), ALL, NOW)
    desired = desired_tasks(task, ALL)
    [one], [two] = desired["edge-1"], desired["edge-2"]
    assert (one.down, one.personal, one.loaded) == (down, own, own)
    assert (two.down, two.personal, two.loaded) == (down, None, _weights(2))
    assert one.model == _weights(2)  # its update names this base
    task = federated.close(task, _closed(2, *EDGES, model=3), ALL, NOW)
    assert (task.status.down, task.status.personal) == (None, None)


def test_each_edge_s_last_counted_update_reaches_its_next_task() -> None:
    """Also where it was late, refused or not asked in the rounds between; only where the algorithm keeps arrays there.
    """
    offers = Offer(algorithms={"FedAvg": {"x-keepsEdgeState": True}})
    cloud = ALL.edges["cloud"]
    assert cloud.report is not None
    report = cloud.report.model_copy(update={"offers": offers})
    view = View({**ALL.edges, "cloud": EdgeView("cloud", True, report)}, ALL.models)
    for seen, keeps in ((view, True), (ALL, False)):
        task = _task(rounds=9)
        task = federated.begin(task, seen, NOW, 1)
        for round, counted in enumerate(({}, {"edge-1": "a1", "edge-2": "b1"}, {"edge-2": "b2"}, {"edge-3": "c3"})):
            closed = Aggregation(job="j", job_uid="uid", round=round, counted=counted, model=_weights(round),
                                 reason="complete")  # fmt: skip
            task = federated.close(task, closed, seen, NOW)
        tasks = training_tasks(task, warm_tasks(task, {}))
        found = {edge: tasks[edge][0].counted for edge in EDGES}  # type: ignore[union-attr]
        assert found == ({"edge-1": "a1", "edge-2": "b2", "edge-3": "c3"} if keeps else dict.fromkeys(EDGES))
