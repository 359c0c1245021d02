"""What the operator does while the API server, its definitions or the coordinator are away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from heliograph.bus.contract.custom_resources.definitions import definitions
from heliograph.bus.contract.topics import STATUS
from heliograph.client import AsyncClient
from heliograph.coordinator.kubernetes.api import Api
from heliograph.coordinator.kubernetes.client import KubernetesClient
from heliograph.core.errors import Refused
from heliograph.core.world import World
from tests.kubernetes.api_server.server import ApiServer
from tests.kubernetes.probes import DEFINITIONS
from tests.kubernetes.running_operator import (
    JOB,
    MODEL,
    NUMBERS,
    Printed,
    Running,
    coordinating,
    custom,
    job,
    operating,
    said,
)
from tests.patience import HANGS


async def test_while_the_api_server_is_away_jobs_go_on_and_afterwards_both_sides_catch_up(
    kubernetes: Api, api_server: ApiServer
) -> None:
    async with operating(kubernetes) as running:
        await kubernetes.create(JOB, "default", job("before"))
        await running.accepted(JOB, "before")
        await api_server.stop()
        await running.printed.until("Kubernetes: the API server")
        await running.client.models.create({"kind": "Model", "metadata": {"name": "meanwhile"}})
        assert [each["metadata"]["name"] for each in await running.client.jobs.list()] == ["before"]
        await running.client.jobs.stop("before")  # a verb of the job, which changes no spec
        await api_server.start()
        found = await running.until(JOB, "before", lambda each: each["status"].get("phase") == "Stopped")
        assert said(found, "Accepted")[0] == "True"
        await running.until(MODEL, "meanwhile", lambda each: said(each, "Mirrored")[0] == "True")
        told = [line for line in running.printed.lines if "cannot be reached" in line]
        assert len(told) <= 4, told  # in each of its ways once, whatever the number of kinds and attempts


async def test_an_operator_may_delete_while_the_api_server_is_away_and_the_custom_resource_brings_it_back(
    kubernetes: Api, api_server: ApiServer
) -> None:
    async with operating(kubernetes) as running:
        await kubernetes.create(MODEL, "default", custom("m", "Model", {}))
        await running.accepted(MODEL, "m")
        with pytest.raises(Refused, match=r"kubectl delete"):
            await running.client.models.delete("m")
        await api_server.stop()
        async with asyncio.timeout(HANGS):
            while True:  # the last of all kinds has been missed
                try:
                    await running.client.models.delete("m")
                    break
                except Refused:
                    await asyncio.sleep(0.05)
        async with running.client.bus.subscribe(STATUS.at(resource="models", name="m")) as statuses:
            await api_server.start()
            async with asyncio.timeout(HANGS):
                async for _ in statuses:
                    if "m" in [each["metadata"]["name"] for each in await running.client.models.list()]:
                        break


async def test_the_removal_of_a_definition_deletes_its_resources_and_ends(
    kubernetes: Api, api_server: ApiServer
) -> None:
    async with operating(kubernetes) as running:
        for name in ("one", "two"):
            await kubernetes.create(JOB, "default", job(name))
            await running.accepted(JOB, name)
        await kubernetes.create(MODEL, "default", custom("m", "Model", {}))
        await running.accepted(MODEL, "m")
        await kubernetes.delete(DEFINITIONS, "", "federatedtasks.edgeai.io")
        await running.printed.until("deploy/crds")
        assert await running.client.jobs.list() == []
        assert [each["metadata"]["name"] for each in await running.client.models.list()] == ["m"]
        for definition in definitions().values():
            if definition["spec"]["names"]["kind"] == "FederatedTask":
                await kubernetes.create(DEFINITIONS, "", definition)
        await kubernetes.create(JOB, "default", job("three"))
        await running.accepted(JOB, "three")


async def test_resources_stay_where_a_definition_is_gone_and_nobody_saw_a_deletion(
    kubernetes: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a backup of Kubernetes was restored that is older than the definitions."""
    url = f"memory://operator-{next(NUMBERS)}"
    async with AsyncClient(url, leader_timeout=HANGS) as client:
        running = Running(kubernetes, client, url)
        async with coordinating(url, Printed()):
            await kubernetes.create(JOB, "default", job("kept"))
            await running.accepted(JOB, "kept")
        empty = ApiServer()
        await empty.start()
        try:
            monkeypatch.setenv("KUBECONFIG", str(empty.kubeconfig(tmp_path)))
            async with coordinating(url, running.printed):
                await running.printed.until("federatedtasks.edgeai.io")
                assert [each["metadata"]["name"] for each in await client.jobs.list()] == ["kept"]
        finally:
            await empty.stop()


async def test_another_kubernetes_deletes_nothing_and_takes_over_what_is_applied_there(
    kubernetes: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://operator-{next(NUMBERS)}"
    async with AsyncClient(url, leader_timeout=HANGS) as client:
        async with coordinating(url, Printed()):
            running = Running(kubernetes, client, url)
            for name in ("again", "left"):
                await kubernetes.create(JOB, "default", job(name))
                await running.accepted(JOB, name)
            uid = (await client.jobs.get("again"))["metadata"]["uid"]
        other = ApiServer()
        other.apply_definitions()
        await other.start()
        monkeypatch.setenv("KUBECONFIG", str(other.kubeconfig(tmp_path)))
        there = await KubernetesClient.connect(World())
        try:
            elsewhere = Running(there, client, url)
            async with coordinating(url, elsewhere.printed):
                await elsewhere.printed.until("heliograph delete jobs/left")
                await there.create(JOB, "default", job("again"))
                await elsewhere.accepted(JOB, "again")
                assert (await client.jobs.get("again"))["metadata"]["uid"] == uid
                await client.jobs.delete("left")
                assert [each["metadata"]["name"] for each in await client.jobs.list()] == ["again"]
        finally:
            await there.close()
            await other.stop()


async def test_a_custom_resource_that_is_gone_in_spite_of_its_finalizer_takes_its_resource_with_it(
    kubernetes: Api, api_server: ApiServer
) -> None:
    async with operating(kubernetes) as running:
        await kubernetes.create(JOB, "default", job("forced"))
        await running.accepted(JOB, "forced")
        async with running.client.bus.subscribe(STATUS.at(resource="jobs", name="forced")) as statuses:
            api_server.store.remove(JOB.resource, ("default", "forced"))
            async with asyncio.timeout(HANGS):
                while await running.client.jobs.list():
                    await anext(statuses)


async def test_a_forbidden_status_is_told_with_the_right_that_lacks_and_tried_again(
    kubernetes: Api, api_server: ApiServer
) -> None:
    api_server.faults.forbidden.add(("update", "models.edgeai.io/status"))
    async with operating(kubernetes) as running:
        await kubernetes.create(MODEL, "default", custom("m", "Model", {}))
        await running.printed.until("update")
        assert any("Role" in line and "models.edgeai.io/status" in line for line in running.printed.lines)
        api_server.faults.forbidden.clear()
        await running.accepted(MODEL, "m")


async def test_a_hundred_changes_of_one_resource_are_few_writes(kubernetes: Api, api_server: ApiServer) -> None:
    async with operating(kubernetes) as running:
        await running.client.models.create({"kind": "Model", "metadata": {"name": "m"}, "spec": {"description": "0"}})
        await running.until(MODEL, "m", lambda each: said(each, "Mirrored")[0] == "True")
        before = int((await kubernetes.get(MODEL, "default", "m"))["metadata"]["generation"])
        for number in range(1, 101):
            document = {"kind": "Model", "metadata": {"name": "m"}, "spec": {"description": str(number)}}
            await running.client.models.update(document)
        found = await running.until(MODEL, "m", lambda each: each["spec"]["description"] == "100")
        assert found["metadata"]["generation"] - before < 20
