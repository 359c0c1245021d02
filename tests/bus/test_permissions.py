"""Roles on a real broker: a role can do only what its topics permit, and the broker's log names violators."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from heliograph.bus.connect import connect
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.resources import WeightsRef
from heliograph.bus.contract.topics import DEFAULT_ROOT, TASK
from heliograph.bus.nats.bus import NatsBus
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.identity.credentials import UserCredentials
from heliograph.local.nats_server import Broker
from tests.bus.meeting import PATIENCE, following, retained_value, until_refused
from tests.bus.roles import MARKER, Start, agent, answering, connected, coordinator, try_to_publish, violations
from tests.conftest import USERS

FORBIDDEN = [
    "edge/edge-1/down/task",
    "edge/edge-1/up/report",
    "edge/edge-1/up/model-update/job-1",
    "event/telemetry/edge-1/camera",
    "event/worker/w",
    "event/assignment/w",
    "status/jobs/one",
    "status/edges/edge-1",
    "reply/somebody/1",
    "ack/w",
    "edge/cloud/up/log/coordinator/error",
]
"""Topics of which neither users nor anonymous clients may publish any."""
ASKING = ["request/jobs/create", "request/jobs/list", "request/edges/delete", "inference/detector/request"]


@pytest.mark.parametrize("scheme", ["mqtt", "nats"])
async def test_anonymous_publishes_nothing_in_the_cloud(broker: Start, scheme: str) -> None:
    server = await broker()
    async with coordinator(server) as cloud, connected(server, scheme=scheme) as stranger:
        async with cloud.subscribe("#") as messages:
            for topic in (*FORBIDDEN, *ASKING):
                await try_to_publish(stranger, topic)
            async with stranger.subscribe("status/#"):  # the broker has handled everything sent before
                pass
            await cloud.publish(MARKER, b"{}")
            assert (await following(messages)).topic == MARKER
        for topic in (*FORBIDDEN, *ASKING):
            assert violations(server, "Publish Violation", f'"{cloud.subjects.subject(topic)}"'), topic
        assert await cloud.last(TASK.at(edge="edge-1")) is None


@pytest.mark.parametrize("scheme", ["mqtt", "nats"])
async def test_a_user_publishes_no_event_status_or_reply(broker: Start, scheme: str) -> None:
    server = await broker()
    async with coordinator(server) as cloud, connected(server, "alice", scheme) as alice:
        async with cloud.subscribe("#") as messages:
            for topic in FORBIDDEN:
                await try_to_publish(alice, topic)
            await try_to_publish(alice, MARKER, b"{}")
            assert (await following(messages)).topic == MARKER
        for topic in FORBIDDEN:
            assert violations(server, "Publish Violation", f'"{cloud.subjects.subject(topic)}"'), topic
        assert len(violations(server)) == len(FORBIDDEN)
        assert await cloud.last(TASK.at(edge="edge-1")) is None


@pytest.mark.parametrize("user", ["", "alice"])
async def test_nobody_forges_a_retained_status(broker: Start, user: str) -> None:
    server = await broker()
    async with coordinator(server), connected(server, "coordinator", "mqtt") as door:
        async with connected(server, user, "mqtt") as stranger:
            await door.publish("status/jobs/one", b"true", retain=True)
            await retained_value(door, "status/jobs/one", b"true")
            await try_to_publish(stranger, "status/jobs/one", retain=True)
            await try_to_publish(stranger, "status/jobs/two", retain=True)
            async with stranger.subscribe("status/#") as statuses:  # the broker has handled everything sent before
                kept = await following(statuses)
                assert (kept.topic, kept.body, kept.retained) == ("status/jobs/one", b"true", True)
                await door.publish("status/jobs/last", b"")
                assert (await following(statuses)).topic == "status/jobs/last"
    assert len(violations(server, "heliograph.status.jobs.")) == 2


@pytest.mark.parametrize("user", ["", "alice"])
async def test_a_will_has_no_more_rights_than_its_client(broker: Start, user: str) -> None:
    """The broker publishes a client's will once its connection breaks."""
    server = await broker()
    async with coordinator(server) as cloud, cloud.subscribe("#") as messages:
        topics = ["status/jobs/one", "edge/edge-1/down/task", "reply/bob/1"] + ([] if user else ["request/jobs/delete"])
        for topic in topics:
            client = paho.Client(CallbackAPIVersion.VERSION2)
            if user:
                client.username_pw_set(user, server.password(user))
            client.will_set(f"heliograph/{topic}", b"forged", qos=1, retain=True)
            await asyncio.to_thread(client.connect, "127.0.0.1", server.mqtt_port)
            while not client.is_connected():
                client.loop_read()
                await asyncio.sleep(0.01)
            client.socket().shutdown(socket.SHUT_RDWR)
            async with asyncio.timeout(PATIENCE):
                while not violations(server, "Publish Violation", f'"{cloud.subjects.subject(topic)}"'):
                    await asyncio.sleep(0.01)  # nothing but the broker's log tells of it
        await cloud.publish(MARKER, b"{}")
        assert (await following(messages)).topic == MARKER


async def test_who_takes_over_a_session_hears_nothing_for_its_owner(broker: Start) -> None:
    """All MQTT clients are in one account, and any client may name another's session."""
    server = await broker()
    heard: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def come(user: str) -> paho.Client:
        ready = asyncio.Event()
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="same", clean_session=False)
        client.username_pw_set(user, server.password(user))
        client.on_connect = lambda *_: client.subscribe(f"heliograph/reply/{user}/+", 1)
        client.on_subscribe = lambda *_: loop.call_soon_threadsafe(ready.set)
        client.on_message = lambda _, __, message: loop.call_soon_threadsafe(heard.put_nowait, message.topic)
        await asyncio.to_thread(client.connect, server.host, server.mqtt_port)
        client.loop_start()
        await asyncio.wait_for(ready.wait(), PATIENCE)
        return client

    async with coordinator(server) as cloud, connected(server, "coordinator", "mqtt") as door:
        alice = await come("alice")
        alice.loop_stop()  # without a word: the session stays
        bob = await come("bob")
        for publisher in (cloud, door):
            await publisher.publish("reply/alice/1", b"{}")
            await publisher.publish("reply/bob/1", b"{}")
            assert await asyncio.wait_for(heard.get(), PATIENCE) == "heliograph/reply/bob/1"
        await asyncio.to_thread(bob.loop_stop)
    assert violations(server, "Subscription Violation", "heliograph.reply.alice.*")


async def test_nobody_reaches_the_brokers_own_retained_messages(broker: Start) -> None:
    server = await broker()
    subject = "$MQTT.rmsgs.heliograph.status.jobs.one"
    for user in ("", *(user.name for user in server.users)):
        async with connected(server, user) as bus:
            assert isinstance(bus, NatsBus)
            await bus.connection.client.publish(subject, b"forged")
            await bus.connection.settle()
            named = UserCredentials.read(server.login_file(user)).claims.subject if user else "anonymous"
            assert violations(server, named, f'Publish Violation - Subject "{subject}"')


async def test_a_user_asks_and_reads_status_and_its_reply(broker: Start) -> None:
    server = await broker()
    async with (
        coordinator(server) as cloud,
        connected(server, "coordinator", "mqtt") as door,
        connected(server, "alice", "mqtt") as alice,
        cloud.subscribe("request/#", "inference/#") as requests,
    ):
        asking = asyncio.create_task(alice.request("request/jobs/get", b'{"metadata": {"name": "one"}}', PATIENCE))
        request = await following(requests)
        assert request.topic == "request/jobs/get"
        reply_to = json.loads(request.body)["reply_to"].removeprefix("heliograph/")
        assert reply_to.startswith("reply/alice/")
        await cloud.publish(reply_to, b'{"ok": true}')
        assert (await asking).body == b'{"ok": true}'
        async with alice.subscribe("status/#") as statuses:
            await door.publish("status/jobs/one", b"Running", retain=True)
            assert (await following(statuses)).body == b"Running"
        await alice.publish("inference/detector/request", b"image")
        assert (await following(requests)).topic == "inference/detector/request"
    assert violations(server) == []


async def test_a_user_over_nats_hears_the_answers_to_its_own_requests(broker: Start) -> None:
    server = await broker()
    async with coordinator(server) as cloud, connected(server, "alice") as alice:
        async with cloud.subscribe("request/#") as requests:
            asking = asyncio.create_task(alice.request("request/jobs/list", b"{}", PATIENCE))
            request = await following(requests)
            assert request.reply_to is not None
            assert request.reply_to.startswith("_R_.")  # the server's own, for this request alone
            assert request.sender == "alice"
            await cloud.publish(request.reply_to, b'{"ok": true}')
            assert (await asking).body == b'{"ok": true}'
    assert violations(server) == []


@pytest.mark.parametrize("scheme", ["mqtt", "nats"])
async def test_a_user_reads_no_other_users_replies(broker: Start, scheme: str) -> None:
    server = await broker()
    async with connected(server, "bob", scheme) as bob:
        for pattern in ("reply/alice/+", "reply/+/+", "reply/#", "reply/alice/1"):
            with pytest.raises(Refused):
                async with bob.subscribe(pattern):
                    pass
            subject = pattern.replace("/", ".").replace("+", "*").replace("#", ">")
            assert violations(server, "Subscription Violation", f'"heliograph.{subject}"'), pattern
        if isinstance(bob, NatsBus):
            for inbox in (f"{inbox_of('alice')}.>", "_INBOX.>", "_INBOX.*", f"{inbox_of('edge-1')}.>"):
                await bob.connection.client.subscribe(inbox)
                await bob.connection.settle()
                assert violations(server, "bob", f'Subscription Violation - Subject "{inbox}"'), inbox


async def test_an_operator_uses_jetstream_by_an_inbox_of_its_own(broker: Start) -> None:
    server = await broker()
    async with coordinator(server) as cloud, connected(server, "operator") as operator:
        await cloud.publish(TASK.at(edge="edge-1"), b"of one")
        async with operator.consume(TASK.filter()) as tasks:
            assert (await following(tasks)).body == b"of one"
        assert isinstance(operator, NatsBus)
        await operator.connection.client.subscribe(f"{inbox_of('alice')}.>")
        await operator.connection.settle()
    assert len(violations(server)) == len(violations(server, f'"{inbox_of("alice")}.>"')) == 1


@pytest.mark.parametrize("root", [DEFAULT_ROOT, "tenants/a"])
@pytest.mark.parametrize("scheme", ["mqtt", "nats"])
async def test_an_operator_records_every_topic(broker: Start, scheme: str, root: str) -> None:
    server = await broker(root=root)
    async with coordinator(server, root) as cloud, connected(server, "operator", scheme, root=root) as operator:
        async with operator.subscribe("#") as messages:
            await cloud.publish("edge/cloud/up/log/coordinator/info", b"{}")
            assert (await following(messages)).topic == "edge/cloud/up/log/coordinator/info"
    assert violations(server) == []


@pytest.mark.parametrize("scheme", ["mqtt", "nats"])
async def test_anonymous_reads_status_and_nothing_else(broker: Start, scheme: str) -> None:
    server = await broker()
    patterns = ["#", "event/#", "edge/#", "edge/edge-1/down/task", "request/#", "edge/+/up/log/#", "+/jobs/+",
                "reply/me/+", "reply/#"]  # fmt: skip
    async with connected(server, scheme=scheme) as stranger, connected(server, "coordinator", "mqtt") as door:
        for pattern in patterns:
            with pytest.raises(Refused) as refused:
                async with stranger.subscribe(pattern):
                    pass
            assert (refused.value.code, refused.value.topic) == ("forbidden", pattern)
        async with stranger.subscribe("status/#") as statuses:
            await door.publish("status/jobs/one", b"Running", retain=True)
            assert (await following(statuses)).body == b"Running"
    assert len(violations(server, "Subscription Violation")) >= len(patterns)


@pytest.mark.parametrize("scheme", ["mqtt", "nats"])
async def test_a_refused_subscription_does_not_end_the_next_connection(broker: Start, scheme: str) -> None:
    server = await broker()
    async with connected(server, scheme=scheme) as stranger, stranger.subscribe("status/#") as statuses:
        with pytest.raises(Refused):
            async with stranger.subscribe("status/+/+", "event/#"):
                pass
        await server.kill()
        await stranger.link.wait_down()
        await server.start()
        await stranger.link.wait_up(PATIENCE)
        async with connected(server, "coordinator", "mqtt") as door:
            await door.publish("status/jobs/one", b"Running", retain=True)
            assert (await following(statuses)).body == b"Running"
        assert len(violations(server, "heliograph.event.>")) == 1


async def test_a_wrong_password_is_let_in_nowhere(broker: Start) -> None:
    server = await broker()
    token = server.password("alice")
    guesses = ["guessed", "", token[:-8], token[:-9] + ("A" if token[-9] != "A" else "B") + token[-8:],
               token.partition(".")[0]]  # fmt: skip
    for place in (f"nats://{{}}@{server.host}:{server.port}", f"mqtt://{{}}@{server.host}:{server.mqtt_port}"):
        for login in [*(f"alice:{guess}" for guess in guesses), "coordinator:guessed", "anonymous:x"]:
            async with connect(place.format(login)) as bus:
                await until_refused(bus)
    assert "authentication error" in (server.directory / "nats.log").read_text()


async def test_logins_work_while_nobody_decides_about_clients_without_one(tmp_path: Path) -> None:
    """Only who comes without a token waits for the coordinator's decision."""
    server = Broker(tmp_path / "broker", "cloud", USERS)
    await server.start()
    try:
        for user, scheme in (("alice", "mqtt"), ("alice", "nats"), ("agent-edge-1", "nats"), ("coordinator", "mqtt")):
            async with connected(server, user, scheme):
                pass
        async with connect(server.url(scheme="mqtt")) as stranger:
            with pytest.raises(HeliographError):
                await stranger.link.wait_up(1)
    finally:
        await server.kill()


@pytest.mark.parametrize("root", ["tenant-a", "tenants/a"])
async def test_another_root_has_the_same_rights(broker: Start, root: str, tmp_path: Path) -> None:
    server = await broker(root=root)
    source = tmp_path / "source"
    source.write_bytes(b"weights")
    ref = WeightsRef(digest=hashlib.sha256(b"weights").hexdigest(), size=7)
    async with coordinator(server, root) as cloud, agent(server, "edge-1", root) as edge:
        await cloud.publish(TASK.at(edge="edge-1"), b"of one")
        kept = await edge.last(TASK.at(edge="edge-1"))
        assert kept is not None
        assert kept.body == b"of one"
        async with cloud.subscribe("edge/+/up/report") as reports:
            await try_to_publish(edge, "edge/edge-1/up/report")
            assert (await following(reports)).topic == "edge/edge-1/up/report"
        await (await cloud.blobs("models")).put(source, ref)
        async with answering(cloud, edge, {ref.digest: source}) as (to_edge, to_cloud):
            assert (await to_edge.fetch(ref, tmp_path / "model")).read_bytes() == b"weights"
            assert (await to_cloud.fetch(ref, tmp_path / "update")).read_bytes() == b"weights"
        async with connected(server, "alice", "mqtt", root=root) as alice, cloud.subscribe("request/#") as requests:
            await alice.publish(MARKER, b"{}")
            assert (await following(requests)).topic == MARKER
    assert violations(server) == []


async def test_on_a_node_any_device_publishes_telemetry_and_no_task_or_result(broker: Start) -> None:
    server = await broker("node")
    async with connected(server, "agent-edge-1", "mqtt") as gateway, connected(server, scheme="mqtt") as device:
        async with gateway.subscribe("#") as messages:
            forbidden = ("edge/edge-1/up/model-update/j", "event/worker/w", "event/assignment/w", "ack/w", MARKER)
            for topic in forbidden:
                await try_to_publish(device, topic)
            await device.publish("event/telemetry/edge-1/camera", b"frame")
            assert (await following(messages)).body == b"frame"
            for topic in forbidden:
                assert violations(server, topic.replace("/", ".")), topic
