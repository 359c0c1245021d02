"""Optimistic concurrency: an old version is refused, no version lets the last write win."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.resources import FederatedTask, Model
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Refused
from heliograph.core.world import World
from tests.coordinator.api.desk import MODEL, TASK


async def test_an_old_resource_version_is_refused_with_both_documents_and_none_lets_the_last_write_win(
    desk: Any,
) -> None:
    mine = await desk.ask("models", "create", MODEL)
    theirs = await desk.ask("models", "update", MODEL | {"spec": {"description": "theirs", "licence": "MIT"}})
    assert int(theirs["metadata"]["resourceVersion"]) > int(mine["metadata"]["resourceVersion"])
    with pytest.raises(Refused, match="theirs there and mine here") as refused:
        await desk.ask("models", "update", mine | {"spec": {"description": "mine"}})
    assert (refused.value.code, refused.value.field) == ("conflict", "metadata.resourceVersion")
    assert refused.value.details["differences"] == [
        {"field": "spec.description", "stored": "theirs", "sent": "mine"},
        {"field": "spec.licence", "stored": "MIT", "sent": "nothing"},
    ]
    stored = desk.store.get(Model, "one")
    assert (stored.spec.description, stored.metadata.generation) == ("theirs", 2)
    newer = theirs | {"spec": {"description": "mine"}}
    again = await desk.ask("models", "update", newer)
    assert await desk.ask("models", "update", newer) == again  # the same request: its answer was lost
    last = await desk.ask("models", "update", MODEL | {"spec": {"description": "whoever"}})
    assert (last["spec"]["description"], last["metadata"]["generation"]) == ("whoever", 4)


async def test_a_step_of_the_coordinator_is_no_conflict_for_the_owner(desk: Any) -> None:
    mine = await desk.ask("jobs", "create", TASK)
    task = desk.store.get(FederatedTask, "one")
    await desk.store.put(task.model_copy(update={"status": task.status.model_copy(update={"round": 7})}))
    changed = await desk.ask("jobs", "update", mine | {"spec": mine["spec"] | {"rounds": 20}})
    assert (changed["spec"]["rounds"], changed["status"]["round"]) == (20, 7)


async def test_a_version_of_a_resource_that_is_gone_or_was_made_anew_is_refused(desk: Any) -> None:
    mine = await desk.ask("models", "create", MODEL)
    await desk.ask("models", "delete", {"name": "one"})
    with pytest.raises(Refused, match="there is no Model one any more") as refused:
        await desk.ask("models", "create", mine)
    assert refused.value.code == "conflict"
    await desk.ask("models", "create", MODEL)
    with pytest.raises(Refused, match="the stored version") as refused:
        await desk.ask("models", "update", mine | {"spec": {"description": "mine"}})
    assert refused.value.code == "conflict"


@pytest.mark.parametrize("verb", ["stop", "delete"])
async def test_a_verb_with_an_old_version_is_refused_and_changes_nothing(desk: Any, verb: str) -> None:
    seen = (await desk.ask("jobs", "create", TASK))["metadata"]["resourceVersion"]
    await desk.ask("jobs", "update", TASK | {"spec": TASK["spec"] | {"rounds": 4}})
    with pytest.raises(Refused) as refused:
        await desk.ask("jobs", verb, {"name": "one", "resource_version": seen})
    assert (refused.value.code, refused.value.got) == ("conflict", seen)
    task = desk.store.get(FederatedTask, "one")
    assert task.status.phase == "Pending"
    newest = {"name": "one", "resource_version": task.metadata.resource_version}
    stopped = await desk.ask("jobs", verb, newest)
    if verb == "stop":
        assert await desk.ask("jobs", verb, newest) == stopped  # the same request again: its answer was lost


async def test_a_version_survives_another_coordinator_and_is_not_stored(desk: Any) -> None:
    made = await desk.ask("models", "create", MODEL)
    other = ResourceStore(desk.bucket, World())
    await other.load()
    found = other.get(Model, "one")
    assert found is not None
    assert found.metadata.resource_version == made["metadata"]["resourceVersion"]
    assert b"resourceVersion" not in (await desk.bucket.get("models.one")).value
