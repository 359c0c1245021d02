"""Requests from foreign clients: each gets one reply, and a bad one changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import paho.mqtt.client as paho
import pytest
import pytest_asyncio
from paho.mqtt.enums import CallbackAPIVersion

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract import topics
from heliograph.client import AsyncClient
from heliograph.core.errors import Forbidden, Refused
from tests.patience import HANGS

pytestmark = pytest.mark.asyncio(loop_scope="module")

TASK: dict[str, Any] = {
    "apiVersion": "edgeai.io/v1alpha1",
    "kind": "FederatedTask",
    "metadata": {"name": "door"},
    "spec": {
        "aggregationWorker": {"model": {"name": "missing"}},
        "trainingWorkers": [{"name": "w", "nodeName": "edge-1"}],
    },
}


class ForeignClient:
    """A paho client that logs in, publishes bytes and reads replies, like a program in any language."""

    def __init__(self, url: str) -> None:
        door = ConnectionUrl.parse(url)
        self._loop = asyncio.get_running_loop()
        self._replies: asyncio.Queue[Any] = asyncio.Queue()
        self._ready = asyncio.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe("heliograph/reply/foreign/+", 1)
        self.client.on_subscribe = lambda *_: self._loop.call_soon_threadsafe(self._ready.set)
        self.client.on_message = lambda _, __, message: self._loop.call_soon_threadsafe(
            self._replies.put_nowait, json.loads(message.payload)
        )
        self.client.username_pw_set(*door.credentials.of_mqtt())
        self.client.connect(door.host, door.port)
        self.client.loop_start()

    async def ready(self) -> None:
        await asyncio.wait_for(self._ready.wait(), HANGS)

    async def ask(self, topic: str, body: bytes | dict[str, Any], retain: bool = False) -> Any:
        """Publish a request and return the reply; a document gets a reply topic."""
        if isinstance(body, dict):
            body = json.dumps(body | {"reply_to": "heliograph/reply/foreign/1"}).encode()
        self.client.publish(f"heliograph/{topic}", body, qos=1, retain=retain)
        return await asyncio.wait_for(self._replies.get(), HANGS)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def foreign(cloud: Any) -> AsyncIterator[ForeignClient]:
    client = ForeignClient(cloud.cluster.broker.url("foreign", "mqtt"))
    await client.ready()
    yield client
    client.close()


def _task(**changes: Any) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(json.dumps(TASK))
    for path, value in changes.items():
        place = tree
        *way, last = path.split("__")
        for word in way:
            place = place[word]
        place[last] = value
    return tree


BAD: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "kind": ("jobs", _task(kind="Teleport"), "kind", "FederatedTask"),
    "field": ("jobs", _task(spec__colour="red"), "spec.colour", "no such field"),
    "nested": (
        "jobs",
        _task(spec__aggregationWorker__mode={"name": "x"}),
        "spec.aggregationWorker.mode",
        "no such field",
    ),
    "name": ("jobs", _task(metadata__name="No_Label."), "metadata.name", "a DNS label"),
    "long-name": ("jobs", _task(metadata__name="a" * 64), "metadata.name", "a DNS label"),
    "rounds": ("jobs", _task(spec__rounds=0), "spec.rounds", "greater than or equal to 1"),
    "rounds-text": ("jobs", _task(spec__rounds="many"), "spec.rounds", "integer"),
    "algorithm": (
        "jobs",
        _task(spec__aggregationWorker__workerSpec={"aggregationAlgorithm": "FedMagic"}),
        "spec.aggregationWorker.workerSpec.aggregationAlgorithm",
        "FedAvg",
    ),
    "parameter": (
        "jobs",
        _task(spec__aggregationWorker__workerSpec={"parameters": [{"key": "warp"}]}),
        "spec.aggregationWorker.workerSpec.parameters[0].key",
        "learning_rate",
    ),
    "parameter-value": (
        "jobs",
        _task(spec__aggregationWorker__workerSpec={"parameters": [{"key": "batch_size", "value": -1}]}),
        "spec.aggregationWorker.workerSpec.parameters[0].value",
        "integer at least 1",
    ),
    "wrong-kind": ("models", _task(), "kind", "Model"),
    "quorum": ("jobs", _task(spec__quorum=5), "spec", "quorum 5 is more than the 1 participants"),
    "read-only": ("edges", {"kind": "Edge", "metadata": {"name": "x"}}, "verb", "get"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_document_is_refused_with_its_field(cloud: Any, foreign: ForeignClient, name: str) -> None:
    resource, document, field, expected = BAD[name]
    before = await cloud.client.jobs.list()
    answer = await foreign.ask(f"request/{resource}/create", document)
    assert answer["ok"] is False
    assert answer["error"]["topic"] == f"heliograph/request/{resource}/create"
    assert answer["error"]["field"] == field
    assert expected in answer["error"]["expected"]
    assert await cloud.client.jobs.list() == before


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"hello", "JSON or MessagePack"),
        (b"\x00" * 900_000, "JSON or MessagePack"),
        (b"[1, 2]", "a mapping"),
        (b'{"specversion": "1.0", "id": 7}', "a string"),
        (b"[" * 100_000, "JSON or MessagePack"),
    ],
    ids=["text", "zeros", "list", "event", "deep"],
)
async def test_a_body_that_is_no_document_is_answered_with_an_error(cloud: Any, body: bytes, expected: str) -> None:
    """Over NATS the reply subject does not depend on the body."""
    bus = cloud.client.bus
    message = await bus.request("request/jobs/create", body)
    answer = json.loads(message.body)
    assert answer["ok"] is False
    assert expected in answer["error"]["expected"]


async def test_a_bad_body_of_an_unknown_sender_goes_to_the_error_log(cloud: Any, foreign: ForeignClient) -> None:
    async with cloud.client.bus.subscribe(topics.LOG.filter(component="error")) as errors:
        foreign.client.publish("heliograph/request/jobs/create", b"\x00" * 900_000, qos=1)
        record = json.loads((await asyncio.wait_for(anext(errors), HANGS)).body)
    assert record["fields"]["topic"] == "heliograph/request/jobs/create"
    assert "JSON or MessagePack" in record["message"]
    assert len(record["message"]) < 1000


@pytest.mark.parametrize("reply_to", ["heliograph/edge/a/down/task", "heliograph/reply/a", "other/reply/a/b", 7, "#"])
async def test_a_reply_topic_outside_reply_is_refused(cloud: Any, foreign: ForeignClient, reply_to: object) -> None:
    async with cloud.client.bus.subscribe("edge/cloud/up/log/error/#") as errors:
        body = json.dumps({"reply_to": reply_to}).encode()
        foreign.client.publish("heliograph/request/jobs/list", body, qos=1)
        record = json.loads((await asyncio.wait_for(anext(errors), HANGS)).body)
    assert record["fields"]["field"] == "reply_to"
    assert record["fields"]["code"] == "bad-reply-topic"
    assert "<client> is the name of your login" in record["fields"]["hint"]


async def test_a_nats_reply_subject_outside_reply_is_refused(cloud: Any) -> None:
    bus = cloud.client.bus
    async with bus.subscribe("edge/cloud/up/log/error/#") as errors, bus.subscribe("edge/a/down/task") as tasks:
        await bus.connection.client.publish("heliograph.request.jobs.list", b"{}", reply="heliograph.edge.a.down.task")
        record = json.loads((await asyncio.wait_for(anext(errors), HANGS)).body)
        assert record["fields"]["field"] == "reply_to"
        waiting = asyncio.ensure_future(anext(tasks))
        await cloud.client.jobs.list()  # nothing has arrived after a full round trip
        assert not waiting.done()
        waiting.cancel()


async def test_unknown_verbs_resources_and_names(cloud: Any, foreign: ForeignClient) -> None:
    assert (await foreign.ask("request/jobs/explode", {}))["error"]["code"] == "unknown-verb"
    assert (await foreign.ask("request/unicorns/list", {}))["error"]["code"] == "unknown-topic"
    assert (await foreign.ask("request/jobs/get", {"name": "nobody"}))["error"]["code"] == "not-found"
    assert (await foreign.ask("request/jobs/get", {}))["error"]["field"] == "name"


async def test_the_same_request_again_changes_nothing(cloud: Any, foreign: ForeignClient) -> None:
    document = _task(metadata__name="same")
    first = await foreign.ask("request/jobs/create", document)
    again = await foreign.ask("request/jobs/create", document)
    assert first["ok"] and again["ok"]
    assert first["result"]["metadata"] == again["result"]["metadata"]
    other = await foreign.ask("request/jobs/create", _task(metadata__name="same", spec__rounds=3))
    assert other["error"]["code"] == "exists"
    changed = await foreign.ask("request/jobs/update", _task(metadata__name="same", spec__rounds=3))
    assert changed["result"]["spec"]["rounds"] == 3
    assert changed["result"]["metadata"]["generation"] == 2
    await cloud.client.jobs.delete("same")
    with pytest.raises(Refused, match="same"):
        await cloud.client.jobs.get("same")


async def test_a_pending_job_names_its_missing_resources(cloud: Any, foreign: ForeignClient) -> None:
    answer = await foreign.ask("request/jobs/create", _task(metadata__name="waits", spec__trainingWorkers=[
        {"name": "w", "nodeName": "edge-9", "workerSpec": {"dataset": {"name": "nowhere"}}}]))  # fmt: skip
    status = answer["result"]["status"]
    assert status["phase"] == "Pending"
    message = status["conditions"][0]["message"]
    assert "model missing does not exist" in message
    assert "node edge-9 of training worker w is unknown" in message
    await cloud.client.jobs.delete("waits")


async def test_status_is_retained_at_the_door(cloud: Any, foreign: ForeignClient) -> None:
    await foreign.ask("request/jobs/create", _task(metadata__name="seen"))
    loop = asyncio.get_running_loop()
    seen: asyncio.Future[Any] = loop.create_future()

    def received(_: Any, __: Any, message: Any) -> None:
        if message.topic.endswith("/seen") and message.payload:
            loop.call_soon_threadsafe(lambda: seen.done() or seen.set_result(json.loads(message.payload)))

    late = paho.Client(CallbackAPIVersion.VERSION2)
    late.on_connect = lambda client, *_: client.subscribe("heliograph/status/#", 1)
    late.on_message = received
    late.connect("127.0.0.1", cloud.cluster.broker.mqtt_port)
    late.loop_start()
    event = await asyncio.wait_for(seen, HANGS)
    assert event["specversion"] == "1.0"
    assert event["data"]["status"]["phase"] == "Pending"
    late.disconnect()
    late.loop_stop()
    await cloud.client.jobs.delete("seen")


async def test_a_user_cannot_publish_events(cloud: Any, foreign: ForeignClient) -> None:
    """The broker refuses the event and logs it; nothing arrives."""
    bus = cloud.client.bus
    async with bus.subscribe("event/#") as events:
        waiting = asyncio.ensure_future(anext(events))
        foreign.client.publish("heliograph/event/aggregation/door", b"{}", qos=1)
        await foreign.ask("request/jobs/list", {})
        log = cloud.cluster.directory / "broker" / "nats.log"
        assert "Publish Violation" in log.read_text()
        assert "heliograph.event.aggregation.door" in log.read_text()
        assert not waiting.done()
        waiting.cancel()


async def test_anonymous_clients_read_status_and_ask_nothing(cloud: Any, foreign: ForeignClient) -> None:
    for scheme in ("mqtt", "nats"):
        async with AsyncClient(cloud.cluster.broker.url(scheme=scheme), timeout=HANGS) as stranger:
            with pytest.raises(Forbidden, match="only a login may send requests; anonymous clients read status"):
                await stranger.models.create({"kind": "Model", "metadata": {"name": "unasked"}})
            async with stranger.bus.subscribe("status/#") as statuses:
                await foreign.ask("request/models/create", {"kind": "Model", "metadata": {"name": f"by-{scheme}"}})
                async with asyncio.timeout(HANGS):
                    while (await anext(statuses)).topic != f"status/models/by-{scheme}":
                        pass
        await cloud.client.models.delete(f"by-{scheme}")
    with pytest.raises(Refused, match="unasked"):
        await cloud.client.models.get("unasked")


@pytest.mark.parametrize("scheme", ["mqtt", "nats"])
async def test_a_users_client_asks_and_watches(cloud: Any, scheme: str) -> None:
    async with AsyncClient(cloud.cluster.broker.url("another", scheme), timeout=HANGS) as client:
        model = {"kind": "Model", "metadata": {"name": "of-another"}}
        made = await client.models.create(model)
        assert await client.models.get("of-another") == made
        watching = client.models.watch("of-another")
        assert await anext(watching) == made
        await client.models.delete("of-another")
        with pytest.raises(StopAsyncIteration):
            await anext(watching)


async def test_a_retained_request_at_the_embedded_door_is_done_once_and_not_kept(
    cloud: Any, foreign: ForeignClient
) -> None:
    said = b"the MQTT door: expected requests and events without the retain flag"
    async with cloud.client.bus.subscribe(topics.LOG.filter(component="coordinator")) as lines:
        assert (await foreign.ask("request/models/list", {}, retain=True))["ok"]
        async with asyncio.timeout(HANGS):
            while said not in (await anext(lines)).body:
                pass
    async with connect(cloud.cluster.broker.door_url("coordinator"), name="looking") as bus:
        await bus.link.wait_up(HANGS)
        stream = await bus.connection.ask("$JS.API.STREAM.INFO.$MQTT_rmsgs", {"subjects_filter": ">"})
    subjects = stream["state"]["subjects"]
    assert subjects
    assert [subject for subject in subjects if not subject.startswith("$MQTT.rmsgs.heliograph.status.")] == []


async def test_an_operator_has_garbage_collected_and_a_wrong_word_changes_nothing(
    cloud: Any, foreign: ForeignClient
) -> None:
    nothing = {"dry_run": True, "items": [], "size": 0, "more": False, "notes": []}
    assert await cloud.client.models.ask("collect", dry_run=True) == nothing
    reply = await foreign.ask("request/models/collect", {"dry_run": True})
    assert (reply["error"]["code"], reply["error"]["field"]) == ("forbidden", "scope")
    assert (await cloud.client.models.collect())["items"] == []
    for body, field in (({"dryrun": True}, "dryrun"), ({"dry_run": "please"}, "dry_run"), ({"name": "m"}, "name")):
        reply = await foreign.ask("request/models/collect", body)
        assert (reply["ok"], reply["error"]["field"]) == (False, field)


async def test_an_edge_with_a_full_store_shows_what_to_do(cloud: Any) -> None:
    await cloud.reported("edge-1", full=["the journal has no room left: mend the link"])
    edge = await cloud.client.edges.get("edge-1")
    (room,) = [each for each in edge["status"]["conditions"] if each["type"] == "HasRoom"]
    assert (room["status"], room["message"]) == ("False", "the journal has no room left: mend the link")
    await cloud.reported("edge-1")
