"""Placement by indexes: the same as scanning all free edges for each worker."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.payloads import Generation, Offer, Report
from heliograph.bus.contract.resources import DatasetIndex, FederatedTask, Metadata, Model
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.features.federated.selection import REASONS, Missing, Selection, select

NAMES = ("a", "b", "c")
CLOUD = EdgeView("cloud", True, Report(edge="cloud", observed=Generation(), offers=Offer(algorithms={"FedAvg": {}})))


def _view(edges: list[list[str]]) -> View:
    found = {"cloud": CLOUD}
    for number, names in reversed([*enumerate(edges)]):
        report = Report(edge=f"e{number}", observed=Generation(), datasets=[DatasetIndex(name=name) for name in names])
        found[report.edge] = EdgeView(report.edge, True, report)
    return View(found, {"m": Model(metadata=Metadata(name="m"))})


def _task(workers: list[str]) -> FederatedTask:
    listed: list[dict[str, Any]] = [
        {"name": f"w{number}"} | ({"workerSpec": {"dataset": {"name": name}}} if name else {})
        for number, name in enumerate(workers)
    ]
    spec = {"aggregationWorker": {"model": {"name": "m"}}, "trainingWorkers": listed}
    return FederatedTask.model_validate({"metadata": {"name": "t"}, "spec": spec})


def _scan(workers: list[str], edges: list[list[str]]) -> dict[str, tuple[str, str]] | None:
    """Return edge and data set of each worker, by looking at all free edges for each; None where one has no place."""
    wanted = next(filter(None, workers), None)
    free, placed = {f"e{number}": names for number, names in enumerate(edges)}, {}
    for number, own in enumerate(workers):
        exact = own or wanted
        for edge, names in sorted(free.items(), key=lambda each: (exact not in each[1], each[0])):
            other = wanted if wanted in names else min(names, default="" if wanted is None else None)
            dataset = (own if own in names else None) if own else other
            if dataset is not None:
                placed[f"w{number}"] = (edge, dataset)
                del free[edge]
                break
        else:
            return None
    return placed


@given(
    st.lists(st.sampled_from(("", *NAMES)), min_size=1, max_size=6),
    st.lists(st.lists(st.sampled_from(NAMES), unique=True), max_size=8),
)
def test_each_worker_gets_the_edge_that_a_scan_finds(workers: list[str], edges: list[list[str]]) -> None:
    found, expected = select(_task(workers), _view(edges)), _scan(workers, edges)
    if expected is None:
        assert isinstance(found, Missing)
    else:
        assert isinstance(found, Selection)
        assert found.assignments == {worker: edge for worker, (edge, _) in expected.items()}
        assert found.datasets == dict(expected.values())


def test_a_task_of_many_workers_names_its_first_reasons_and_how_many_more_there_are() -> None:
    found = select(_task(["nowhere"] * 1000), _view([["a"]]))
    assert isinstance(found, Missing)
    assert len(found.what) == REASONS + 1
    assert found.what[-1] == f"and {1000 - REASONS} more"


def test_a_data_set_that_an_agent_refuses_is_named_with_the_agents_sentence() -> None:
    task = _task(["digits"])
    task.spec.training_workers[0].node_name = "e0"
    view = _view([[]])
    report = view.edges["e0"].report
    assert report is not None
    assert select(task, view) == Missing(["data set digits is not on node e0"])
    report.datasets.append(DatasetIndex(name="digits", error="/data/d.csv is empty; write the data set again"))
    expected = "data set digits on node e0: /data/d.csv is empty; write the data set again"
    assert select(task, view) == Missing([expected])
