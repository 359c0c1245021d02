"""An API server lists by labels and in pages, and watches tell all that comes after a version."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from heliograph.coordinator.kubernetes.api import Kind
from heliograph.coordinator.kubernetes.errors import Expired, Invalid
from tests.kubernetes.contract.waiting import changes, version_of
from tests.kubernetes.probes import Probes
from tests.patience import HANGS

CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap")


@pytest.mark.parametrize(("labels", "names"), [
    ("", "abcd"), ("site=berlin", "ab"), ("site!=berlin", "cd"), ("site in (berlin, paris)", "abc"),
    ("site notin (berlin)", "cd"), ("tier", "a"), ("!tier", "bcd"), ("site=berlin,!tier", "b"),
])  # fmt: skip
async def test_a_label_selector_selects(probes: Probes, labels: str, names: str) -> None:
    for name, given in {"a": {"site": "berlin", "tier": "1"}, "b": {"site": "berlin"}, "c": {"site": "paris"},
                        "d": {}}.items():  # fmt: skip
        await probes.create(name, labels=given)
    found, _ = await probes.api.list(probes.kind, probes.namespace, labels)
    assert "".join(each["metadata"]["name"] for each in found) == names


async def test_a_selector_that_does_not_parse_is_refused(probes: Probes) -> None:
    with pytest.raises(Invalid, match="unable to parse"):
        await probes.api.list(probes.kind, probes.namespace, "site in berlin")


async def test_a_list_comes_in_pages_of_one_version(probes: Probes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heliograph.coordinator.kubernetes.client.PAGE", 3)
    names = [f"p{number}" for number in range(7)]
    for name in names:
        await probes.create(name)
    found, version = await probes.api.list(probes.kind, probes.namespace)
    assert [each["metadata"]["name"] for each in found] == names
    assert int(version) >= max(map(version_of, found))
    assert {(each["apiVersion"], each["kind"]) for each in found} == {(probes.kind.api_version, "Probe")}


async def test_objects_of_a_list_say_their_kind(probes: Probes) -> None:
    """The server leaves both out for its own kinds, and the client adds them."""
    await probes.api.create(CONFIG_MAPS, probes.namespace, {"metadata": {"name": "a"}, "data": {}})
    found, _ = await probes.api.list(CONFIG_MAPS, probes.namespace)
    assert {(each["apiVersion"], each["kind"]) for each in found} == {("v1", "ConfigMap")}


async def test_a_list_of_all_namespaces_has_what_a_list_of_one_leaves_out(probes: Probes) -> None:
    await probes.create()
    assert (await probes.api.list(probes.kind, "default"))[0] == []
    assert len((await probes.api.list(probes.kind))[0]) == 1


async def test_a_watch_tells_what_came_after_a_version_in_its_order(probes: Probes) -> None:
    await probes.create("before")
    _, version = await probes.api.list(probes.kind, probes.namespace)
    await probes.create()
    await probes.patch({"spec": {"size": 2}})
    await probes.delete()
    await probes.create("last")
    seen = await changes(probes.api, probes.kind, version, "last", namespace=probes.namespace)
    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "last")]


async def test_a_deletion_has_a_version_of_its_own(probes: Probes) -> None:
    made = await probes.create()
    await probes.delete()
    version = made["metadata"]["resourceVersion"]
    watch = probes.api.watch(probes.kind, version, probes.namespace)
    async with asyncio.timeout(HANGS), aclosing(watch):
        change = await anext(watch)
    assert change.type == "DELETED" and version_of(change.object) > int(version)
    assert change.object["spec"] == made["spec"]


async def test_a_watch_begins_where_the_last_one_ended(probes: Probes) -> None:
    made = await probes.create()
    await probes.create("b")
    await probes.create("c")
    version = made["metadata"]["resourceVersion"]
    assert await changes(probes.api, probes.kind, version, "c") == [("ADDED", "b"), ("ADDED", "c")]


async def test_a_watch_of_selected_objects_tells_those_that_come_and_go(probes: Probes) -> None:
    made = await probes.create(labels={"site": "berlin"})
    await probes.create("other")
    await probes.patch({"spec": {"size": 2}})
    await probes.patch({"metadata": {"labels": {"site": "paris"}}})
    await probes.patch({"metadata": {"labels": {"site": "berlin"}}})
    await probes.create("last", labels={"site": "berlin"})
    seen = await changes(probes.api, probes.kind, made["metadata"]["resourceVersion"], "last", labels="site=berlin")
    assert seen == [("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "a"), ("ADDED", "last")]


async def test_a_watch_of_a_namespace_leaves_others_out(probes: Probes) -> None:
    _, version = await probes.api.list(probes.kind)
    await probes.api.create(probes.kind, "default", probes.probe("elsewhere"))
    await probes.create("last")
    await probes.api.delete(probes.kind, "default", "elsewhere")
    seen = await changes(probes.api, probes.kind, version, "last", namespace=probes.namespace)
    assert seen == [("ADDED", "last")]


async def test_a_watch_ends_by_itself_after_a_bookmark(probes: Probes) -> None:
    made = await probes.create()
    _, version = await probes.api.list(probes.kind, probes.namespace)
    async with asyncio.timeout(HANGS):
        seen = [change async for change in probes.api.watch(probes.kind, version, probes.namespace, seconds=3)]
    assert {change.type for change in seen} <= {"BOOKMARK"}
    for change in seen:
        assert version_of(change.object) >= version_of(made) and "spec" not in change.object


async def test_a_version_that_is_too_old_is_expired(probes: Probes) -> None:
    with pytest.raises(Expired, match="list again"):
        await changes(probes.api, probes.kind, "1", "a")
