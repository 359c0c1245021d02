"""Requests in projects: lists, watches and references show nothing of a project that the caller may not read."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.resources import Edge, EdgeSelection, Metadata, Model
from heliograph.coordinator.authorization.rights import Rights
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.quotas import Quotas
from heliograph.core.errors import Refused
from tests.coordinator.api.desk import MODEL, TASK, make_desk

ALICE, BOB = Rights("alice", {"north": "submitter"}), Rights("bob", {"south": "submitter", "north": "viewer"})
CAROL = Rights("carol", {"south": "admin"})


@pytest.fixture
async def desk() -> Any:
    return await make_desk(Quotas())


def document(name: str, project: str, **spec: Any) -> dict[str, Any]:
    return MODEL | {"metadata": {"name": name, "namespace": project}, "spec": spec}


async def refused(desk: Any, code: str, *asked: Any, **named: Any) -> Refused:
    with pytest.raises(Refused) as found:
        await desk.ask(*asked, **named)
    assert found.value.code == code
    return found.value


async def test_who_may_not_read_a_resource_does_not_find_it(desk: Any) -> None:
    await desk.ask("models", "create", document("secret", "north"), caller="alice", rights=ALICE)
    assert (await desk.ask("models", "get", {"name": "secret"}, rights=BOB))["metadata"]["createdBy"] == "alice"
    for verb, more in (("get", {}), ("status", {}), ("versions", {}), ("delete", {}), ("update", {})):
        body = document("secret", "north") if verb == "update" else {"name": "secret", **more}
        error = await refused(desk, "not-found", "models", verb, body, rights=CAROL)
        assert "secret" not in (error.expected or ""), verb
    await refused(desk, "forbidden", "models", "delete", {"name": "secret"}, caller="bob", rights=BOB)
    await desk.ask("models", "delete", {"name": "secret"}, caller="alice", rights=ALICE)
    assert desk.store.get(Model, "secret") is None


async def test_lists_and_watches_have_what_the_caller_may_read(desk: Any) -> None:
    for name, project in (("a", "north"), ("b", "south"), ("c", "")):
        await desk.ask("models", "create", document(name, project))
    for rights, wanted in ((ALICE, ["a"]), (BOB, ["a", "b"]), (CAROL, ["b"])):
        assert [each["metadata"]["name"] for each in await desk.ask("models", "list", {}, rights=rights)] == wanted
        changed = await desk.ask("models", "watch", {"since": "3-0"}, rights=rights)
        assert [each["metadata"]["name"] for each in changed] == wanted
    for verb, body in (("list", {}), ("watch", {"since": "3-0"})):
        await refused(desk, "forbidden", "models", verb, body, rights=Rights())


async def test_a_resource_is_created_where_the_caller_may(desk: Any) -> None:
    error = await refused(desk, "forbidden", "models", "create", document("x", "south"), caller="alice", rights=ALICE)
    assert error.expected == "submitter in project south"
    await refused(desk, "forbidden", "models", "create", document("x", ""), caller="alice", rights=ALICE)
    made = await desk.ask("models", "create", document("x", "north"), caller="alice", rights=ALICE)
    assert made["metadata"]["namespace"] == "north"
    error = await refused(desk, "immutable", "models", "update", document("x", "south"))
    assert error.field == "metadata.namespace"


async def test_a_job_names_what_its_owner_may_read(desk: Any) -> None:
    await desk.ask("models", "create", document("secret", "north"))
    job = TASK | {"metadata": {"name": "j", "namespace": "south"}}
    aggregation = TASK["spec"]["aggregationWorker"]
    job["spec"] = TASK["spec"] | {"aggregationWorker": aggregation | {"model": {"name": "secret"}}}
    error = await refused(desk, "not-found", "jobs", "create", job, caller="carol", rights=CAROL)
    assert error.field == "spec.aggregationWorker.model"
    await desk.store.create(Edge(metadata=Metadata(name="edge-1", namespace="north")))
    job["spec"] = TASK["spec"] | {"trainingWorkers": [{"name": "w", "nodeName": "edge-1"}]}
    error = await refused(desk, "not-found", "jobs", "create", job)
    assert error.expected == "an edge that serves project south"


def test_work_is_placed_on_edges_of_the_own_project() -> None:
    projects = {"a": "north", "b": "south", "c": ""}
    edges = {name: EdgeView(name, True, project=project) for name, project in projects.items()}
    view = View(edges)
    assert [*view.serving("north").edges] == ["a", "c"] and view.serving("north") is view.serving("north")
    assert view.serving("north").selected(EdgeSelection(all=True)) == ["a", "c"]
    assert view.serving("south").selected(EdgeSelection(names=["a", "b"])) == ["b"]
    shared = View({"c": edges["c"]})
    assert shared.serving("north") is shared
