"""Versions of data sets in the cloud, and the samples that wait until a training that used them has succeeded."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.payloads import Generation, Report
from heliograph.bus.contract.resources import DatasetIndex, FederatedTask
from heliograph.bus.contract.resources import dataset as resource
from heliograph.bus.contract.resources.dataset import DatasetStatus, TrainedVersion
from heliograph.coordinator.registry import dataset_versions
from heliograph.coordinator.registry.dataset_versions import (
    merged,
    trained_by,
    with_trained,
    with_versions,
    without_edge,
)


def index(version: str, samples: int, parent: str = "", new: int | None = None) -> DatasetIndex:
    return DatasetIndex(name="d", samples=samples, version=version, parent=parent, files=1,
                        new_samples=samples if new is None else new, columns={"x": "number"})  # fmt: skip


def having(*steps: dict[str, DatasetIndex | None]) -> DatasetStatus:
    """Return a status after these changes, one after the other."""
    status = DatasetStatus()
    for number, changed in enumerate(steps):
        edges = {**status.edges, **changed}
        present = {edge: each for edge, each in edges.items() if each is not None}
        status = with_versions(status.model_copy(update={"edges": present}), changed, f"t{number}")
    return status


def trained(version: str, time: str = "t9") -> TrainedVersion:
    return TrainedVersion(version=version, job="job", time=time)


def test_versions_are_listed_once_with_the_edges_that_have_had_them() -> None:
    status = having({"e1": index("v1", 3)}, {"e2": index("v1", 3)}, {"e1": index("v2", 5, "v1", 2)}, {"e2": None})
    assert [(each.version, each.parent, each.edges, each.time) for each in status.versions] == [
        ("v1", "", ["e1", "e2"], "t0"), ("v2", "v1", ["e1"], "t2"),
    ]  # fmt: skip
    assert status.versions[0].columns_digest == status.versions[1].columns_digest


def test_what_is_listed_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_versions, "VERSIONS", 3)
    monkeypatch.setattr(dataset_versions, "NAMED_EDGES", 2)
    status = having(*({"e1": index(f"v{number}", 1)} for number in range(5)))
    assert [each.version for each in status.versions] == ["v2", "v3", "v4"]
    status = having(*({f"e{number}": index("v", 1)} for number in range(4)))
    assert status.versions[0].edges == ["e0", "e1"]
    assert resource.VERSIONS == 1000


def test_an_agent_of_an_earlier_version_has_samples_and_no_version() -> None:
    status = having({"e1": DatasetIndex(name="d", samples=3)}, {"e2": DatasetIndex(name="d", error="does not exist")})
    assert (status.versions, status.waiting) == ([], {})


def test_samples_wait_until_a_training_that_used_them_succeeds() -> None:
    grown = ({"e1": index("v1", 3)}, {"e1": index("v2", 5, "v1", 2)}, {"e1": index("v3", 9, "v2", 4)})
    status = having(*grown)
    assert status.waiting == {"e1": 9}
    assert with_trained(status, {"e1": trained("v1")}).waiting == {"e1": 6}
    assert with_trained(status, {"e1": trained("v2")}).waiting == {"e1": 4}
    done = with_trained(status, {"e1": trained("v3")})
    assert done.waiting == {}
    assert with_trained(done, {"e1": trained("v1", "t8")}) is done  # an earlier training changes nothing
    changed = having(*grown, {"e1": index("v4", 7, "v3")})  # other samples, not more
    assert with_trained(changed, {"e1": trained("v3")}).waiting == {"e1": 7}
    assert with_trained(having(*grown), {"e1": trained("unknown")}).waiting == {"e1": 9}


def test_versions_that_come_back_and_loops_of_parents_end() -> None:
    status = having({"e1": index("a", 3, "b", 1)}, {"e1": index("b", 3, "a", 1)})
    assert status.waiting == {"e1": 3}
    assert with_trained(status, {"e1": trained("b")}).waiting == {}


def test_an_edge_that_is_away_keeps_what_it_has_trained_on_and_a_deleted_one_does_not() -> None:
    status = with_trained(having({"e1": index("v1", 3)}), {"e1": trained("v1")})
    away = with_versions(status.model_copy(update={"edges": {}}), {"e1": None}, "t5")
    back = with_versions(away.model_copy(update={"edges": status.edges}), {"e1": index("v1", 3)}, "t6")
    assert back.waiting == {}
    assert without_edge(away, "e1").trained == {}


def task(phase: str, **status: Any) -> FederatedTask:
    return FederatedTask.model_validate({
        "metadata": {"name": "job", "uid": "u"},
        "spec": {"aggregationWorker": {"model": {"name": "m"}}, "trainingWorkers": [{"name": "w"}]},
        "status": {"phase": phase, "datasets": {"e1": "d", "e2": "d", "e3": "", "e4": "d"}, "completionTime": "t5",
                   "datasetVersions": {"e1": "v1", "e2": "v2", "e3": "v3"}, "pinnedSamples": {"e1": 3}, **status},
    })  # fmt: skip


def test_only_a_job_that_succeeded_has_trained_and_only_on_edges_that_were_counted() -> None:
    for phase in ("Pending", "Running", "Failed", "Stopped"):
        assert trained_by(task(phase)) == {}
    found = trained_by(task("Succeeded", uncounted=["e2"]))
    assert {name: list(edges) for name, edges in found.items()} == {"d": ["e1"]}
    assert (found["d"]["e1"].version, found["d"]["e1"].samples, found["d"]["e1"].time) == ("v1", 3, "t5")
    later = trained_by(task("Succeeded", completionTime="t6", datasetVersions={"e1": "v9"}))
    assert merged([found, later])["d"]["e1"].version == merged([later, found])["d"]["e1"].version == "v9"


def test_a_report_of_0_1_reads_as_one_without_versions() -> None:
    report = Report(edge="e1", observed=Generation(), datasets=[DatasetIndex(name="d", samples=1)])
    assert "version" not in report.model_dump(mode="json", by_alias=True)["datasets"][0]
