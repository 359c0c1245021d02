"""Requests on the resource store: dry runs, stops, and changes during a step of the state machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.features import Verb
from heliograph.bus.contract.registry import BUILT_IN, Registry
from heliograph.bus.contract.request_bodies import Change, RequestBody
from heliograph.bus.contract.resources import FederatedTask, Model, Resource
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.coordinator import feature
from heliograph.coordinator.api import requests
from heliograph.coordinator.api.requests import Request, Requests
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import ControllerContext, Feature, InstalledFeatures
from heliograph.coordinator.quotas import Quotas
from heliograph.coordinator.registry.model_versions import ModelVersions
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures
from heliograph.core.tasks import Background
from heliograph.core.world import World, rfc3339

MODEL = {"kind": "Model", "metadata": {"name": "one"}, "spec": {"description": "first"}}
TASK: dict[str, Any] = {
    "kind": "FederatedTask",
    "metadata": {"name": "one"},
    "spec": {"aggregationWorker": {"model": {"name": "one"}}, "trainingWorkers": [{"name": "w"}]},
}


class Desk:
    """A store in memory with its requests, a clock that the test sets, and a record of changes."""

    def __init__(
        self, bus: Bus, store: ResourceStore, world: World, clock: dict[str, float], quotas: Quotas
    ) -> None:
        self.store = store
        self.clock = clock
        self.noted: list[str] = []
        self.locks: dict[str, asyncio.Lock] = {}
        context = ControllerContext(
            Port(bus, world, "cloud/coordinator/1"), store, ModelVersions(bus, store, self.lock, self._changed),
            Background(print), View, self.lock, lambda resource: None, self._written, print, print, Failures(print),
            pytest.fail,
        )  # fmt: skip
        self._requests = Requests(store, InstalledFeatures(context), self.lock, self._changed, self._removed, world,
                                  quotas)  # fmt: skip

    async def ask(self, resource: str, verb: str, document: dict[str, Any], caller: str = "someone") -> Any:
        return await self.ask_raw(resource, verb, dict(document), caller)

    async def ask_raw(self, resource: str, verb: str, body: Any, caller: str = "someone") -> Any:
        request = Request(resource, verb, body, f"request/{resource}/{verb}", caller)
        return await self._requests.handle(request)

    async def list_models(self, spend: Callable[[int], None]) -> Any:
        return await self._requests.handle(Request("models", "list", {}, "request/models/list", spend=spend))

    def lock(self, plural: str, name: str) -> asyncio.Lock:
        return self.locks.setdefault(f"{plural}/{name}", asyncio.Lock())

    async def _written(self) -> None:
        """Write nothing: there is no edge."""

    async def _changed(self, resource: Resource) -> None:
        self.noted.append(f"changed {resource.name}")

    async def _removed(self, resource: Resource) -> None:
        self.noted.append(f"removed {resource.name}")


@pytest.fixture
async def desk() -> Desk:
    return await _desk(Quotas())


async def _desk(quotas: Quotas) -> Desk:
    clock = {"now": 1000.0}
    world = World(now=lambda: clock["now"])
    bus = connect(f"memory://requests-{world.new_id()}", world=world)
    await bus.open()
    return Desk(bus, ResourceStore(await bus.kv("resources"), world), world, clock, quotas)


async def test_a_dry_run_is_answered_and_changes_nothing(desk: Any) -> None:
    made = await desk.ask("models", "create", MODEL | {"dry_run": True})
    assert made["spec"] == {"description": "first"}
    assert desk.store.get(Model, "one") is None
    await desk.ask("models", "create", MODEL | {"dry_run": False})
    with pytest.raises(Refused) as refused:
        await desk.ask("models", "create", MODEL | {"spec": {"description": "other"}, "dry_run": True})
    assert refused.value.code == "exists"
    other = await desk.ask("models", "update", MODEL | {"spec": {"description": "other"}, "dry_run": True})
    assert (other["spec"], other["metadata"]["generation"]) == ({"description": "other"}, 2)
    stored = desk.store.get(Model, "one")
    assert (stored.spec.description, stored.metadata.generation) == ("first", 1)
    assert desk.noted == ["changed one"]


async def test_dry_run_is_true_or_false(desk: Any) -> None:
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
    stored = desk.store.get(Model, "one").metadata
    assert (stored.labels, stored.annotations, stored.generation) == ({"a": "b"}, {"c": "d"}, 3)
    assert (await desk.ask("models", "create", labelled))["metadata"]["generation"] == 3  # the same request again


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
async def test_a_request_waits_for_a_step_of_the_state_machine_and_keeps_its_result(desk: Any, verb: str) -> None:
    await desk.ask("jobs", "create", TASK)
    async with desk.lock("jobs", "one"):
        asked = asyncio.create_task(desk.ask("jobs", verb, {"name": "one"}))
        task = desk.store.get(FederatedTask, "one")
        for _ in range(5):  # let the request run until it waits for the lock
            await asyncio.sleep(0)
        assert not asked.done()
        stepped = task.model_copy(update={"status": task.status.model_copy(update={"round": 7})})
        await desk.store.put(stepped)
    answer = await asked
    assert answer["status"]["round"] == 7
    left = desk.store.get(FederatedTask, "one")
    assert left is None if verb == "delete" else left.status.phase == "Stopped"


async def test_an_unknown_name_is_refused_and_leaves_no_lock(desk: Any) -> None:
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
    assert "(only priority, quorum, roundDeadlineSeconds, rounds may)" in refused.value.expected


async def test_the_coordinator_writes_who_created_a_resource_and_ignores_what_a_request_says() -> None:
    desk = await _desk(Quotas())
    document = MODEL | {"metadata": {"name": "one", "createdBy": "another"}}
    made = await desk.ask("models", "create", document, caller="maria")
    assert made["metadata"]["createdBy"] == "maria"
    changed = await desk.ask("models", "update", document | {"spec": {"description": "new"}}, caller="peter")
    assert changed["metadata"]["createdBy"] == "maria"
    nameless = await desk.ask("models", "create", MODEL | {"metadata": {"name": "two"}}, caller="")
    assert nameless["metadata"]["createdBy"] == "unknown"


async def test_quotas_bound_what_a_caller_stores_and_leave_others_alone() -> None:
    desk = await _desk(Quotas(resources=2, resources_in_all=4, stored_bytes=2000, workers=3, workers_of_job=2))

    async def create(name: str, caller: str, **spec: str) -> Any:
        return await desk.ask("models", "create", MODEL | {"metadata": {"name": name}, "spec": spec}, caller=caller)

    await create("a", "maria")
    await create("b", "maria")
    with pytest.raises(Refused, match=r"at most 2 resources of caller maria.*got 3 \(2 are there\)") as refused:
        await create("c", "maria")
    assert (refused.value.code, refused.value.field) == ("quota", "resources")
    assert desk.store.get(Model, "c") is None
    assert (await create("a", "maria"))["metadata"]["name"] == "a"  # the same request again
    await create("c", "peter")
    with pytest.raises(Refused, match="stored-bytes"):
        long = {"kind": "Model", "metadata": {"name": "a", "annotations": {"x": 3000 * "y"}}}
        await desk.ask("models", "update", long, caller="peter")
    await create("d", "anna")
    with pytest.raises(Refused, match="resources-in-all"):
        await create("e", "otto")
    await desk.ask("models", "delete", {"name": "b"}, caller="anna")
    await create("e", "maria")


async def test_quotas_bound_the_workers_that_jobs_list_until_they_end() -> None:
    desk = await _desk(Quotas(workers=3, workers_of_job=2))

    async def create(name: str, workers: int) -> Any:
        spec = TASK["spec"] | {"trainingWorkers": [{"name": f"w{number}"} for number in range(workers)]}
        return await desk.ask("jobs", "create", TASK | {"metadata": {"name": name}, "spec": spec})

    with pytest.raises(Refused, match=r"at most 2 workers in one document.*got 3"):
        await create("three", 3)
    await create("two", 2)
    with pytest.raises(Refused, match="at most 3 workers of jobs that run"):
        await create("more", 2)
    await desk.ask("jobs", "stop", {"name": "two"})
    await create("more", 2)


async def test_a_list_that_fits_into_no_answer_is_refused_and_costs_its_caller() -> None:
    desk = await _desk(Quotas())
    note = {"annotations": {f"note-{number}": 60_000 * "x" for number in range(10)}}
    spent: list[int] = []
    for number in range(3):
        await desk.ask("models", "create", MODEL | {"metadata": {"name": f"fat-{number}", **note}})
    with pytest.raises(Refused, match="Get them by name") as refused:
        await desk.list_models(spent.append)
    assert refused.value.code == "too-large"
    assert sum(spent) > 1 << 20


@pytest.mark.parametrize("place", ["metadata", "spec", "status"])
async def test_a_document_with_many_unknown_fields_is_refused_without_naming_each(place: str) -> None:
    desk = await _desk(Quotas())
    fields = {f"field-{number}": 0 for number in range(2000)}
    document = MODEL | {place: {"name": "many", **fields}}
    if place == "status":  # the coordinator owns it
        assert (await desk.ask("models", "create", document))["metadata"]["name"] == "one"
        return
    with pytest.raises(Refused, match="at most 1024 keys in one mapping"):
        await desk.ask("models", "create", document)


class Grow(Change):
    by: int


class Size(RequestBody):
    bytes: int


class Trees(Feature[Model]):
    """Models whose description grows."""

    async def answer(self, verb: str, body: Any, resource: Model | None, caller: str) -> Any:
        if verb == "size":
            return {"trees": len(self.resources()), "caller": caller}
        assert resource is not None
        if verb == "measure":
            return Size(bytes=len(resource.spec.description))

        def grown(model: Model) -> Model:
            body.check(model)
            spec = model.spec.model_copy(update={"description": model.spec.description + "x" * body.by})
            return model.model_copy(update={"spec": spec})

        found = await self.context.step(Model, resource.name, grown)
        assert found is not None
        return found[1]


TREES = (
    Verb("grow", "Make it longer.", Grow),
    Verb("measure", "Return its size.", answer=Size),
    Verb("size", "Return how many there are.", RequestBody, named=False),
)


@pytest.fixture
async def trees(monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk where models have verbs with a body and an answer of their own."""
    models = BUILT_IN.features["models"]
    registry = Registry([replace(models, verbs=(*models.verbs, *TREES), coordinator=f"{__name__}:Trees")])
    for module in (feature, requests):
        monkeypatch.setattr(module, "declared", lambda: registry)
    desk = await _desk(Quotas())
    await desk.ask("models", "create", MODEL)
    return desk


async def test_a_feature_answers_a_verb_by_the_resource_by_a_model_or_by_a_mapping(trees: Any) -> None:
    grown = await trees.ask("models", "grow", {"name": "one", "by": 2})
    assert grown["spec"]["description"] == "firstxx" == trees.store.get(Model, "one").spec.description
    assert await trees.ask("models", "measure", {"name": "one"}) == {"bytes": 7}
    assert await trees.ask("models", "size", {}, "someone") == {"trees": 1, "caller": "someone"}


@pytest.mark.parametrize(
    ("verb", "body", "field", "got"),
    [
        ("grow", {"name": "one"}, "by", "nothing"),
        ("grow", {"name": "one", "by": 1, "length": 2}, "length", "2"),
        ("grow", {"by": 1}, "name", "nothing"),
        ("grow", {"name": "two", "by": 1}, "name", "two"),
        ("grow", {"name": "one", "by": 1, "resource_version": "newest"}, "resource_version", "newest"),
        ("grow", {"name": "one", "by": 1, "resource_version": "99"}, "resource_version", "99"),
        ("size", {"name": "one"}, "name", "one"),
        ("size", [], "", "[]"),
    ],
)
async def test_a_body_that_the_verb_does_not_declare_is_refused(
    trees: Any, verb: str, body: Any, field: str, got: str
) -> None:
    with pytest.raises(Refused) as refused:
        await trees.ask_raw("models", verb, body)
    assert (refused.value.field, refused.value.got) == (field, got)
    assert trees.store.get(Model, "one").spec.description == "first"
