"""Kinds that are removed while somebody uses them, and kinds of Kubernetes itself."""

from __future__ import annotations

import asyncio

import pytest

from heliograph.coordinator.kubernetes.api import EVENTS, JOBS
from heliograph.coordinator.kubernetes.errors import Ending, Invalid, NotServed
from tests.kubernetes.contract.waiting import FINALIZER, gone
from tests.kubernetes.probes import DEFINITIONS, Probes
from tests.patience import HANGS


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
        with pytest.raises(Ending, match="definition is terminating"):
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
