"""What is asked about a job: its data, models, training, evaluation and deployment."""

from __future__ import annotations

from typing import Any

from heliograph.bus.contract.job_requests import EdgesQuery
from heliograph.bus.contract.payloads import Evaluation
from heliograph.bus.contract.request_bodies import Named
from heliograph.bus.contract.resources import FederatedTask, Metadata, Model, ModelVersion
from heliograph.bus.contract.resources.model import ModelStatus
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.federated import questions
from heliograph.coordinator.features.federated import state_machine as federated
from tests.coordinator.features.federated.test_state_machine import (
    ALL,
    EDGES,
    FAILS,
    NOW,
    _closed,
    _edge,
    _running,
    _view,
    _weights,
)


def _asked(task: FederatedTask, verb: str, view: View = ALL, **body: Any) -> dict[str, Any]:
    query = EdgesQuery if verb in ("dataset", "training") else Named
    answer = questions.answer(task, verb, query.model_validate({"name": "j", **body}), view)
    return answer.model_dump(mode="json", by_alias=True, exclude_none=True)


def _evaluated() -> FederatedTask:
    task = _running(rounds=9, evaluationWorker={"dataset": {"name": "test"}})
    task = federated.close(task, _closed(1, *EDGES, num_samples=30), ALL, NOW)
    measured = Evaluation(job="j", job_uid="uid", round=1, model=f"{1:064x}", metrics={"accuracy": 0.5})
    return federated.evaluate(task, measured, NOW)


def test_the_data_of_each_edge_comes_with_what_its_agent_tells_now() -> None:
    found = _asked(_running(evaluationWorker={"dataset": {"name": "test"}}), "dataset")
    assert (found["edgeCount"], found["samples"]) == (3, 30)
    index = found["edges"][0].pop("index")
    assert found["edges"][0] == {
        "edge": "edge-1", "worker": "edge-1", "dataset": "data", "samplesAtStart": 10, "online": True
    }  # fmt: skip
    assert index["samples"] == 10
    assert (found["evaluation"]["edge"], found["evaluation"]["dataset"]) == ("cloud", "test")
    lost = _asked(_running(), "dataset", _view(_edge("edge-1", dataset="other"), _edge("edge-2", online=False)))
    assert ["index" in each for each in lost["edges"]] == [False, True, False]
    assert [each["online"] for each in lost["edges"]] == [True, False, False]
    assert "evaluation" not in lost


def test_edges_come_page_by_page() -> None:
    first = _asked(_running(), "training", limit=2)
    assert ([each["edge"] for each in first["edges"]], first["continue"]) == (["edge-1", "edge-2"], "edge-2")
    second = _asked(_running(), "training", limit=2, **{"continue": "edge-2"})
    assert ([each["edge"] for each in second["edges"]], "continue" in second) == (["edge-3"], False)
    assert "continue" not in _asked(_running(), "training", limit=3)


def test_the_training_of_each_edge_and_round() -> None:
    view = _view(_edge("edge-1", train=FAILS), _edge("edge-2"), _edge("edge-3", online=False))
    task = federated.close(_running(), _closed(1, *EDGES, stopping=["edge-3"]), view, NOW)
    found = _asked(task, "training", view)
    assert (found["phase"], found["step"], found["round"], found["rounds"]) == ("Running", "training", 2, 2)
    assert found["deadline"] > NOW
    assert [each["round"] for each in found["history"]] == [1]
    failing, other, left = found["edges"]
    assert (failing["state"], failing["detail"], failing["restarts"]) == ("backing-off", "boom", FAILS["restarts"])
    assert (other["state"], other["participates"]) == ("", True)
    assert (left["left"], left["participates"], left["online"]) == (True, False, False)


def test_the_evaluation_of_each_round() -> None:
    found = _asked(_evaluated(), "evaluation", _view(*map(_edge, EDGES)))
    assert found["metrics"] == {"accuracy": 0.5}
    assert found["rounds"] == [{"round": 1, "model": f"{1:064x}", "metrics": {"accuracy": 0.5}}]
    assert (found["data"]["edge"], found["data"]["dataset"]) == ("cloud", "test")
    assert _asked(_running(), "evaluation") == {
        "name": "j", "state": "", "detail": "", "metrics": {}, "rounds": []
    }  # fmt: skip


def test_the_models_that_a_job_has_made_and_where_they_are_to_run() -> None:
    task = _evaluated()
    mine = ModelVersion(version=2, weights=_weights(2), job="uid")
    other = ModelVersion(version=3, weights=_weights(3), job="other")
    status = ModelStatus(versions=[mine, other], unfinished=[other], aliases={"challenger": 2, "north": 2},
                         bindings={"north": ["edge-1", "edge-2"]})  # fmt: skip
    view = View(ALL.edges, {"m": Model(metadata=Metadata(name="m"), status=status)})
    found = _asked(task, "models", view)
    assert (found["model"], found["digest"], found["round"]) == ("m", _weights(1).digest, 1)
    assert ([each["version"] for each in found["versions"]], found["unfinished"]) == ([2], [])
    assert _asked(task, "deployment", view)["versions"] == [
        {"version": 2, "digest": _weights(2).digest, "aliases": ["challenger", "north"], "everywhere": False,
         "edges": ["edge-1", "edge-2"]}
    ]  # fmt: skip
    champion = status.model_copy(update={"aliases": {"champion": 2}, "bindings": {}})
    view = View(ALL.edges, {"m": Model(metadata=Metadata(name="m"), status=champion)})
    assert _asked(task, "deployment", view)["versions"][0]["everywhere"] is True
    assert _asked(task, "deployment", View(ALL.edges, {}))["versions"] == []
