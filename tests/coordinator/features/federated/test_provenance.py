"""What a version records about the job that made it: data, code, parent, and what its metrics were measured with."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from heliograph.bus.contract.payloads import Generation, Report, WorkerReport
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import DatasetIndex, FederatedTask, RoundRecord, WeightsRef
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.features.federated.provenance import CODES_NAMED, DATASETS_NAMED, version_of


def _edge(name: str, data: str = "a" * 64, code: str = "c" * 64, **index: Any) -> EdgeView:
    worker = WorkerReport(worker="w", role="train", job="j", job_uid="uid", round=3, state="running", code=code)
    found = DatasetIndex(name="data", samples=7, digest=data, **index)
    report = Report(edge=name, observed=Generation(), datasets=[found], workers=[worker])
    return EdgeView(name, True, report)


def _task(edges: list[str], evaluated: bool = False, **status: Any) -> FederatedTask:
    spec: dict[str, Any] = {"aggregationWorker": {"model": {"name": "m"}}, "trainingWorkers": [{"name": "w"}]}
    if evaluated:
        spec["evaluationWorker"] = {"dataset": {"name": "data"}, "nodeName": "edge-9"}
    task = parse_resource({"kind": "FederatedTask", "metadata": {"name": "j", "uid": "uid"}, "spec": spec})
    assert isinstance(task, FederatedTask)
    record = RoundRecord(round=3, counted=2, model="f" * 64, evaluation={"accuracy": 0.9} if evaluated else None)
    fields = {"model": WeightsRef(digest="f" * 64, size=8), "model_round": 3, "rounds": [record], "parent": "e" * 64,
              "datasets": dict.fromkeys(edges, "data"), "assignments": {f"w-{edge}": edge for edge in edges},
              "completion_time": "now"}  # fmt: skip
    return task.model_copy(update={"status": task.status.model_copy(update=fields | status)})


def _view(*edges: EdgeView) -> View:
    return View({each.name: each for each in edges})


def test_a_version_names_its_data_code_and_parent() -> None:
    view = _view(_edge("edge-1", "1" * 64), _edge("edge-2", "2" * 64, code="d" * 64), _edge("edge-3", code="d" * 64))
    version = version_of(_task(["edge-2", "edge-1", "edge-3"], uncounted=["edge-3"]), view, {"loss": 0.5})
    assert [(each.edge, each.name, each.version, each.samples) for each in version.datasets] == [
        ("edge-1", "data", "1" * 64, 7), ("edge-2", "data", "2" * 64, 7)]  # fmt: skip
    lines = f"edge-1  data  {'1' * 64}\nedge-2  data  {'2' * 64}\n"
    assert (version.dataset_count, version.datasets_digest) == (2, sha256(lines.encode()).hexdigest())
    assert version.code == {"d" * 64: 2, "c" * 64: 1}
    assert (version.parent, version.job, version.job_name, version.round) == ("e" * 64, "uid", "j", 3)
    assert (version.metrics, version.evaluation_set) == ({"loss": 0.5}, None)


def test_metrics_come_with_the_version_of_the_data_that_they_were_measured_with() -> None:
    task = _task(["edge-1"], evaluated=True)
    found = version_of(task, _view(_edge("edge-1"), _edge("edge-9", "9" * 64)), {"accuracy": 0.9}).evaluation_set
    assert found is not None and (found.name, found.edge, found.version) == ("data", "edge-9", "9" * 64)
    gone = version_of(task, _view(_edge("edge-1")), {"accuracy": 0.9}).evaluation_set
    assert gone is not None and (gone.edge, gone.version) == ("edge-9", "")


def test_a_version_of_a_thousand_edges_stays_small() -> None:
    names = [f"edge-{number}" for number in range(1000)]
    view = _view(*(_edge(name, f"{number:064x}", f"{number % 100:064x}") for number, name in enumerate(names)))
    version = version_of(_task(names), view, {})
    assert (len(version.datasets), version.dataset_count, len(version.code)) == (DATASETS_NAMED, 1000, CODES_NAMED)
    assert len(version.model_dump_json()) < 8192


def test_a_script_that_brings_its_own_data_names_none() -> None:
    version = version_of(_task(["edge-1"], datasets={"edge-1": ""}), _view(_edge("edge-1")), {})
    assert (version.datasets, version.datasets_digest, version.dataset_count) == ([], "", 0)


def test_what_is_not_known_any_more_is_left_empty() -> None:
    unreadable = _edge("edge-2", error="it was deleted")
    version = version_of(_task(["edge-1", "edge-2"]), _view(unreadable), {})
    assert [(each.edge, each.version) for each in version.datasets] == [("edge-1", ""), ("edge-2", "")]


def test_the_data_of_a_version_are_those_that_the_job_began_with() -> None:
    view = _view(_edge("edge-1", version="e" * 64), _edge("edge-2", version="f" * 64))
    pinned = {"edge-1": "b" * 64, "edge-3": "d" * 64}
    version = version_of(_task(["edge-1", "edge-2", "edge-3"], dataset_versions=pinned), view, {})
    assert [each.version for each in version.datasets] == ["b" * 64, "f" * 64, "d" * 64]
