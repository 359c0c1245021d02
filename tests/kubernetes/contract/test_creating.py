"""An API server creates objects once, by the schema of their kind."""

from __future__ import annotations

import pytest

from heliograph.coordinator.kubernetes.api import JOBS, Kind, Object
from heliograph.coordinator.kubernetes.errors import Exists, Invalid, NotFound, NotServed
from tests.kubernetes.contract.waiting import changes
from tests.kubernetes.probes import Probes

MISSING = Kind("nobody.example.com", "v1", "things", "Thing")


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


async def test_a_container_mounts_only_volumes_of_its_pod(probes: Probes) -> None:
    mounts = [{"name": "here", "mountPath": "/here"}, {"name": "nowhere", "mountPath": "/nowhere"}]
    spec = {"restartPolicy": "Never", "volumes": [{"name": "here", "emptyDir": {}}],
            "containers": [{"name": "c", "image": "example.com/a:1", "volumeMounts": mounts}]}  # fmt: skip
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": {"spec": spec}}}
    with pytest.raises(Invalid) as refused:
        await probes.api.create(JOBS, probes.namespace, job)
    assert [path for path, _ in refused.value.causes] == ["spec.template.spec.containers[0].volumeMounts[1].name"]


async def test_empty_lists_and_texts_of_a_pod_are_not_kept(probes: Probes) -> None:
    container = {"name": "c", "image": "example.com/a:1", "args": [], "env": [{"name": "A", "value": ""}]}
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": {"spec": spec}}}
    pod = (await probes.api.create(JOBS, probes.namespace, job))["spec"]["template"]["spec"]
    assert "args" not in pod["containers"][0]
    assert pod["containers"][0]["env"] == [{"name": "A"}] and pod["volumes"] == [{"name": "v", "emptyDir": {}}]
