"""Label queues over a real broker: hard samples in, requests of labellers, labels and counts out."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from typing import Any

import aiomqtt
import numpy as np
import pytest

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract import topics
from heliograph.bus.contract import weights_file as tensors
from heliograph.bus.contract.payloads import Annotation, HardSample, LabelTask, Result, SampleData
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.errors import Refused
from heliograph.label_client import Labeller
from tests.patience import HANGS

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLASSES = ["cat", "dog"]


def _queue(name: str, version: int = 1, **spec: Any) -> dict[str, Any]:
    schema = {"version": version, "classes": CLASSES}
    return {"kind": "LabelQueue", "metadata": {"name": name}, "spec": {"labelSchema": schema} | spec}


async def _hard(cloud: Any, job: str, number: int, edge: str = "edge-1", **fields: Any) -> str:
    """Publish a hard sample as an edge's agent does, and return its task."""
    content = tensors.dumps({"x": np.full((32, 32, 3), number, np.uint8)})
    data = WeightsRef(digest=sha256(content).hexdigest(), size=len(content), inline=content)
    sample = HardSample(job=job, edge=edge, sample=data.digest, scores=[0.4, 0.6], data=data)
    await cloud.edges[edge].port.publish(topics.HARD_SAMPLE, sample.model_copy(update=fields), job=job, edge=edge)
    return data.digest


async def _task(cloud: Any, job: str, uid: str, task: str, edge: str = "edge-1") -> None:
    """Publish a task of an edge's queue as its agent does."""
    data = SampleData(media_type="text/plain", size=4, edge=edge)
    sent = LabelTask(job=job, queue_uid=uid, task=task, edge=edge, data=data)
    await cloud.edges[edge].port.publish(topics.LABEL_TASK, sent, job=job, edge=edge)


def _label(job: str, uid: str, task: str, value: str, id: str, labeller: str = "eve", **more: Any) -> Annotation:
    return Annotation(job=job, queue_uid=uid, task=task, annotation=id, labeller=labeller, source="human",
                      result=Result(type="choice", value=value), **more)  # fmt: skip


async def _until(cloud: Any, name: str, **counts: int) -> dict[str, Any]:
    """Return the queue's status once it has these counts."""
    async with asyncio.timeout(HANGS):
        async for document in cloud.client.labels.watch(name):
            if counts.items() <= document["status"].items():
                return dict(document["status"])
    raise AssertionError


async def test_a_hard_sample_becomes_a_label_that_anybody_hears_of(cloud: Any) -> None:
    """A sample that came before its queue was made, one that comes twice, and a damaged one."""
    client = cloud.client
    first = await _hard(cloud, "life", 1)
    await client.labels.create(_queue("life"))
    await _hard(cloud, "life", 1, "edge-2")
    await _hard(cloud, "life", 2, data=WeightsRef(digest="0" * 64, size=3, inline=b"bad"))
    await _hard(cloud, "life", 3, data=None)
    await _until(cloud, "life", waiting=1, repeated=1, leftOut=1)
    async with (
        client.bus.subscribe(topics.LABEL.filter(job="life")) as labels,
        Labeller(client, "life", "anna") as labeller,
    ):
        (task,) = await labeller.claim(5)
        assert (task.task.task, task.task.edge) == (first, "edge-1")
        assert [each.result.value for each in task.task.predictions] == ["dog"]  # the edge's model was not sure
        with tensors.TensorFile(task.task.data.inline or b"") as file:
            assert file.numpy("x").shape == (32, 32, 3)
        given = await labeller.submit(task, "cat", lead_time=1.5)
        async with asyncio.timeout(HANGS):
            heard = cloud.edges["edge-1"].port.read(topics.LABEL, await anext(labels)).payload
    assert heard == given
    status = await _until(cloud, "life", labelled=1, waiting=0)
    assert status["labellers"]["anna"] == {"source": "human", "labels": 1, "skipped": 0, "leadSeconds": 1.5}


async def test_a_large_sample_is_read_a_part_at_a_time(cloud: Any) -> None:
    client = cloud.client
    await client.labels.create(_queue("large"))
    image = np.arange(640 * 640 * 3, dtype=np.float32).reshape(640, 640, 3)
    content = tensors.dumps({"x": image})
    digest = sha256(content).hexdigest()
    await _hard(cloud, "large", 0, data=None, tensor=content, sample="0" * 64)  # another digest than its bytes'
    await _hard(cloud, "large", 0, data=None, tensor=b"no tensors", sample=sha256(b"no tensors").hexdigest())
    await _hard(cloud, "large", 0, data=None, tensor=content, sample=digest)
    small = await _hard(cloud, "large", 1)
    await _until(cloud, "large", waiting=2)
    async with Labeller(client, "large", "anna") as labeller:
        large, other = await labeller.claim(2)
        assert (large.task.task, other.task.task) == (digest, small)
        assert large.task.data.inline == content
        bare = await client.labels.ask("claim", "large", labeller="ben")
        assert bare["tasks"] == []  # both have a lease
        end = await client.labels.ask("sample", "large", task=digest, offset=len(content))
        assert (end["size"], end["content"]) == (len(content), "")
        with pytest.raises(Refused, match="a task of queue large"):
            await client.labels.ask("sample", "large", task="f" * 64)
        with pytest.raises(Refused, match="offset"):
            await client.labels.ask("sample", "large", task=digest, offset=-1)
        await labeller.submit(large, "cat")


async def test_any_mqtt_client_labels_by_the_same_topics(cloud: Any) -> None:
    await cloud.client.labels.create(_queue("by-mqtt"))
    await _hard(cloud, "by-mqtt", 4)
    await _until(cloud, "by-mqtt", waiting=1)
    door = ConnectionUrl.parse(cloud.cluster.broker.url("foreign", "mqtt"))
    login = dict(zip(("username", "password"), door.credentials.of_mqtt(), strict=True))
    async with asyncio.timeout(HANGS), aiomqtt.Client(door.host, door.port, **login) as device:
        await device.subscribe("heliograph/reply/foreign/+")
        messages = device.messages

        async def ask(verb: str, **fields: Any) -> Any:
            body = {"name": "by-mqtt", "reply_to": "heliograph/reply/foreign/1", **fields}
            await device.publish(f"heliograph/request/labels/{verb}", json.dumps(body), qos=1)
            return json.loads(bytes((await anext(messages)).payload))

        claimed = (await ask("claim"))["result"]["tasks"][0]
        refused = await ask("submit", lease=claimed["lease"], result={"type": "choice", "value": "cow"})
        assert (refused["error"]["code"], refused["error"]["field"]) == ("unknown-class", "result.value")
        given = await ask("submit", lease=claimed["lease"], result={"type": "choice", "value": "dog"})
        assert given["result"]["annotation"]["labeller"] == "foreign"  # the login


@pytest.mark.long
async def test_a_coordinator_that_follows_another_goes_on_with_leases_and_labels(cloud: Any) -> None:
    await cloud.client.labels.create(_queue("after", overlap=2, agreement={"extra": 0}))
    for number in (5, 6):
        await _hard(cloud, "after", number)
    await _until(cloud, "after", waiting=2)
    async with Labeller(cloud.client, "after", "anna") as labeller:
        (first, second) = await labeller.claim(2)
        await labeller.submit(first, "cat")
        await cloud.cluster.kill("coordinator")
        await cloud.cluster.start_coordinator()
        async with asyncio.timeout(HANGS):
            while True:
                try:
                    assert await labeller.claim() == []
                    break
                except Exception:
                    await asyncio.sleep(0)
        await labeller.submit(second, "dog")
    async with Labeller(cloud.client, "after", "bert") as labeller:
        tasks = await labeller.claim(9)
        assert {each.task.task for each in tasks} == {first.task.task, second.task.task}
        for each in tasks:
            await labeller.submit(each, "cat")
    status = await _until(cloud, "after", labelled=1, conflicts=1)
    assert status["alpha"] < 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"location": "edge"}, "spec.location"),
        ({"labelSchema": {"type": "text"}}, "spec.labelSchema.type"),
        ({"labelSchema": {"classes": ["cat", "cow"]}}, "spec.labelSchema.version"),
    ],
)
async def test_a_change_that_stored_labels_would_not_fit_is_refused(
    cloud: Any, change: dict[str, Any], field: str
) -> None:
    await cloud.client.labels.apply(_queue("fixed"))
    with pytest.raises(Refused) as refused:
        await cloud.client.labels.update(_queue("fixed", **change))
    assert refused.value.field == field


async def test_a_deleted_queue_leaves_nothing_and_its_name_begins_anew(cloud: Any) -> None:
    await cloud.client.labels.create(_queue("gone"))
    await _hard(cloud, "gone", 7)
    await _until(cloud, "gone", waiting=1)
    await cloud.client.labels.delete("gone")
    with pytest.raises(Refused, match="gone"):
        await Labeller(cloud.client, "gone").claim()
    await cloud.client.labels.create(_queue("gone"))
    await _until(cloud, "gone", waiting=1)  # of the sample that the stream still has


async def test_an_edges_queue_is_handed_out_there_and_counted_here(cloud: Any) -> None:
    """Its agent gets the queue; its labels are taken over once."""
    client = cloud.client
    await cloud.reported("edge-1")  # an agent of this version
    made = await client.labels.create(_queue("near", location="edge"))
    uid = made["metadata"]["uid"]
    async with asyncio.timeout(HANGS):
        while "near" not in (desired := await cloud.edges["edge-1"].tasks.get()).label_queues:
            continue
    assert desired.label_queues["near"].uid == uid
    with pytest.raises(Refused) as refused:
        await Labeller(client, "near").claim()
    assert refused.value.code == "elsewhere"
    port = cloud.edges["edge-1"].port
    tasks = ["a" * 64, "b" * 64]
    for task in (*tasks, tasks[0]):
        await _task(cloud, "near", uid, task)
    await _until(cloud, "near", waiting=2, repeated=1)

    await port.publish(topics.LABEL, _label("near", uid, tasks[0], "cow", "no-class"), job="near", edge="edge-1")
    for _ in range(2):
        await port.publish(topics.LABEL, _label("near", uid, tasks[0], "cat", "one"), job="near", edge="edge-1")
    status = await _until(cloud, "near", labelled=1, waiting=1)
    assert status["labels"] == 1
    page = await client.labels.ask("tasks", "near", phase="labelled")
    assert [each["annotation"] for each in page["tasks"][0]["annotations"]] == ["one"]


async def test_a_sample_that_two_edges_have_is_one_task_with_the_labels_of_both(cloud: Any) -> None:
    """Edges that agree settle it, edges that do not make it a conflict; an edge replaces its own labels alone."""
    made = await cloud.client.labels.create(_queue("both", location="edge", agreement={"extra": 2}))
    uid = made["metadata"]["uid"]
    alike, differs, alone = tasks = ["a" * 64, "b" * 64, "c" * 64]
    for edge in ("edge-1", "edge-2"):
        for task in tasks:
            await _task(cloud, "both", uid, task, edge)
    await _until(cloud, "both", waiting=3, repeated=3)

    async def label(edge: str, task: str, value: str, id: str, labeller: str, **more: Any) -> None:
        sent = _label("both", uid, task, value, id, labeller, **more)
        await cloud.edges[edge].port.publish(topics.LABEL, sent, job="both", edge=edge)

    await label("edge-1", alike, "cat", "a1", "anna")
    await label("edge-1", differs, "cat", "b1", "anna")
    await _until(cloud, "both", labelled=2, waiting=1, labels=2)
    await label("edge-2", alike, "cat", "a2", "bert")
    await label("edge-2", alike, "dog", "stolen", "anna", supersedes="a1")
    await label("edge-2", differs, "dog", "b2", "anna")
    await label("edge-2", alone, "dog", "c2", "bert")
    status = await _until(cloud, "both", labelled=2, conflicts=1, waiting=0, labels=5)
    assert {name: each["labels"] for name, each in status["labellers"].items()} == {"anna": 3, "bert": 2}
    page = await cloud.client.labels.ask("tasks", "both")
    assert {each["task"]["task"]: ([label["annotation"] for label in each["annotations"]], each["phase"])
            for each in page["tasks"]} == {
        alike: (["a1", "a2"], "labelled"), differs: (["b1", "b2"], "conflict"), alone: (["c2"], "labelled"),
    }  # fmt: skip
    await label("edge-2", differs, "cat", "b3", "anna", supersedes="b2")
    await _until(cloud, "both", labelled=3, conflicts=0)
