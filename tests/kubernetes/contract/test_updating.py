"""An API server keeps spec and status apart, and refuses stale writes."""

from __future__ import annotations

import pytest

from heliograph.coordinator.kubernetes.errors import Invalid, NotFound, Stale
from tests.kubernetes.contract.waiting import FINALIZER, version_of
from tests.kubernetes.probes import Probes


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
