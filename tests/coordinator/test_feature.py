"""The installed features: every kind has one, even if it is only stored or cannot be imported."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.registry import BUILT_IN, Registry, parse_resource
from heliograph.bus.contract.resources import Metadata, Quarantine, QuarantineSpec
from heliograph.bus.port import Port
from heliograph.coordinator import feature
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import ControllerContext, InstalledFeatures
from heliograph.coordinator.features.federated import controller as federated_controller
from heliograph.coordinator.features.inference import controller as inference_controller
from heliograph.coordinator.registry.model_versions import ModelVersions
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures
from heliograph.core.tasks import Background
from heliograph.core.world import World

MODEL = parse_resource({"kind": "Model", "metadata": {"name": "m"}})
_UNREADABLE = QuarantineSpec(bucket="b", key="k", reason="r", size=1, excerpt="")
QUARANTINE = Quarantine(metadata=Metadata(name="q"), spec=_UNREADABLE)


@pytest.fixture
async def warnings() -> list[str]:
    return []


@pytest.fixture
async def context(warnings: list[str]) -> ControllerContext:
    world = World()
    bus = connect(f"memory://feature-{world.new_id()}", world=world)
    await bus.open()
    store = ResourceStore(await bus.kv("resources"), world)

    async def nothing(*_: Any) -> None: ...

    versions = ModelVersions(bus, store, pytest.fail, nothing)
    return ControllerContext(Port(bus, world, "cloud/coordinator/1"), store, versions, Background(print), View,
                             pytest.fail, print, nothing, print, warnings.append,
                             Failures(warnings.append), pytest.fail)  # fmt: skip


async def test_every_kind_has_a_feature_in_the_order_of_the_declarations(context: Any, warnings: list[str]) -> None:
    features = InstalledFeatures(context)
    assert [each.kind.plural for each in features] == [*BUILT_IN.features]
    assert warnings == []
    assert not features.busy


async def test_the_defaults_suit_a_kind_that_is_only_stored(context: Any) -> None:
    kind = InstalledFeatures(context).of("quarantines")
    await kind.prepare()
    kind.validate(QUARANTINE, "request/quarantines/create")
    kind.may_change(QUARANTINE, QUARANTINE, "request/quarantines/update")
    assert kind.changed(QUARANTINE, QUARANTINE) is QUARANTINE
    assert ([*kind.desired(View())], [*kind.parts()], kind.busy) == ([], [], False)
    with pytest.raises(Refused, match="field verb: expected a verb that the feature answers, got start"):
        kind.steer(QUARANTINE, "start", "request/quarantines/start")


async def test_a_feature_that_cannot_be_imported_is_named_and_refuses_resources_while_the_others_serve(
    context: Any, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(BUILT_IN.features["models"], coordinator="nowhere.controller:Models")
    registry = Registry([broken if each.plural == "models" else each for each in BUILT_IN.features.values()])
    monkeypatch.setattr(feature, "declared", lambda: registry)
    features = InstalledFeatures(context)
    assert [each.kind.plural for each in features] == [*BUILT_IN.features]
    (warning,) = warnings
    assert "coordinator of feature models" in warning
    assert "nowhere.controller:Models" in warning
    with pytest.raises(Refused) as refused:
        features.of("models").validate(MODEL, "request/models/create")
    assert (refused.value.code, refused.value.topic) == ("broken-feature", "request/models/create")


JOB = {"kind": "FederatedTask", "metadata": {"name": "one", "uid": "1"}, "status": {"phase": "Running"},
       "spec": {"aggregationWorker": {"model": {"name": "m"}}, "trainingWorkers": [{"name": "w"}]}}  # fmt: skip
SERVICE = {"kind": "JointInferenceService", "metadata": {"name": "one", "uid": "1"},
           "spec": {"edgeWorker": {"scriptBootFile": "edge.py", "model": {"name": "m"}},
                    "cloudWorker": {"scriptBootFile": "cloud.py", "model": {"name": "m"}}}}  # fmt: skip


@pytest.mark.parametrize(
    ("plural", "document", "where"),
    [("jobs", JOB, federated_controller), ("services", SERVICE, inference_controller)],
)
async def test_a_defect_in_deciding_what_an_edge_runs_stops_no_running_worker(
    context: Any, warnings: list[str], monkeypatch: pytest.MonkeyPatch, plural: str, document: Any, where: Any
) -> None:
    resource = type(await context.store.create(parse_resource({**document, "status": {}}))).model_validate(document)
    await context.store.put(resource)
    found = InstalledFeatures(context).of(plural)
    await found.prepare()
    running = {"edge-1": ["a task"]}
    monkeypatch.setattr(where, "desired_tasks", lambda *_: running)
    assert running in list(found.desired(View()))

    def failing(*_: Any) -> Any:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(where, "desired_tasks", failing)
    assert running in list(found.desired(View()))
    assert "ZeroDivisionError (planted)" in warnings[-1]


async def test_a_feature_that_cannot_be_imported_says_not_what_it_needs(
    context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(BUILT_IN.features["jobs"], coordinator="nowhere.controller:Jobs")
    registry = Registry([broken if each.plural == "jobs" else each for each in BUILT_IN.features.values()])
    monkeypatch.setattr(feature, "declared", lambda: registry)
    with pytest.raises(Refused, match="expected a kind that this coordinator can run, got FederatedTask"):
        await InstalledFeatures(context).of("jobs").used_blobs()
