"""What an API server of Kubernetes does, as the operator relies on it.

Each statement is about the API. With ``HELIOGRAPH_TEST_KUBECONFIG`` they are tested on that server, and else on the one
in ``api_server``, so that it and kube-apiserver are held to the same.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from heliograph.coordinator.kubernetes.api import EVENTS, JOBS, NAMESPACES, Api, Kind, Object
from heliograph.coordinator.kubernetes.errors import (
    Exists,
    Expired,
    Forbidden,
    Invalid,
    NotFound,
    NotServed,
    Stale,
)
from tests.kubernetes.probes import DEFINITIONS, Probes
from tests.patience import HANGS

FINALIZER = "example.com/contract"
MISSING = Kind("nobody.example.com", "v1", "things", "Thing")
CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap")


def version_of(given: Object) -> int:
    """Return an object's version. Those of one server are compared only in this suite: clients must not."""
    return int(given["metadata"]["resourceVersion"])


async def changes(api: Api, kind: Kind, version: str, until: str, **how: Any) -> list[tuple[str, str]]:
    """Return types and names of the changes after a version, up to that of the object named ``until``."""
    found = list[tuple[str, str]]()
    async with asyncio.timeout(HANGS), aclosing(api.watch(kind, version, **how)) as watch:
        async for change in watch:
            if change.type != "BOOKMARK":
                found.append((change.type, change.object["metadata"]["name"]))
                if found[-1][1] == until:
                    return found
    return found


async def gone(api: Api, kind: Kind, namespace: str, name: str) -> None:
    """Return once an object is gone."""
    async with asyncio.timeout(HANGS):
        while True:
            items, version = await api.list(kind, namespace)
            if name not in [each["metadata"]["name"] for each in items]:
                return
            async with aclosing(api.watch(kind, version, namespace)) as watch:
                async for change in watch:
                    if change.type == "DELETED" and change.object["metadata"]["name"] == name:
                        return


# creating


async def test_a_created_object_has_a_uid_a_version_and_generation_1(probes: Probes) -> None:
    metadata = (await probes.create())["metadata"]
    assert metadata["uid"] and metadata["creationTimestamp"].endswith("Z") and metadata["generation"] == 1
    assert metadata["namespace"] == probes.namespace and (await probes.get())["metadata"] == metadata


async def test_a_name_is_taken_once_in_a_namespace(probes: Probes) -> None:
    await probes.create()
    with pytest.raises(Exists, match=r"create probes.*another object has this name"):
        await probes.create()


async def test_nothing_is_created_in_a_namespace_that_is_missing(probes: Probes) -> None:
    with pytest.raises(NotFound):
        await probes.api.create(probes.kind, "nowhere-at-all", probes.probe())


async def test_a_kind_that_is_not_served_is_told_from_an_object_that_is_missing(probes: Probes) -> None:
    with pytest.raises(NotFound) as missing:
        await probes.get("nobody")
    assert not isinstance(missing.value, NotServed)
    with pytest.raises(NotServed):
        await probes.api.list(MISSING)
    with pytest.raises(NotServed):
        await probes.api.create(MISSING, "default", {"metadata": {"name": "a"}})
    with pytest.raises(NotServed):
        await changes(probes.api, MISSING, "1", "a")


async def test_a_newer_version_of_a_kind_is_not_served(probes: Probes) -> None:
    newer = Kind(probes.kind.group, "v2", "probes", "Probe")
    with pytest.raises(NotServed):
        await probes.api.create(newer, probes.namespace, {**probes.probe(), "apiVersion": newer.api_version})
    with pytest.raises(Invalid):
        await probes.api.create(probes.kind, probes.namespace, {**probes.probe(), "apiVersion": newer.api_version})


async def test_a_name_is_a_dns_name(probes: Probes) -> None:
    with pytest.raises(Invalid) as refused:
        await probes.create("No_Name")
    assert [field for field, _ in refused.value.causes] == ["metadata.name"]


# schemas


async def test_unknown_fields_and_nulls_are_left_out_and_defaults_come(probes: Probes) -> None:
    given = {"size": 2, "colour": None, "name": None, "maybe": None, "surprise": 1, "parts": [{"key": "k", "more": 2}]}
    spec = (await probes.create(spec=given))["spec"]
    assert spec == {"size": 2, "colour": "red", "maybe": None, "parts": [{"key": "k"}]}


async def test_a_field_without_a_type_keeps_what_it_is_given(probes: Probes) -> None:
    value = {"deep": [1, None, {"er": True}]}
    spec = (await probes.create(spec={"size": 2, "parts": [{"key": "k", "value": value}]}))["spec"]
    assert spec["parts"] == [{"key": "k", "value": value}]


WRONG: dict[str, tuple[Object, str]] = {
    "missing": ({}, "spec.size"),
    "type": ({"size": "1"}, "spec.size"),
    "fraction": ({"size": 1.5}, "spec.size"),
    "minimum": ({"size": 0}, "spec.size"),
    "maximum": ({"size": 10}, "spec.size"),
    "exclusive": ({"size": 1, "share": 0}, "spec.share"),
    "enum": ({"size": 1, "colour": "blue"}, "spec.colour"),
    "short": ({"size": 1, "name": "a"}, "spec.name"),
    "long": ({"size": 1, "name": "abcde"}, "spec.name"),
    "pattern": ({"size": 1, "name": "AB"}, "spec.name"),
    "boolean": ({"size": 1, "flag": "true"}, "spec.flag"),
    "many": ({"size": 1, "words": ["a", "b", "c", "d"]}, "spec.words"),
    "twice": ({"size": 1, "words": ["a", "b", "a"]}, "spec.words[2]"),
    "same key": ({"size": 1, "parts": [{"key": "a"}, {"key": "a"}]}, "spec.parts[1]"),
    "no key": ({"size": 1, "parts": [{"value": 1}]}, "spec.parts[0].key"),
    "map value": ({"size": 1, "limits": {"a": "b"}}, "spec.limits.a"),
    "map size": ({"size": 1, "limits": {"a": 1, "b": 2, "c": 3}}, "spec.limits"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_the_schema_forbids_is_refused_with_the_path_of_its_field(probes: Probes, case: str) -> None:
    spec, field = WRONG[case]
    with pytest.raises(Invalid) as refused:
        await probes.create(spec=spec)
    assert field in [path for path, _ in refused.value.causes]
    with pytest.raises(NotFound):
        await probes.get()


async def test_all_that_is_wrong_is_said_at_once(probes: Probes) -> None:
    with pytest.raises(Invalid) as refused:
        await probes.create(spec={"size": 0, "colour": "blue"})
    assert {path for path, _ in refused.value.causes} == {"spec.size", "spec.colour"}


async def test_updates_patches_and_statuses_are_checked_too(probes: Probes) -> None:
    made = await probes.create()
    with pytest.raises(Invalid, match=r"spec\.size"):
        await probes.api.replace(probes.kind, probes.namespace, {**made, "spec": {}})
    with pytest.raises(Invalid, match=r"spec\.size"):
        await probes.patch({"spec": {"size": 100}})
    with pytest.raises(Invalid, match=r"status\.round"):
        await probes.api.patch_status(probes.kind, probes.namespace, "a", {"status": {"round": "first"}})
    assert (await probes.get()) == made


# spec and status


async def test_a_status_is_written_by_its_subresource_alone(probes: Probes) -> None:
    made = await probes.api.create(probes.kind, probes.namespace, {**probes.probe(), "status": {"phase": "Early"}})
    assert "status" not in made
    made = await probes.api.replace(probes.kind, probes.namespace, {**made, "status": {"phase": "No"}})
    made = await probes.patch({"status": {"phase": "No"}})
    assert "status" not in made
    told = await probes.api.replace_status(probes.kind, probes.namespace, {**made, "status": {"phase": "Running"}})
    assert told["status"] == {"phase": "Running"}
    kept = await probes.api.replace(probes.kind, probes.namespace, {**told, "spec": {"size": 2}, "status": {}})
    assert kept["status"] == {"phase": "Running"} and kept["spec"]["size"] == 2


async def test_the_subresource_of_a_status_writes_nothing_else(probes: Probes) -> None:
    made = await probes.create()
    other = {**made, "spec": {"size": 5}, "status": {"phase": "Running"},
             "metadata": {**made["metadata"], "labels": {"a": "b"}, "finalizers": [FINALIZER]}}  # fmt: skip
    told = await probes.api.replace_status(probes.kind, probes.namespace, other)
    assert told["spec"] == made["spec"] and told["status"] == {"phase": "Running"}
    assert "labels" not in told["metadata"] and "finalizers" not in told["metadata"]


async def test_a_generation_counts_changes_of_the_spec(probes: Probes) -> None:
    await probes.create()
    await probes.patch({"metadata": {"labels": {"a": "b"}}})
    told = await probes.api.patch_status(probes.kind, probes.namespace, "a", {"status": {"phase": "Running"}})
    assert told["metadata"]["generation"] == 1
    assert (await probes.patch({"spec": {"size": 2}}))["metadata"]["generation"] == 2


async def test_a_status_without_unknown_fields(probes: Probes) -> None:
    await probes.create()
    told = await probes.api.patch_status(probes.kind, probes.namespace, "a", {"status": {"phase": "x", "more": 1}})
    assert told["status"] == {"phase": "x"}


# versions


async def test_a_write_that_changes_nothing_makes_no_version(probes: Probes) -> None:
    made = await probes.create()
    same = await probes.api.replace(probes.kind, probes.namespace, made)
    same_again = await probes.patch({"spec": {"size": 1}})
    assert version_of(made) == version_of(same) == version_of(same_again)


async def test_a_stale_replace_is_refused(probes: Probes) -> None:
    made = await probes.create()
    await probes.patch({"spec": {"size": 2}})
    with pytest.raises(Stale, match=r"update probes.*get it again"):
        await probes.api.replace(probes.kind, probes.namespace, {**made, "spec": {"size": 3}})
    with pytest.raises(Stale):
        await probes.api.replace_status(probes.kind, probes.namespace, {**made, "status": {"phase": "Late"}})
    assert (await probes.get())["spec"]["size"] == 2


async def test_a_custom_resource_is_replaced_only_by_its_version(probes: Probes) -> None:
    made = await probes.create()
    del made["metadata"]["resourceVersion"]
    with pytest.raises(Invalid, match=r"metadata\.resourceVersion"):
        await probes.api.replace(probes.kind, probes.namespace, made)


async def test_a_patch_is_guarded_by_a_version_if_it_has_one(probes: Probes) -> None:
    made = await probes.create()
    version = made["metadata"]["resourceVersion"]
    await probes.patch({"metadata": {"resourceVersion": version}, "spec": {"size": 2}})
    with pytest.raises(Stale):
        await probes.patch({"metadata": {"resourceVersion": version}, "spec": {"size": 3}})
    assert (await probes.patch({"spec": {"size": 4}}))["spec"]["size"] == 4


async def test_a_patch_merges_mappings_replaces_lists_and_takes_nulls_as_removals(probes: Probes) -> None:
    await probes.create(spec={"size": 1, "name": "ab", "words": ["a", "b"], "limits": {"a": 1}})
    spec = (await probes.patch({"spec": {"name": None, "words": ["c"], "limits": {"b": 2}}}))["spec"]
    assert spec == {"size": 1, "colour": "red", "words": ["c"], "limits": {"a": 1, "b": 2}}


async def test_only_what_exists_is_replaced_and_patched(probes: Probes) -> None:
    given = probes.probe("nobody", resourceVersion="1")
    with pytest.raises(NotFound):
        await probes.api.replace(probes.kind, probes.namespace, given)
    with pytest.raises(NotFound):
        await probes.patch({"spec": {"size": 2}}, "nobody")


# deleting


async def test_what_is_deleted_is_gone_and_its_successor_has_another_uid(probes: Probes) -> None:
    made = await probes.create()
    await probes.delete()
    with pytest.raises(NotFound):
        await probes.delete()
    assert (await probes.create())["metadata"]["uid"] != made["metadata"]["uid"]


async def test_a_uid_guards_against_deleting_the_successor(probes: Probes) -> None:
    first = await probes.create()
    await probes.delete(uid=first["metadata"]["uid"])
    await probes.create()
    with pytest.raises(Stale):
        await probes.delete(uid=first["metadata"]["uid"])
    await probes.get()


async def test_an_update_with_the_uid_of_another_object_is_refused(probes: Probes) -> None:
    made = await probes.create()
    made["metadata"]["uid"] = "8a39fcd9-b3b5-4a4e-9d4d-111111111111"
    with pytest.raises(Stale):
        await probes.api.replace(probes.kind, probes.namespace, made)


async def test_a_finalizer_keeps_an_object_that_is_deleted(probes: Probes) -> None:
    made = await probes.create(finalizers=[FINALIZER])
    await probes.delete()
    await probes.delete()
    marked = await probes.get()
    assert marked["metadata"]["deletionTimestamp"] and marked["metadata"]["generation"] == 2
    assert version_of(marked) > version_of(made)
    assert (await probes.patch({"spec": {"size": 2}}))["spec"]["size"] == 2
    with pytest.raises(Invalid, match=r"metadata\.finalizers"):
        await probes.patch({"metadata": {"finalizers": [FINALIZER, "example.com/another"]}})
    await probes.patch({"metadata": {"finalizers": []}})
    with pytest.raises(NotFound):
        await probes.get()


async def test_dependents_go_with_the_last_of_their_owners(probes: Probes) -> None:
    owners = [await probes.create(name) for name in ("a", "b")]
    references = [{"apiVersion": probes.kind.api_version, "kind": "Probe", "name": each["metadata"]["name"],
                   "uid": each["metadata"]["uid"]} for each in owners]  # fmt: skip
    await probes.create("both", ownerReferences=references)
    await probes.create("one", ownerReferences=references[:1])
    await probes.delete("a")
    await gone(probes.api, probes.kind, probes.namespace, "one")
    await probes.get("both")
    await probes.delete("b")
    await gone(probes.api, probes.kind, probes.namespace, "both")


async def test_orphans_stay(probes: Probes) -> None:
    owner = (await probes.create())["metadata"]
    reference = {"apiVersion": probes.kind.api_version, "kind": "Probe", "name": "a", "uid": owner["uid"]}
    await probes.create("child", ownerReferences=[reference])
    await probes.delete("a", propagation="Orphan")
    await gone(probes.api, probes.kind, probes.namespace, "a")
    assert not (await probes.get("child"))["metadata"].get("ownerReferences")


async def test_a_namespace_goes_once_all_in_it_is_gone_and_takes_nothing_new(probes: Probes) -> None:
    await probes.create(finalizers=[FINALIZER])
    await probes.create("b")
    await probes.api.delete(NAMESPACES, "", probes.namespace)
    await gone(probes.api, probes.kind, probes.namespace, "b")
    with pytest.raises(Forbidden, match="terminated"):
        await probes.create("c")
    await probes.patch({"metadata": {"finalizers": None}})
    await gone(probes.api, NAMESPACES, "", probes.namespace)


# lists


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


# watches


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


# definitions


async def test_a_definition_goes_after_its_objects_and_watches_end_with_it(probes: Probes) -> None:
    await probes.create(finalizers=[FINALIZER])
    await probes.create("b")
    _, version = await probes.api.list(probes.kind, probes.namespace)
    seen = list[tuple[str, str]]()
    marked = asyncio.Event()

    async def look() -> None:
        async for change in probes.api.watch(probes.kind, version, probes.namespace, seconds=200):
            if change.type != "BOOKMARK":
                seen.append((change.type, change.object["metadata"]["name"]))
                if seen[-1] == ("MODIFIED", "a"):
                    marked.set()

    async with asyncio.timeout(HANGS), asyncio.TaskGroup() as group:
        watching = group.create_task(look())
        await probes.api.delete(DEFINITIONS, "", probes.kind.resource)
        await marked.wait()
        with pytest.raises(NotServed, match="terminating"):
            await probes.create("c")
        assert (await probes.get())["metadata"]["deletionTimestamp"]  # it is served until the last one is gone
        await probes.patch({"metadata": {"finalizers": None}})
        await watching  # the server ends it
    assert ("DELETED", "b") in seen and seen[-1] == ("DELETED", "a")
    await gone(probes.api, DEFINITIONS, "", probes.kind.resource)
    async with asyncio.timeout(HANGS):
        with pytest.raises(NotServed, match="does not serve"):
            while True:
                await probes.api.list(probes.kind, probes.namespace)
                await asyncio.sleep(0.1)


# kinds of Kubernetes itself


async def test_events_are_about_objects_of_their_namespace(probes: Probes) -> None:
    about = {"kind": "Probe", "name": "a", "namespace": probes.namespace, "apiVersion": probes.kind.api_version}
    event = {"metadata": {"name": "a.1"}, "involvedObject": about, "reason": "Accepted", "type": "Normal"}
    await probes.api.create(EVENTS, probes.namespace, event)
    found, _ = await probes.api.list(EVENTS, probes.namespace)
    assert [each["reason"] for each in found if each["involvedObject"]["name"] == "a"] == ["Accepted"]
    elsewhere = {**event, "metadata": {"name": "a.2"}, "involvedObject": {**about, "namespace": "default"}}
    with pytest.raises(Invalid, match=r"involvedObject\.namespace"):
        await probes.api.create(EVENTS, probes.namespace, elsewhere)


async def test_the_template_of_a_job_stays_as_it_is(probes: Probes) -> None:
    container = {"name": "w", "image": "example.com/none:1"}
    template = {"spec": {"restartPolicy": "OnFailure", "containers": [container]}}
    job = {"metadata": {"name": "w"}, "spec": {"suspend": True, "template": template}}
    made = await probes.api.create(JOBS, probes.namespace, job)
    assert made["metadata"]["generation"] == 1
    changed = {"spec": {"template": {"spec": {"containers": [{**container, "image": "example.com/none:2"}]}}}}
    with pytest.raises(Invalid, match=r"spec\.template"):
        await probes.api.patch(JOBS, probes.namespace, "w", changed)
    await probes.api.delete(JOBS, probes.namespace, "w", uid=made["metadata"]["uid"])
    await gone(probes.api, JOBS, probes.namespace, "w")
