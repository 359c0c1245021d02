"""Requests on the resource store: trials that change nothing, stops, and changes beside the state machine's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.resources import FederatedTask, Model, Resource
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.coordinator.api.requests import Requests
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import ControllerContext, Features
from heliograph.coordinator.registry.model_versions import ModelVersions
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Refused
from heliograph.core.tasks import Background
from heliograph.core.world import World, rfc3339

MODEL = {"kind": "Model", "metadata": {"name": "one"}, "spec": {"description": "first"}}
TASK: dict[str, Any] = {
    "kind": "FederatedTask",
    "metadata": {"name": "one"},
    "spec": {"aggregationWorker": {"model": {"name": "one"}}, "trainingWorkers": [{"name": "w"}]},
}


class Desk:
    """A store in memory with its requests, a clock that the test sets, and what was told of changes."""

    def __init__(self, bus: Bus, store: ResourceStore, world: World, clock: dict[str, float]) -> None:
        self.store = store
        self.clock = clock
        self.told: list[str] = []
        self.locks: dict[str, asyncio.Lock] = {}
        context = ControllerContext(
            Port(bus, world, "cloud/coordinator/1"), store, ModelVersions(bus, store, self.lock, self._changed),
            Background(print), View, self.lock, lambda resource: None, self._written, print, print,
        )  # fmt: skip
        self._requests = Requests(store, Features(context), self.lock, self._changed, self._removed)

    async def ask(self, resource: str, verb: str, document: dict[str, Any]) -> Any:
        return await self._requests.handle(resource, verb, dict(document), f"request/{resource}/{verb}")

    def lock(self, plural: str, name: str) -> asyncio.Lock:
        return self.locks.setdefault(f"{plural}/{name}", asyncio.Lock())

    async def _written(self) -> None:
        """No edge is there to write a document for."""

    async def _changed(self, resource: Resource) -> None:
        self.told.append(f"changed {resource.name}")

    async def _removed(self, resource: Resource) -> None:
        self.told.append(f"removed {resource.name}")


@pytest.fixture
async def desk() -> Desk:
    clock = {"now": 1000.0}
    world = World(now=lambda: clock["now"])
    bus = connect(f"memory://requests-{world.new_id()}", world=world)
    await bus.open()
    return Desk(bus, ResourceStore(await bus.kv("resources"), world), world, clock)


async def test_a_trial_answers_as_ever_and_changes_nothing(desk: Any) -> None:
    made = await desk.ask("models", "create", MODEL | {"dry_run": True})
    assert made["spec"] == {"description": "first"}
    assert desk.store.get(Model, "one") is None
    await desk.ask("models", "create", MODEL | {"dry_run": False})
    with pytest.raises(Refused) as refused:
        await desk.ask("models", "create", MODEL | {"spec": {"description": "other"}, "dry_run": True})
    assert refused.value.code == "exists"
    other = await desk.ask("models", "update", MODEL | {"spec": {"description": "other"}, "dry_run": True})
    assert (other["spec"], other["metadata"]["generation"]) == ({"description": "other"}, 2)
    kept = desk.store.get(Model, "one")
    assert (kept.spec.description, kept.metadata.generation) == ("first", 1)
    assert desk.told == ["changed one"]


async def test_what_says_that_it_is_a_trial_is_true_or_false(desk: Any) -> None:
    with pytest.raises(Refused, match="field dry_run: expected true or false, got yes"):
        await desk.ask("models", "create", MODEL | {"dry_run": "yes"})
    assert desk.store.get(Model, "one") is None


async def test_labels_and_annotations_are_a_change(desk: Any) -> None:
    await desk.ask("models", "create", MODEL)
    for metadata in ({"labels": {"a": "b"}}, {"labels": {"a": "b"}, "annotations": {"c": "d"}}):
        labelled = MODEL | {"metadata": {"name": "one"} | metadata}
        with pytest.raises(Refused, match="or the same document again"):
            await desk.ask("models", "create", labelled)
        await desk.ask("models", "update", labelled)
    kept = desk.store.get(Model, "one").metadata
    assert (kept.labels, kept.annotations, kept.generation) == ({"a": "b"}, {"c": "d"}, 3)
    assert (await desk.ask("models", "create", labelled))["metadata"]["generation"] == 3  # the same again


async def test_a_stop_is_dated_when_it_was_asked_for(desk: Any) -> None:
    await desk.ask("jobs", "create", TASK)
    desk.clock["now"] = 2000.0
    stopped = await desk.ask("jobs", "stop", {"name": "one"})
    assert stopped["status"]["phase"] == "Stopped"
    assert stopped["status"]["completionTime"] == rfc3339(2000.0)
    assert stopped["status"]["conditions"][-1]["lastTransitionTime"] == rfc3339(2000.0)
    desk.clock["now"] = 3000.0
    again = await desk.ask("jobs", "stop", {"name": "one"})
    assert again["status"] == stopped["status"]


@pytest.mark.parametrize("verb", ["stop", "delete"])
async def test_a_step_of_the_state_machine_is_waited_for_and_not_undone(desk: Any, verb: str) -> None:
    await desk.ask("jobs", "create", TASK)
    async with desk.lock("jobs", "one"):
        asked = asyncio.create_task(desk.ask("jobs", verb, {"name": "one"}))
        task = desk.store.get(FederatedTask, "one")
        for _ in range(5):  # as far as the request gets by itself
            await asyncio.sleep(0)
        assert not asked.done()
        stepped = task.model_copy(update={"status": task.status.model_copy(update={"round": 7})})
        await desk.store.put(stepped)
    answer = await asked
    assert answer["status"]["round"] == 7
    left = desk.store.get(FederatedTask, "one")
    assert left is None if verb == "delete" else left.status.phase == "Stopped"


async def test_a_name_that_nothing_bears_is_refused_and_leaves_nothing(desk: Any) -> None:
    for verb, document in (("delete", {"name": "none"}), ("stop", {"name": "none"}), ("update", TASK)):
        with pytest.raises(Refused) as refused:
            await desk.ask("jobs", verb, document)
        assert refused.value.code == "not-found"
    assert desk.locks == {}


async def test_a_running_task_names_its_frozen_fields_as_documents_do(desk: Any) -> None:
    await desk.ask("jobs", "create", TASK)
    task = desk.store.get(FederatedTask, "one")
    await desk.store.put(task.model_copy(update={"status": task.status.model_copy(update={"phase": "Running"})}))
    changed = TASK | {"spec": TASK["spec"] | {"trainingWorkers": [{"name": "other"}]}}
    with pytest.raises(Refused) as refused:
        await desk.ask("jobs", "update", changed)
    assert refused.value.field == "spec.trainingWorkers"
    assert "(only quorum, roundDeadlineSeconds, rounds may)" in refused.value.expected
