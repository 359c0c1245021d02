"""Custom resources, topics and the command line show the same job, whoever made it."""

from __future__ import annotations

import asyncio

import pytest

from heliograph.client import AsyncClient
from heliograph.coordinator.kubernetes.api import EVENTS, NAMESPACES, Api, Object
from heliograph.coordinator.kubernetes.documents import CLOUD, FINALIZER, MIRROR, OWNER
from heliograph.coordinator.kubernetes.operator import OperatorSettings
from heliograph.core.errors import Refused
from tests.kubernetes.running_operator import (
    EDGE,
    JOB,
    MODEL,
    NUMBERS,
    SERVICE,
    Printed,
    Running,
    coordinating,
    custom,
    job,
    operating,
    said,
)
from tests.patience import HANGS

MANAGED_BY = "kubernetes/default"


async def recorded(running: Running, name: str, type: str, reason: str) -> None:
    """Return once an event about a custom resource is there."""
    def is_it(event: Object) -> bool:
        return (event["involvedObject"]["name"], event["type"], event["reason"]) == (name, type, reason)

    async with asyncio.timeout(HANGS):
        events, version = await running.api.list(EVENTS, "default")
        if not any(map(is_it, events)):
            async for change in running.api.watch(EVENTS, version, "default"):
                if change.type == "ADDED" and is_it(change.object):
                    return


async def test_a_custom_resource_becomes_a_resource_and_shows_its_status(kubernetes: Api) -> None:
    async with operating(kubernetes) as running:
        await running.api.create(JOB, "default", job("train"))
        found = await running.until(JOB, "train", lambda each: each.get("status", {}).get("phase") == "Pending")
        assert said(found, "Accepted")[:2] == ("True", "Accepted")
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"] == 1
        assert {each["observedGeneration"] for each in found["status"]["conditions"]} == {1}
        assert FINALIZER in found["metadata"]["finalizers"] and found["metadata"]["annotations"][CLOUD]
        resource = await running.client.jobs.get("train")
        assert resource["metadata"]["createdBy"] == MANAGED_BY
        assert resource["metadata"].get("namespace", "default") == "default"
        await recorded(running, "train", "Normal", "Pending")


async def test_a_changed_spec_and_changed_labels_arrive(kubernetes: Api) -> None:
    async with operating(kubernetes) as running:
        await running.api.create(MODEL, "default", custom("m", "Model", {"description": "first"}))
        await running.accepted(MODEL, "m")
        await running.api.patch(MODEL, "default", "m", {"spec": {"description": "second"}})
        await running.resource("models", "m", lambda each: each["spec"]["description"] == "second")
        await running.until(MODEL, "m", lambda each: each["status"]["observedGeneration"] == 2)
        await running.api.patch(MODEL, "default", "m", {"metadata": {"labels": {"site": "berlin"}}})
        await running.resource("models", "m", lambda each: each["metadata"].get("labels") == {"site": "berlin"})


async def test_topics_may_not_change_what_a_custom_resource_owns(kubernetes: Api) -> None:
    async with operating(kubernetes) as running:
        await running.api.create(MODEL, "default", custom("m", "Model", {"description": "first"}))
        await running.accepted(MODEL, "m")
        mine = {"kind": "Model", "metadata": {"name": "m"}, "spec": {"description": "mine"}}
        with pytest.raises(Refused, match="kubectl edit model m --namespace default"):
            await running.client.models.update(mine)
        with pytest.raises(Refused, match="kubectl delete model m --namespace default"):
            await running.client.models.delete("m")
        assert (await running.client.models.get("m"))["spec"]["description"] == "first"


async def test_a_deleted_custom_resource_deletes_its_resource_first(kubernetes: Api) -> None:
    async with operating(kubernetes) as running:
        await running.api.create(JOB, "default", job("train"))
        await running.accepted(JOB, "train")
        await running.api.delete(JOB, "default", "train")
        await running.until_gone(JOB, "train")
        assert await running.client.jobs.list() == []


async def test_what_another_resource_needs_stays_and_says_why_until_it_is_needed_no_more(kubernetes: Api) -> None:
    async with operating(kubernetes) as running:
        await running.api.create(MODEL, "default", custom("line", "Model", {}))
        worker = {"model": {"name": "line"}, "scriptBootFile": "serve.py"}
        await running.api.create(SERVICE, "default", custom("answers", "JointInferenceService", {"edgeWorker": worker}))
        await running.accepted(MODEL, "line")
        await running.accepted(SERVICE, "answers")
        await running.api.delete(MODEL, "default", "line")
        found = await running.until(MODEL, "line", lambda each: said(each, "Deletable")[0] == "False")
        assert said(found, "Deletable")[1] == "InUse" and "answers" in said(found, "Deletable")[2]
        await running.api.delete(SERVICE, "default", "answers")
        await running.until_gone(MODEL, "line")


async def test_a_refused_spec_says_field_expected_and_got_and_is_taken_once_it_is_mended(kubernetes: Api) -> None:
    twins = [{"name": name, "nodeName": "nobody", "workerSpec": {"trainScriptBootFile": "t.py"}} for name in "ab"]
    async with operating(kubernetes) as running:
        await running.api.create(JOB, "default", job("train", trainingWorkers=twins))
        reason, message = await running.refused(JOB, "train")
        assert reason == "Invalid" and "two trainingWorkers name the same nodeName" in message
        assert await running.client.jobs.list() == []
        await recorded(running, "train", "Warning", "Invalid")
        await running.api.patch(JOB, "default", "train", {"spec": {"trainingWorkers": twins[:1]}})
        await running.accepted(JOB, "train")


async def test_a_name_that_topics_have_taken_is_refused_and_nothing_of_it_is_shown(kubernetes: Api) -> None:
    async with operating(kubernetes) as running:
        await running.api.create(NAMESPACES, "", {"metadata": {"name": "berlin"}})
        await running.client.models.create({"kind": "Model", "metadata": {"name": "m"}, "spec": {"description": "a"}})
        await running.api.create(MODEL, "berlin", custom("m", "Model", {"description": "b"}, "berlin"))
        reason, message = await running.refused(MODEL, "m", "berlin")
        assert reason == "Taken" and "project default" in message
        await running.api.delete(MODEL, "berlin", "m")
        await running.until_gone(MODEL, "m", "berlin")
        assert (await running.client.models.get("m"))["spec"]["description"] == "a"


async def test_a_resource_made_by_topics_has_a_mirror_that_nobody_else_changes(kubernetes: Api) -> None:
    async with operating(kubernetes) as running:
        await running.client.models.create({"kind": "Model", "metadata": {"name": "m"}, "spec": {"description": "a"}})
        mirror = await running.until(MODEL, "m", lambda each: said(each, "Mirrored")[0] == "True")
        assert mirror["spec"]["description"] == "a" and mirror["metadata"]["annotations"][OWNER]
        assert FINALIZER not in mirror["metadata"].get("finalizers", [])
        await running.api.patch(MODEL, "default", "m", {"spec": {"description": "mine"}})
        await running.until(
            MODEL, "m", lambda each: each["spec"]["description"] == "a" and each["metadata"]["generation"] > 2
        )
        await recorded(running, "m", "Warning", "Restored")
        await running.client.models.update({"kind": "Model", "metadata": {"name": "m"}, "spec": {"description": "b"}})
        await running.until(MODEL, "m", lambda each: each["spec"]["description"] == "b")
        await running.api.delete(MODEL, "default", "m")
        await running.until(MODEL, "m", lambda each: each["metadata"]["uid"] != mirror["metadata"]["uid"])
        await running.client.models.delete("m")
        await running.until_gone(MODEL, "m")


async def test_a_copy_of_a_mirror_in_another_namespace_is_no_resource(kubernetes: Api) -> None:
    async with operating(kubernetes) as running:
        await running.api.create(NAMESPACES, "", {"metadata": {"name": "berlin"}})
        await running.client.models.create({"kind": "Model", "metadata": {"name": "m"}})
        mirror = await running.until(MODEL, "m", lambda each: said(each, "Mirrored")[0] == "True")
        label = {MIRROR: mirror["metadata"]["labels"][MIRROR]}
        await running.api.create(MODEL, "berlin", custom("m", "Model", {}, "berlin", labels=label))
        await running.until_gone(MODEL, "m", "berlin")
        assert not await running.missing(MODEL, "m")


async def test_edges_are_no_ones_to_create(kubernetes: Api) -> None:
    async with operating(kubernetes) as running:
        await running.api.create(EDGE, "default", custom("edge-1", "Edge", {}))
        reason, _ = await running.refused(EDGE, "edge-1")
        assert reason == "UnknownVerb"


async def test_a_namespace_reaches_no_resource_of_another_project(kubernetes: Api) -> None:
    async with operating(kubernetes) as running:
        await running.api.create(NAMESPACES, "", {"metadata": {"name": "berlin"}})
        await running.client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        given = job("spy")
        given["metadata"]["namespace"] = "berlin"
        await running.api.create(JOB, "berlin", given)
        reason, message = await running.refused(JOB, "spy", "berlin")
        assert reason == "NotFound" and "aggregationWorker.model" in message


async def test_what_was_refused_is_taken_once_nothing_is_in_its_way(
    kubernetes: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliograph.coordinator.kubernetes.operator.REFUSED_AGAIN", 0.2)
    async with operating(kubernetes) as running:
        await running.api.create(NAMESPACES, "", {"metadata": {"name": "berlin"}})
        await running.client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        given = job("patient")
        given["metadata"]["namespace"] = "berlin"
        await running.api.create(JOB, "berlin", given)
        await running.refused(JOB, "patient", "berlin")
        await running.client.models.delete("line")
        await running.accepted(JOB, "patient", "berlin")


async def test_a_name_that_was_taken_elsewhere_is_had_once_it_is_free(
    kubernetes: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliograph.coordinator.kubernetes.operator.REFUSED_AGAIN", 0.2)
    async with operating(kubernetes) as running:
        await running.api.create(NAMESPACES, "", {"metadata": {"name": "berlin"}})
        await running.client.models.create({"kind": "Model", "metadata": {"name": "m"}})
        await running.api.create(MODEL, "berlin", custom("m", "Model", {}, "berlin"))
        assert (await running.refused(MODEL, "m", "berlin"))[0] == "Taken"
        await running.api.create(MODEL, "berlin", custom("later", "Model", {}, "berlin"))
        await running.accepted(MODEL, "later", "berlin")  # the operator has seen its own status of the first by now
        await running.client.models.delete("m")
        await running.accepted(MODEL, "m", "berlin")


async def test_only_the_named_namespaces_count(kubernetes: Api) -> None:
    async with operating(kubernetes, OperatorSettings(namespaces=("berlin",))) as running:
        await running.api.create(NAMESPACES, "", {"metadata": {"name": "berlin"}})
        await running.api.create(MODEL, "default", custom("there", "Model", {}))
        await running.api.create(MODEL, "berlin", custom("here", "Model", {}, "berlin"))
        await running.accepted(MODEL, "here", "berlin")
        assert "status" not in await running.api.get(MODEL, "default", "there")
        assert [each["metadata"]["name"] for each in await running.client.models.list()] == ["here"]


async def test_another_clouds_custom_resources_are_left_alone(kubernetes: Api) -> None:
    async with operating(kubernetes) as running:
        theirs = custom("m", "Model", {}, annotations={CLOUD: "another"})
        await running.api.create(MODEL, "default", theirs)
        await running.api.create(MODEL, "default", custom("last", "Model", {}))
        await running.accepted(MODEL, "last")
        assert "status" not in await running.api.get(MODEL, "default", "m")
        assert [each["metadata"]["name"] for each in await running.client.models.list()] == ["last"]


async def test_of_two_operators_of_one_cloud_the_leader_works_and_the_next_goes_on(kubernetes: Api) -> None:
    url = f"memory://operator-{next(NUMBERS)}"
    async with AsyncClient(url, leader_timeout=HANGS) as client:
        async with coordinating(url, Printed(), name="first"):
            running = Running(kubernetes, client, url)
            await kubernetes.create(MODEL, "default", custom("m", "Model", {"description": "a"}))
            before = await running.accepted(MODEL, "m")
        await kubernetes.patch(MODEL, "default", "m", {"spec": {"description": "b"}})
        await kubernetes.create(JOB, "default", job("train"))
        async with coordinating(url, Printed(), name="second"):
            await running.accepted(JOB, "train")
            await running.resource("models", "m", lambda each: each["spec"]["description"] == "b")
            assert (await kubernetes.get(MODEL, "default", "m"))["metadata"]["uid"] == before["metadata"]["uid"]
            assert [each["metadata"]["name"] for each in await client.models.list()] == ["m"]


async def test_what_was_deleted_while_no_operator_ran_is_deleted_by_the_next(kubernetes: Api) -> None:
    url = f"memory://operator-{next(NUMBERS)}"
    async with AsyncClient(url, leader_timeout=HANGS) as client:
        running = Running(kubernetes, client, url)
        async with coordinating(url, Printed()):
            await kubernetes.create(JOB, "default", job("train"))
            await running.accepted(JOB, "train")
        await kubernetes.delete(JOB, "default", "train")
        assert not await running.missing(JOB, "train")
        async with coordinating(url, Printed()):
            await running.until_gone(JOB, "train")
            assert await client.jobs.list() == []
