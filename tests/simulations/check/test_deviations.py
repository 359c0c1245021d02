"""A changed trace, or a changed component: the check reports exactly the change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from heliograph.bus.contract.payloads import Aggregation
from heliograph.coordinator.features.federated import state_machine as federated
from heliograph.edge_agent.desired_document import DesiredDocument
from heliograph.testing import TraceUnderTest
from heliograph.workers.aggregation import worker as aggregate

Trace = Callable[[str], TraceUnderTest]
Edited = Callable[..., TraceUnderTest]
CLOSED = "event/aggregation/digits"
TASK = "edge/edge-2/down/task"


def test_an_update_that_did_not_count_when_it_was_recorded(trace: Trace, edited: Edited) -> None:
    removed: list[tuple[str, str]] = []

    def edit(topic: str, number: int, data: Any) -> None:
        if (topic, number) == (CLOSED, 3):
            removed.append(sorted(data["counted"].items())[0])
            del data["counted"][removed[0][0]]

    run = edited(trace("flaky.mcap"), edit).replay_sync("aggregation")
    ((edge, digest),) = removed
    assert [str(each) for each in run.differences] == [
        f"{CLOSED} #3 field counted.{edge}: expected nothing, got {digest}"
    ]
    assert not run.equal and run.complete
    assert run.published != run.recorded


def test_a_changed_desired_document(trace: Trace, edited: Edited) -> None:
    def edit(topic: str, number: int, data: Any) -> None:
        if (topic, number) == (TASK, 4):
            data["tasks"][0]["parameters"]["learning_rate"] = 0.4

    run = edited(trace("flaky.mcap"), edit).replay_sync("coordinator")
    assert [str(each) for each in run.differences] == [
        f"{TASK} #4 field tasks[0].parameters.learning_rate: expected 0.4, got 0.3"
    ]


def test_a_removed_message(trace: Trace, edited: Edited) -> None:
    run = edited(trace("flaky.mcap"), lambda topic, number, data: (topic, number) != (CLOSED, 7)).replay_sync(
        "aggregation"
    )
    (difference,) = run.differences
    assert (difference.topic, difference.number, difference.field) == (CLOSED, 7, "")
    assert difference.expected == "nothing"
    assert difference.got.startswith('{"counted": {"edge-')


def test_a_report_changed_to_name_a_restart(trace: Trace, edited: Edited) -> None:
    def edit(topic: str, number: int, data: Any) -> None:
        if topic == "edge/edge-1/up/report" and data["workers"]:
            data["workers"][0]["restarts"] = 1

    run = edited(trace("federated.mcap"), edit).replay_sync("agent", edge="edge-1")
    assert run.differences
    assert {each.field for each in run.differences} == {"workers[0].restarts"}
    assert {(each.expected, each.got) for each in run.differences} == {("1", "0")}


def test_an_aggregation_with_other_weights(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    original = aggregate.aggregate

    def changed(inputs: Any, *args: Any, **more: Any) -> Any:
        return original({edge: type(each)(each.source, 1.0) for edge, each in inputs.items()}, *args, **more)

    monkeypatch.setattr(aggregate, "aggregate", changed)
    run = trace("flaky.mcap").replay_sync("aggregation")
    assert any(each.field == "model" for each in run.differences)


def test_a_coordinator_that_forgets_late_updates(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    original = federated.close

    def changed(task: Any, closed: Aggregation, *more: Any) -> Any:
        return original(task, closed.model_copy(update={"late": []}), *more)

    monkeypatch.setattr(federated, "close", changed)
    run = trace("flaky.mcap").replay_sync("coordinator")
    fields = {each.field.partition("[")[0] for each in run.differences}
    assert fields == {"status.late", "status.lateCount", "status.conditions"}  # InTime is one of them


def test_an_agent_that_ignores_newer_documents(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DesiredDocument, "read", _nothing)
    monkeypatch.setattr(DesiredDocument, "follow", _nothing)
    run = trace("federated.mcap").replay_sync("agent", edge="edge-1")
    assert run.missing == ["13 events of edge edge-1 belong to rounds that its agent assigned to no worker"]
    assert {each.topic for each in run.differences} == {"edge/edge-1/up/report", "edge/edge-1/up/model-update/line"}


def test_a_component_that_fails(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise KeyError("round")

    monkeypatch.setattr(federated, "close", failing)
    run = trace("flaky.mcap").replay_sync("coordinator")
    assert any("defect of this program: KeyError ('round')" in each for each in run.missing)
    assert not run.complete


async def _nothing(self: object) -> None:
    return None
