"""An API server keeps what has a finalizer, and deletes dependents and what is in namespaces."""

from __future__ import annotations

import pytest

from heliograph.coordinator.kubernetes.api import NAMESPACES
from heliograph.coordinator.kubernetes.errors import Ending, Invalid, NotFound, Stale
from tests.kubernetes.contract.waiting import FINALIZER, gone, version_of
from tests.kubernetes.probes import Probes


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
    with pytest.raises(Ending, match="terminated"):
        await probes.create("c")
    await probes.patch({"metadata": {"finalizers": None}})
    await gone(probes.api, NAMESPACES, "", probes.namespace)
