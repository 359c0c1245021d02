"""Lists page by page, by labels, and what has changed since a version."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.resources import Edge, Metadata, Model
from heliograph.bus.contract.resources.edge import EdgeSpec
from heliograph.core.errors import Refused
from tests.coordinator.api.desk import MODEL


async def _models(desk: Any, number: int, **labels: str) -> None:
    for each in range(number):
        metadata = {"name": f"m-{each}", "labels": {"tier": "ab"[each % 2], **labels}}
        await desk.ask("models", "create", MODEL | {"metadata": metadata})


def _names(answer: dict[str, Any]) -> list[str]:
    return [each["metadata"]["name"] for each in answer["result"]]


async def test_a_list_comes_page_by_page_and_each_resource_once(desk: Any) -> None:
    await _models(desk, 5)
    first = await desk.page("list", limit=2)
    assert (_names(first), first["continue"]) == (["m-0", "m-1"], "m-1")
    await desk.ask("models", "delete", {"name": "m-1"})
    await desk.ask("models", "create", MODEL | {"metadata": {"name": "m-00"}})  # before the second page
    second = await desk.page("list", limit=2, **{"continue": first["continue"]})
    third = await desk.page("list", limit=2, **{"continue": second["continue"]})
    assert (_names(second), _names(third), "continue" in third) == (["m-2", "m-3"], ["m-4"], False)
    assert _names(await desk.page("list", limit=5)) == ["m-0", "m-00", "m-2", "m-3", "m-4"]
    assert _names(await desk.page("list", limit=1, selector="tier=b")) == ["m-3"]


async def test_a_page_has_less_than_its_limit_where_an_answer_has_no_room_and_a_huge_resource_is_cut(desk: Any) -> None:
    notes = {f"note-{number}": 60_000 * "x" for number in range(17)}  # 1,020,000 bytes
    for name in ("fat", "fit", "lit"):
        await desk.ask("models", "create", MODEL | {"metadata": {"name": name, "annotations": notes}})
    notes["note-17"] = 60_000 * "x"
    fat = desk.store.get(Model, "fat")
    await desk.store.put(
        fat.model_copy(update={"metadata": fat.metadata.model_copy(update={"annotations": notes})})
    )
    first = await desk.page("list", limit=10)
    assert (_names(first), first["continue"]) == (["fat", "fit"], "fit")
    assert ["shortened" in each["status"] for each in first["result"]] == [True, False]
    second = await desk.page("list", limit=10, **{"continue": "fit"})
    assert (_names(second), "continue" in second) == (["lit"], False)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"selector": "tier in (a"}, "selector"),
        ({"selector": 7}, "selector"),
        ({"limit": 0}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"limit": "all"}, "limit"),
        ({"continue": "../one"}, "continue"),
        ({"labels": "tier=a"}, "labels"),
    ],
)
async def test_a_list_with_a_field_that_is_wrong_is_refused(desk: Any, body: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        await desk.page("list", **body)
    assert refused.value.field == field


async def test_a_watch_tells_what_has_changed_since_a_version(desk: Any) -> None:
    await _models(desk, 3)
    version = (await desk.page("list"))["version"]
    assert await desk.page("watch", since=version) == {
        "ok": True, "result": [], "version": version, "gone": [], "more": False
    }  # fmt: skip
    await desk.ask("models", "update", MODEL | {"metadata": {"name": "m-2", "labels": {"tier": "c"}}})
    await desk.ask("models", "delete", {"name": "m-0"})
    await desk.ask("models", "update", MODEL | {"metadata": {"name": "m-1", "labels": {"tier": "c"}}})
    found = await desk.page("watch", since=version)
    assert (_names(found), found["gone"], found["more"]) == (["m-2", "m-1"], ["m-0"], False)
    part = await desk.page("watch", since=version, limit=2)
    assert (_names(part), part["gone"], part["more"]) == (["m-2"], ["m-0"], True)
    rest = await desk.page("watch", since=part["version"], limit=2)
    assert (_names(rest), rest["gone"], rest["more"], rest["version"]) == (["m-1"], [], False, found["version"])
    left = await desk.page("watch", since=version, selector="tier in (a,b)")  # the others are selected no more
    assert (_names(left), left["gone"]) == ([], ["m-2", "m-0", "m-1"])
    await desk.ask("models", "create", MODEL | {"metadata": {"name": "m-0"}})
    assert _names(await desk.page("watch", since=found["version"])) == ["m-0"]


@pytest.mark.parametrize("since", ["2-1", "4-0", "3-99"])
async def test_a_watch_from_a_version_that_is_not_remembered_is_refused(desk: Any, since: str) -> None:
    await _models(desk, 2)
    with pytest.raises(Refused, match="up to 3-2, got") as refused:
        await desk.page("watch", since=since)
    assert (refused.value.code, refused.value.field) == ("expired", "since")


@pytest.mark.parametrize("since", ["", "newest", "3", "3--1", 3, None])
async def test_a_watch_needs_a_version(desk: Any, since: Any) -> None:
    with pytest.raises(Refused, match="field since"):
        await desk.page("watch", since=since)


async def test_a_selector_looks_at_the_labels_that_an_edges_agent_was_started_with(desk: Any) -> None:
    for name, site in (("edge-1", "berlin"), ("edge-2", "paris")):
        await desk.store.create(Edge(metadata=Metadata(name=name), spec=EdgeSpec(labels={"site": site})))
    found = await desk.ask("edges", "list", {"selector": "site in (berlin)"})
    assert [each["metadata"]["name"] for each in found] == ["edge-1"]
