"""What a client asks a real coordinator: about a job, for pages, for changes, with versions."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from heliograph.core.errors import Refused
from heliograph.following import ResourceChange
from tests.coordinator.conftest import BASE
from tests.patience import HANGS

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _close(cloud: Any, job: str, round: int, value: float) -> str:
    """Let both edges send an update of a round; return the digest of the model that they were given."""
    base = ""
    for name in ("edge-1", "edge-2"):
        edge = cloud.edges[name]
        task = await edge.task(job, round)
        base = task.model.digest
        await edge.send(edge.update(task, {key: np.full_like(array, value) for key, array in BASE.items()}))
    return base


async def test_a_stopped_job_tells_what_it_has_and_goes_on_from_there(cloud: Any) -> None:
    jobs = cloud.client.jobs
    await cloud.job("paused", rounds=3, roundDeadlineSeconds=HANGS)
    start = await _close(cloud, "paused", 1, 1.0)
    for name in ("edge-1", "edge-2"):
        await cloud.edges[name].task("paused", 2)
    training, data = await jobs.training("paused"), await jobs.dataset("paused")
    assert (training["round"], [each["counted"] for each in training["history"]]) == (2, [2])
    assert [each["edge"] for each in training["edges"]] == ["edge-1", "edge-2"]
    assert (data["samples"], data["edges"][0]["index"]["columns"]) == (200, {"x": "float32[3]"})
    models, seen = await jobs.models("paused"), await jobs.get("paused")
    assert (models["round"], models["digest"] != start, models["versions"]) == (1, True, [])
    assert (await jobs.evaluation("paused"))["rounds"] == []

    stopped = await jobs.stop("paused", resource_version=seen["metadata"]["resourceVersion"])
    (left,) = (await jobs.models("paused"))["unfinished"]
    assert left["weights"]["digest"] == models["digest"]
    with pytest.raises(Refused) as refused:
        await jobs.start("paused", resource_version=seen["metadata"]["resourceVersion"])
    assert refused.value.code == "conflict"
    tried = await jobs.start("paused", dry_run=True)
    assert (tried["status"]["phase"], (await jobs.get("paused"))["status"]["phase"]) == ("Pending", "Stopped")

    started = await jobs.start("paused")
    assert started["metadata"]["uid"] != stopped["metadata"]["uid"]
    assert await _close(cloud, "paused", 2, 2.0) == models["digest"]
    await _close(cloud, "paused", 3, 3.0)
    status = await cloud.ended("paused")
    assert (status["phase"], [each["round"] for each in status["rounds"]]) == ("Succeeded", [1, 2, 3])
    (version,) = (await jobs.deployment("paused"))["versions"]
    assert (version["everywhere"], version["digest"]) == (True, status["rounds"][-1]["model"])
    with pytest.raises(Refused, match="a job that was stopped or has failed"):
        await jobs.start("paused")


def _model(name: str, **labels: str) -> dict[str, Any]:
    return {"kind": "Model", "metadata": {"name": name, "labels": labels}}


async def test_pages_selectors_and_versions_of_a_kind(cloud: Any) -> None:
    models = cloud.client.models
    made = [await models.create(_model(f"page-{number}", page="ab"[number % 2])) for number in range(5)]
    assert await models.list(selector="page") == made
    assert await models.list(selector="page in (a), page!=b") == made[::2]
    pages = [page async for page in models.pages(selector="page", limit=2)]
    assert [len(page.documents) for page in pages] == [2, 2, 1]
    assert [page.more for page in pages] == [True, True, False]
    with pytest.raises(Refused, match="at character 10") as refused:
        await models.list(selector="page in (")
    assert refused.value.code == "bad-selector"
    changed = await models.update(_model("page-0", page="c"))
    gone = await models.delete("page-1")
    async with asyncio.timeout(HANGS):
        found = models.changes(since=pages[0].version, selector="page in (a,b,c)")
        assert await anext(found) == ResourceChange("page-0", changed, pages[0].version)
        last = await anext(found)
        await found.aclose()
    assert (last.name, last.document, gone) == ("page-1", None, made[1])
    assert last.version == (await models.changed_since(last.version))["version"]  # nothing is left out


async def test_a_client_follows_all_resources_of_a_kind(cloud: Any) -> None:
    models = cloud.client.models
    before = {each["metadata"]["name"] for each in await models.list()}
    async with asyncio.timeout(HANGS):
        changes = models.changes()
        assert {(await anext(changes)).name for _ in before} == before
        made = await models.create(_model("followed", shift="night"))
        assert (await anext(changes)).document == made
        labelled = await models.update(_model("followed", shift="day"))
        assert (await anext(changes)).document == labelled
        await models.delete("followed")
        last = await anext(changes)
        assert (last.name, last.document) == ("followed", None)
        await changes.aclose()
        with pytest.raises(Refused, match="remembers") as refused:
            await anext(models.changes(since="1-999999"))
    assert refused.value.code == "expired"


async def test_two_writers_of_one_document_learn_of_each_other(cloud: Any) -> None:
    models = cloud.client.models
    mine = await models.create(_model("shared"))
    await models.update(_model("shared", owner="they"))
    mine["metadata"]["labels"] = {"owner": "me"}
    with pytest.raises(Refused, match=r"metadata.labels.owner is they there and me here") as refused:
        await models.apply(mine)
    assert refused.value.details["differences"] == [
        {"field": "metadata.labels.owner", "stored": "they", "sent": "me"}
    ]
    del mine["metadata"]["resourceVersion"]
    assert (await models.apply(mine))["metadata"]["labels"] == {"owner": "me"}


async def test_a_watch_of_one_resource_begins_after_a_version(cloud: Any) -> None:
    models = cloud.client.models
    made = await models.create(_model("seen"))
    async with asyncio.timeout(HANGS):
        documents = models.watch("seen", since=made["metadata"]["resourceVersion"])
        newer = asyncio.ensure_future(anext(documents))
        labelled = await models.update(_model("seen", shift="night"))
        assert await newer == labelled
        await documents.aclose()
