"""Requests on the resource store: dry runs, stops, and changes during a step of the state machine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from heliograph.bus.contract.resources import FederatedTask, Model
from heliograph.coordinator.quotas import Quotas
from heliograph.core.errors import Refused
from heliograph.core.world import rfc3339
from tests.coordinator.api.desk import MODEL, TASK, make_desk


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
    assert "(only best, priority, quorum, roundDeadlineSeconds, rounds, stop may)" in refused.value.expected


async def test_the_coordinator_writes_who_created_a_resource_and_ignores_what_a_request_says() -> None:
    desk = await make_desk(Quotas())
    document = MODEL | {"metadata": {"name": "one", "createdBy": "another"}}
    made = await desk.ask("models", "create", document, caller="maria")
    assert made["metadata"]["createdBy"] == "maria"
    changed = await desk.ask("models", "update", document | {"spec": {"description": "new"}}, caller="peter")
    assert changed["metadata"]["createdBy"] == "maria"
    nameless = await desk.ask("models", "create", MODEL | {"metadata": {"name": "two"}}, caller="")
    assert nameless["metadata"]["createdBy"] == "unknown"


async def test_quotas_bound_what_a_caller_stores_and_leave_others_alone() -> None:
    desk = await make_desk(Quotas(resources=2, resources_in_all=4, stored_bytes=2000, workers=3, workers_of_job=2))

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
    desk = await make_desk(Quotas(workers=3, workers_of_job=2))

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
    desk = await make_desk(Quotas())
    note = {"annotations": {f"note-{number}": 60_000 * "x" for number in range(10)}}
    spent: list[int] = []
    for number in range(3):
        await desk.ask("models", "create", MODEL | {"metadata": {"name": f"fat-{number}", **note}})
    with pytest.raises(Refused, match="Ask with limit") as refused:
        await desk.list_models(spent.append)
    assert refused.value.code == "too-large"
    assert sum(spent) > 1 << 20


@pytest.mark.parametrize("place", ["metadata", "spec", "status"])
async def test_a_document_with_many_unknown_fields_is_refused_without_naming_each(place: str) -> None:
    desk = await make_desk(Quotas())
    fields = {f"field-{number}": 0 for number in range(2000)}
    document = MODEL | {place: {"name": "many", **fields}}
    if place == "status":  # the coordinator owns it
        assert (await desk.ask("models", "create", document))["metadata"]["name"] == "one"
        return
    with pytest.raises(Refused, match="at most 1024 keys in one mapping"):
        await desk.ask("models", "create", document)


async def test_a_body_may_be_the_whole_document_of_its_resource(desk: Any) -> None:
    made = await desk.ask("models", "create", MODEL)
    assert await desk.ask("models", "get", made) == made
    assert (await desk.ask("models", "delete", made | {"dry_run": True})) == made
    assert await desk.ask("models", "get", {"name": "one"}) == made
    await desk.ask("models", "delete", made)
    assert desk.store.get(Model, "one") is None


@pytest.mark.parametrize(("verb", "kept"), [("stop", "Pending"), ("start", "Stopped"), ("delete", "Stopped")])
async def test_every_changing_verb_has_a_dry_run(desk: Any, verb: str, kept: str) -> None:
    await desk.ask("jobs", "create", TASK)
    if kept == "Stopped":
        await desk.ask("jobs", "stop", {"name": "one"})
    noted = [*desk.noted]
    answer = await desk.ask("jobs", verb, {"name": "one", "dry_run": True})
    assert answer["status"]["phase"] == {"stop": "Stopped", "start": "Pending", "delete": "Stopped"}[verb]
    assert desk.store.get(FederatedTask, "one").status.phase == kept
    assert desk.noted == noted
    with pytest.raises(Refused, match="field dry_run"):
        await desk.ask("jobs", verb, {"name": "one", "dry_run": "perhaps"})
