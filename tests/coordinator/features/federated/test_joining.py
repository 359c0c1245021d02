"""Edges and foreign participants that join a task by request, without a broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from heliograph.bus.contract.payloads import UncountedUpdate
from heliograph.bus.contract.resources import JOINED, FederatedTask
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.features.federated import state_machine as federated
from heliograph.coordinator.features.federated import steps
from heliograph.coordinator.features.federated.desired_tasks import desired_tasks
from heliograph.coordinator.features.federated.joining import join_edge, join_participant, participation
from heliograph.core.errors import Refused
from tests.coordinator.features.federated.test_state_machine import (
    EDGES,
    FAILS,
    NOW,
    _closed,
    _condition,
    _edge,
    _task,
    _view,
    _weights,
)

TOPIC = "request/jobs/join"
WORKER = {"dataset": {"name": "data"}, "trainScriptBootFile": "train.py"}


def _phone(online: bool = True) -> EdgeView:
    """A participant as the broker shows it: connected, and without a report."""
    return EdgeView("phone", online, foreign=True)


ALL = _view(*(_edge(name) for name in (*EDGES, "edge-4")), _phone())


def _running(view: View = ALL, **spec: Any) -> FederatedTask:
    task = federated.begin(_task(**spec), view, NOW, 7)
    return federated.close(task, _closed(0, "edge-1", model=9), view, NOW)


def _next(task: FederatedTask, *counted: str, view: View = ALL, **more: Any) -> FederatedTask:
    return federated.close(task, _closed(task.status.round, *counted, **more), view, NOW)


def _refused(join: Callable[[], object]) -> Refused:
    with pytest.raises(Refused) as refused:
        join()
    assert refused.value.topic == TOPIC
    return refused.value


def test_an_edge_joins_a_running_job_and_trains_from_the_next_round_on() -> None:
    task = join_edge(_running(rounds=9), "edge-4", None, ALL, TOPIC)
    assert task.status.participants == [*EDGES]
    assert not participation(task, "edge-4", {}, "later", True).active
    assert "edge-4" in desired_tasks(task, ALL)  # its worker is made ready
    after = _next(task, *EDGES)
    assert after.status.participants == [*EDGES, "edge-4"]
    (trains,) = desired_tasks(after, ALL)["edge-4"]
    assert (trains.worker, trains.revision, trains.is_due) == ("j-edge-3-edge-4", 2, True)
    assert after.status.datasets["edge-4"] == "data"
    assert (after.status.pinned_samples or {})["edge-4"] == 10
    assert after.status.uncounted == ["edge-4"]
    assert join_edge(after, "edge-4", None, ALL, TOPIC) is after


def test_an_edge_that_joins_a_pending_job_is_placed_when_it_begins() -> None:
    few = _view(_edge("edge-1"), _edge("edge-4"))
    waiting = federated.begin(_task(), few, NOW, 7)
    task = join_edge(waiting, "edge-4", None, few, TOPIC)
    assert (task.status.phase, task.status.assignments) == ("Pending", {})
    begun = federated.begin(task, ALL, NOW, 7)
    assert sorted(begun.status.assignments.values()) == [*EDGES, "edge-4"]


def test_an_edge_that_had_left_trains_again_once_it_is_asked_to() -> None:
    task = _next(_running(rounds=9), *EDGES, stopping=["edge-2"])
    assert task.status.participants == ["edge-1", "edge-3"]
    again = join_edge(task, "edge-2", None, ALL, TOPIC)
    assert _next(again, "edge-1", "edge-3").status.participants == [*EDGES]


def test_an_edge_that_joins_may_train_on_another_data_set() -> None:
    view = _view(*(_edge(name) for name in EDGES), _edge("edge-4", dataset="other"))
    error = _refused(lambda: join_edge(_running(), "edge-4", None, view, TOPIC))
    assert (error.field, error.got) == ("dataset", "data")
    assert "other" in error.expected
    assert join_edge(_running(), "edge-4", "other", view, TOPIC).status.datasets["edge-4"] == "other"


@pytest.mark.parametrize("edge", ["nowhere", "cloud", "phone"])
def test_only_an_edge_with_an_agent_can_be_made_to_join(edge: str) -> None:
    error = _refused(lambda: join_edge(_running(), edge, None, ALL, TOPIC))
    assert (error.field, error.got) == ("edge", edge)
    assert error.expected == "one of edge-1, edge-2, edge-3, edge-4"


def test_nobody_joins_a_job_that_has_ended() -> None:
    task = steps.stop(_running(), NOW)
    assert _refused(lambda: join_edge(task, "edge-4", None, ALL, TOPIC)).code == "ended"
    assert join_participant(task, "phone", 5, ALL, TOPIC) is task  # it asks what to do, and learns of the end
    assert participation(task, "phone", {}, "", True).phase == "Stopped"


def test_a_participant_joins_and_is_asked_from_the_next_round_on() -> None:
    task = join_participant(_running(rounds=9), "phone", 40, ALL, TOPIC)
    assert not participation(task, "phone", {"rate": 1}, "later", True).active
    task = _next(task, *EDGES, model=5)
    assert task.status.participants == [*EDGES, "phone"]
    told = participation(task, "phone", {"rate": 1}, "later", True)
    assert (told.active, told.round, told.model, told.parameters) == (True, 2, _weights(5), {"rate": 1})
    assert (told.deadline, told.most_samples, told.job_uid) == ("later", 40, "uid")
    found = desired_tasks(task, ALL)
    assert "phone" not in found  # no agent runs anything for it
    (aggregation,) = (each for each in found["cloud"] if each.role == "aggregate")
    assert aggregation.collect.samples["phone"] == 40  # type: ignore[attr-defined]
    assert "phone" in aggregation.collect.reachable  # type: ignore[attr-defined]
    assert join_participant(task, "phone", 40, ALL, TOPIC) is task
    more = join_participant(task, "phone", 60, ALL, TOPIC)
    assert (more.status.pinned_samples or {})["phone"] == 60


def test_no_round_waits_for_a_participant_that_has_gone() -> None:
    task = _next(join_participant(_running(rounds=9), "phone", 40, ALL, TOPIC), *EDGES)
    gone = _view(*(_edge(name) for name in EDGES), _phone(online=False))
    (aggregation,) = (each for each in desired_tasks(task, gone)["cloud"] if each.role == "aggregate")
    assert aggregation.collect.reachable == [*EDGES]  # type: ignore[attr-defined]
    assert _next(task, *EDGES, view=gone).status.participants == [*EDGES]


def test_a_participant_is_told_of_its_updates_that_did_not_count() -> None:
    task = _next(join_participant(_running(rounds=9), "phone", 40, ALL, TOPIC), *EDGES)
    refused = [UncountedUpdate(edge=edge, round=2, reason=f"shape of {edge}") for edge in ("phone", "edge-1")]
    task = _next(task, *EDGES, refused=refused)
    assert [each.reason for each in participation(task, "phone", {}, "", True).uncounted] == ["shape of phone"]


def test_a_participant_that_asks_to_stop_is_asked_no_more() -> None:
    task = _next(join_participant(_running(rounds=9), "phone", 40, ALL, TOPIC), *EDGES)
    task = _next(task, *EDGES, "phone", stopping=["phone"])
    assert task.status.participants == [*EDGES]
    assert join_participant(task, "phone", 40, ALL, TOPIC) is task  # asking what to do is no wish to return
    assert participation(task, "phone", {}, "", True).left


def test_a_job_of_participants_alone_needs_no_edge() -> None:
    view = View({"cloud": ALL.edges["cloud"], "phone": _phone()}, ALL.models)
    named = _task(trainingWorkers=[{"name": "phone", "nodeName": "phone"}])
    free = _task(trainingWorkers=[{"name": "any", "workerSpec": WORKER}])
    for task in (named, free):
        assert federated.begin(task, view, NOW, 7).status.phase == "Pending"
        begun = federated.begin(join_participant(task, "phone", 40, view, TOPIC), view, NOW, 7)
        assert (begun.status.phase, begun.status.participants) == ("Running", ["phone"])
        assert participation(begun, "phone", {}, "later", True).active  # for the initial weights
        assert participation(begun, "phone", {}, "later", True).model is None
        assert desired_tasks(begun, view).keys() == {"cloud"}
        late = federated.observe(begun, View({"cloud": view.edges["cloud"], "phone": _phone(False)}, view.models),
                                 "2026-02-01T00:00:00.000000Z")  # fmt: skip
        assert late.status.phase == "Running"  # it may return; nobody else is hindered


def test_agents_come_before_participants_for_the_initial_weights() -> None:
    early = EdgeView("a-phone", True, foreign=True)
    view = View({**ALL.edges, "a-phone": early}, ALL.models)
    task = join_participant(_task(), "a-phone", 40, view, TOPIC)
    begun = federated.begin(task, view, NOW, 7)
    assert (begun.status.step, begun.status.participants) == ("initialising", ["edge-1"])


def test_a_job_whose_edges_all_fail_does_not_wait_for_a_participant_that_has_gone() -> None:
    task = _next(join_participant(_running(rounds=9), "phone", 40, ALL, TOPIC), *EDGES)
    failing = {name: _edge(name, train=FAILS) for name in EDGES}
    with_phone = View({**ALL.edges, **failing}, ALL.models)
    assert federated.observe(task, with_phone, NOW).status.phase == "Running"
    without = View({**with_phone.edges, "phone": _phone(online=False)}, ALL.models)
    ended = federated.observe(task, without, NOW)
    assert (ended.status.phase, _condition(ended, "Complete")[1]) == ("Failed", "WorkersFailed")


def test_no_training_worker_is_placed_on_a_participant_that_has_not_joined() -> None:
    view = View({"cloud": ALL.edges["cloud"], "phone": _phone()}, ALL.models)
    free = _task(trainingWorkers=[{"name": "any", "workerSpec": {"trainScriptBootFile": "train.py"}}])
    waiting = federated.begin(free, view, NOW, 7)
    assert waiting.status.phase == "Pending"
    assert "no free edge" in _condition(waiting, "Ready")[2]


def test_a_participant_takes_no_edges_name() -> None:
    error = _refused(lambda: join_participant(_running(), "edge-2", 5, ALL, TOPIC))
    assert (error.code, error.got) == ("exists", "edge-2")


def test_a_bounded_number_joins_by_request() -> None:
    task = _running()
    full = {f"p{number}": {"foreign": True} for number in range(JOINED)}
    status = task.status.model_validate({**task.status.model_dump(), "joined": full})
    crowded = task.model_copy(update={"status": status})
    assert _refused(lambda: join_participant(crowded, "phone", 5, ALL, TOPIC)).code == "too-many"
    assert join_participant(crowded, "p7", 5, ALL, TOPIC).status.joined["p7"].samples == 5


def test_a_job_without_anybody_who_joined_has_no_such_field() -> None:
    task = _running()
    assert "joined" not in task.model_dump(mode="json", by_alias=True)["status"]


def test_the_versions_that_a_job_trains_on_are_pinned_when_it_begins_and_when_an_edge_joins() -> None:
    def having(edge: str, version: str) -> EdgeView:
        seen = _edge(edge)
        assert seen.report is not None
        index = seen.report.datasets[0].model_copy(update={"version": version})
        return EdgeView(edge, True, seen.report.model_copy(update={"datasets": [index]}))

    before = _view(*(having(edge, f"v-{edge}") for edge in EDGES), having("edge-4", ""))
    later = _view(*(having(edge, "other") for edge in EDGES), having("edge-4", "v-edge-4"))
    task = _running(before)
    pinned = {edge: f"v-{edge}" for edge in EDGES}
    assert task.status.dataset_versions == pinned  # an agent of 0.1 tells none
    assert join_edge(task, "edge-4", None, later, TOPIC).status.dataset_versions == pinned | {"edge-4": "v-edge-4"}
